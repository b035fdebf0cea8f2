"""The verdicts of `zerocopy-check`, by the real binary on loopback and over a pair of veth."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from iolab.commands.zerocopy_check import read_answer, zerocopy_check
from iolab.errors import IolabError
from iolab.paths import find_house

HERE, THERE = "198.18.77.1", "198.18.77.2"


@pytest.fixture
def binary() -> Path:
    """The built checker."""
    found = find_house().zerocopy_binary
    if not found.exists():
        pytest.skip(f"{found} is not built: ./iolab test builds it")
    return found


def methods(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """By name."""
    return {one["method"]: one for one in document["methods"]}


def copied(one: dict[str, Any], nr: int) -> bool:
    """Every send of the method was notified, as copied."""
    counts = (one["sent"], one["notified"], one["copied"])
    return counts == (nr, nr, nr) and one["verdict"] == "copied"


def test_loopback_copies_both_methods(binary: Path) -> None:
    result = CliRunner().invoke(zerocopy_check, ["--json", "--sends", "300"])
    document = json.loads(result.stdout)
    found = methods(document)
    assert (result.exit_code, document["interface"]) == (0, "lo")
    assert set(found) == {"MSG_ZEROCOPY", "SEND_ZC"}
    assert all(copied(one, 300) for one in found.values()), found
    assert all(one["reason"].startswith("loopback: ") for one in found.values())


def test_the_table_never_says_that_loopback_was_not_copied(binary: Path) -> None:
    result = CliRunner().invoke(zerocopy_check, ["--sends", "20"])
    assert result.exit_code == 0
    assert "not copied" not in result.stdout
    assert result.stdout.count(" copied ") >= 3  # the heading and two verdicts


def test_an_interface_without_a_sink_is_refused(binary: Path) -> None:
    result = CliRunner().invoke(zerocopy_check, ["--interface", "lo"])
    assert result.exit_code == 2
    assert "--connect" in result.output


def test_nobody_listens(binary: Path) -> None:
    done = subprocess.run(
        [binary, "--json", "--connect", "127.0.0.1:1"], capture_output=True, text=True, check=False
    )
    found = methods(json.loads(done.stdout))
    assert done.returncode == 1
    assert all(one["verdict"] == "failed" for one in found.values())
    assert all(one["reason"] == "connect: Connection refused" for one in found.values())


@pytest.mark.parametrize("argument", ["--sends=0", "--bytes=-1", "--connect=nonsense"])
def test_bad_arguments_are_usage_errors(binary: Path, argument: str) -> None:
    done = subprocess.run([binary, argument], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr


def test_no_answer_is_an_error() -> None:
    with pytest.raises(IolabError, match="killed"):
        read_answer("", "killed\n")


def ip(*words: str) -> None:
    """ip(8)."""
    subprocess.run(["ip", *words], check=True, capture_output=True)


@contextmanager
def veth() -> Iterator[tuple[str, str]]:
    """A pair of veth between two namespaces of its own; their names."""
    names = (f"zc{os.getpid()}a", f"zc{os.getpid()}b")
    made: list[str] = []
    try:
        for name in names:
            ip("netns", "add", name)
            made.append(name)
        ip("-n", names[0], "link", "add", "v0", "type", "veth", "peer", "v1", "netns", names[1])
        for name, device, address in ((names[0], "v0", HERE), (names[1], "v1", THERE)):
            ip("-n", name, "address", "add", f"{address}/24", "dev", device)
            ip("-n", name, "link", "set", device, "up")
        yield names
    finally:
        for name in made:
            ip("netns", "delete", name)


@pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root")
def test_veth_copies_both_methods(binary: Path) -> None:
    with veth() as (here, there):
        argv = ["ip", "netns", "exec", there, str(binary), "--sink", f"{THERE}:0"]
        with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as sink:
            try:
                assert sink.stdout is not None
                port = sink.stdout.readline().split()[-1]
                argv = ["ip", "netns", "exec", here, str(binary), "--json", "--sends", "300"]
                argv += ["--interface", "v0", "--connect", f"{THERE}:{port}"]
                done = subprocess.run(argv, capture_output=True, text=True, check=True)
            finally:
                sink.terminate()
    document = json.loads(done.stdout)
    assert (document["interface"], document["driver"]) == ("v0", "veth")
    for one in document["methods"]:
        assert copied(one, 300), one
        assert one["reason"].startswith("veth: ")
