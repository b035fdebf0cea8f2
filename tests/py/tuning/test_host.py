"""How a host is asked: by tools wherever they are, and once while nothing is written."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from iolab.executor import Completed, HostExecutor
from iolab.fake_executor import FakeExecutor
from iolab.tuning.host import Host
from iolab.tuning.knob import KnobError


def answer(argv: Sequence[str]) -> Completed:
    code = 1 if "-x" in argv else 0
    return Completed(tuple(argv), code, "words", "no table" if code else "")


@pytest.fixture
def executor() -> FakeExecutor:
    return FakeExecutor(run=answer)


@pytest.fixture
def host(executor: FakeExecutor, tmp_path: Path) -> Host:
    return Host(executor, tmp_path)


def test_a_question_is_asked_once_while_nothing_is_written(
    host: Host, executor: FakeExecutor
) -> None:
    with host.asking_once():
        for argv in (["ethtool", "-k", "eth0"], ["ethtool", "-k", "eth0"], ["ethtool", "-k", "e1"]):
            assert host.run(argv).stdout == "words"
        with host.asking_once():
            host.run(["ethtool", "-k", "eth0"])
        host.run(["ethtool", "-k", "eth0"])
        assert len(executor.ran) == 2
        host.run(["ethtool", "-k", "eth0"], "a-namespace")
        assert len(executor.ran) == 3
    for _ in range(2):
        host.run(["ethtool", "-k", "eth0"])
    assert len(executor.ran) == 5


def test_a_refusal_is_an_answer_too(host: Host, executor: FakeExecutor) -> None:
    with host.asking_once():
        for _ in range(2):
            with pytest.raises(KnobError, match="ethtool -x eth0: no table"):
                host.run(["ethtool", "-x", "eth0"])
    assert len(executor.ran) == 1


def test_an_error_inside_ends_it(host: Host, executor: FakeExecutor) -> None:
    def interrupted() -> None:
        with host.asking_once():
            host.run(["ethtool", "-k", "eth0"])
            raise KeyError

    with pytest.raises(KeyError):
        interrupted()
    host.run(["ethtool", "-k", "eth0"])
    assert len(executor.ran) == 2


def test_tools_of_administrators_are_found_without_their_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after plain `su`, which keeps the PATH of the user."""
    tool = tmp_path / "iolab-sometool"
    tool.write_text("#!/bin/sh\necho here $1\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    monkeypatch.setattr("iolab.tuning.host._SBIN", (str(tmp_path),))
    with HostExecutor() as executor:
        host = Host(executor, state=tmp_path / "state")
        assert host.has_tool("iolab-sometool")
        assert not host.has_tool("iolab-nosuchtool")
        assert host.run(["iolab-sometool", "x"]).stdout == "here x\n"
