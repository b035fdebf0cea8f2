"""A network namespace of the test's own on the real kernel, with a multi-queue veth pair."""

from __future__ import annotations

import contextlib
import ctypes
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fakehost import in_child

_CLONE_NEWNET = 0x40000000


def ip(*args: str) -> subprocess.CompletedProcess[str]:
    """Runs ip(8)."""
    return subprocess.run(["ip", *args], capture_output=True, text=True, check=False)


@contextlib.contextmanager
def namespace(suffix: str = "") -> Iterator[str]:
    """A namespace with the pair v0, v1 of two queues each; skips where there can be none."""
    if os.geteuid() != 0:
        pytest.skip("making network namespaces needs root")
    name = f"iolab-test-tune-{os.getpid()}{suffix}"
    queues = ("numtxqueues", "2", "numrxqueues", "2")
    try:
        for command in (
            ("netns", "add", name),
            ("-n", name, "link", "add", "v0", *queues, "type", "veth", "peer", "v1", *queues),
            ("-n", name, "link", "set", "v0", "up"),
            ("-n", name, "link", "set", "v1", "up"),
        ):
            done = ip(*command)
            if done.returncode != 0:
                pytest.skip(f"ip {' '.join(command)}: {done.stderr.strip()}")
        yield name
    finally:
        ip("netns", "del", name)


def inside(netns: str, work: Callable[[], object]) -> None:
    """Runs `work` in a child that lives in the namespace, as under `ip netns exec`."""

    def enter() -> None:
        with Path("/run/netns", netns).open("rb") as handle:
            assert ctypes.CDLL(None).setns(handle.fileno(), _CLONE_NEWNET) == 0
        work()

    assert os.waitstatus_to_exitcode(in_child(enter)) == 0
