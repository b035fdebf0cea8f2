"""Start: a worker that cannot start, and a signal that comes before the server is ready.

A limit of the process decides who fails, so nothing here depends on the engine or on time.
"""

from __future__ import annotations

import os
import resource
import signal
import subprocess
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from client import DEADLINE_S, Sanitizer, running, sanitizer_env

WORKERS = ("--workers", "2")
# What a worker says that has its thread, but not what its engine needs.
NOT_UP = "cannot start"


def start(
    binary: Path, name: str, root: Path, before_exec: Callable[[], None]
) -> subprocess.CompletedProcess[str]:
    """Runs a server of two workers to its end; one that does not end fails the test."""
    argv = [str(binary), "--engine", name, "--role", "file", "--root", str(root)]
    argv += ["--listen", "127.0.0.1:0", *WORKERS]
    # The limits are the server's alone, so they are set between fork and exec.
    with subprocess.Popen(
        argv,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=sanitizer_env(),
        preexec_fn=before_exec,
    ) as proc:
        try:
            out, err = proc.communicate(timeout=DEADLINE_S)
        except subprocess.TimeoutExpired:
            proc.kill()
            pytest.fail(f"did not end: {' '.join(argv)}: {proc.communicate()}")
    assert "Sanitizer" not in err, err
    return subprocess.CompletedProcess(argv, proc.returncode, out, err)


def limit(number: int, value: int) -> None:
    """Sets a soft and hard limit of this process. Raises ValueError above the hard one."""
    resource.setrlimit(number, (value, value))


def leave_pending(number: int) -> None:
    """Blocks a signal and raises it. Both outlive execve (POSIX), so it comes before main."""
    signal.pthread_sigmask(signal.SIG_BLOCK, [number])
    os.kill(os.getpid(), number)


def descriptors_needed(binary: Path, name: str, root: Path) -> int:
    """How many a ready server of two workers has open, its control socket apart."""
    with running(binary, name, root, *WORKERS) as server:
        return server.nr_descriptors() - 1


@pytest.mark.parametrize("terminated", [False, True], ids=["left alone", "terminated"])
def test_a_worker_that_lacks_a_descriptor(
    binary: Path, name: str, root: Path, terminated: bool
) -> None:
    def before_exec(nr_descriptors: int) -> None:
        limit(resource.RLIMIT_NOFILE, nr_descriptors)
        if terminated:
            leave_pending(signal.SIGTERM)

    nr_not_up = []
    for nr in range(descriptors_needed(binary, name, root) - 1, 3, -1):
        got = start(binary, name, root, partial(before_exec, nr))
        assert (got.returncode, got.stdout) == (1, ""), got
        assert "Too many open files" in got.stderr, got
        if NOT_UP not in got.stderr:
            break  # from here on the listeners are short of them, before there is a thread
        assert "ulimit -Hn" in got.stderr, "the message names no remedy"
        nr_not_up.append(got.stderr.count(NOT_UP))
    if not nr_not_up:
        pytest.skip(f"workers of {name} open no descriptor before they run")
    assert nr_not_up[0] == 1, "the other worker was to start"


def test_a_worker_that_gets_no_thread(
    binary: Path, name: str, root: Path, sanitizer: Sanitizer
) -> None:
    if sanitizer.active:
        pytest.skip("a sanitizer's shadow memory is larger than any limit of address space")
    stack = 1 << 30  # RLIMIT_STACK is glibc's size of a thread's stack, see pthread_create(3)
    space = stack + stack // 4 * 3  # one such stack fits, two do not
    hard = resource.getrlimit(resource.RLIMIT_STACK)[1]
    if hard != resource.RLIM_INFINITY and hard < stack:
        pytest.skip(f"needs stacks of {stack} bytes, the hard limit is {hard}")

    def before_exec() -> None:
        limit(resource.RLIMIT_STACK, stack)
        limit(resource.RLIMIT_AS, space)

    got = start(binary, name, root, before_exec)
    assert (got.returncode, got.stdout) == (1, ""), got
    assert "worker 1: no thread" in got.stderr, got
    assert NOT_UP not in got.stderr, "the other worker was to start"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_during_start(binary: Path, name: str, root: Path, number: int) -> None:
    got = start(binary, name, root, partial(leave_pending, number))
    assert got.returncode == 0, got
    assert got.stdout.startswith("ready "), got
    assert got.stderr == ""
