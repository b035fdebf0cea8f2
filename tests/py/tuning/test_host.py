"""The host as knobs see it: its tools."""

from __future__ import annotations

from pathlib import Path

import pytest

from iolab.executor import HostExecutor
from iolab.tuning.host import Host


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
