"""The checks of `doctor` on machines that do not exist: a directory imitates /proc and /sys."""

from __future__ import annotations

from dataclasses import replace

import pytest
from imitated import describe, put

from iolab.doctor import programs
from iolab.doctor.machine import Finding, Level, Machine, Peer


@pytest.mark.parametrize(
    ("kernel", "level"),
    [("4.19.0", "fail"), ("5.5", "fail"), ("5.6", "warn"), ("6.0.9", "warn"), ("6.1", "ok")],
)
def test_kernel_versions(machine: Machine, kernel: str, level: str) -> None:
    assert programs.check_kernel(replace(machine, kernel=kernel)).level == level


def test_engines_name_those_that_cannot_run(machine: Machine) -> None:
    finding = programs.check_engines(replace(machine, describe=describe(None, "no SEND_ZC")))
    assert finding.level is Level.WARN
    assert "1 of 2 usable; e1: no SEND_ZC" in finding.found


def test_no_usable_engine_is_a_failure(machine: Machine) -> None:
    assert programs.check_engines(replace(machine, describe=describe("no"))).level is Level.FAIL


def test_a_server_that_is_not_built_is_no_failure(machine: Machine) -> None:
    finding = programs.check_engines(replace(machine, describe=None))
    assert (finding.level, finding.found) == (Level.WARN, "not built")


@pytest.mark.parametrize(("switch", "level"), [("0", "ok"), ("1", "warn"), ("2", "warn")])
def test_io_uring_switch(machine: Machine, switch: str, level: str) -> None:
    put(machine, "proc/sys/kernel/io_uring_disabled", switch)
    assert programs.check_io_uring(machine).level == level


def test_missing_tools_are_named_with_their_packages(machine: Machine) -> None:
    absent = replace(machine, which=lambda tool: None if tool == "gnuplot" else "/bin/x")
    finding = programs.check_tools(absent)
    assert finding.found == "missing: gnuplot"
    assert finding.remedy.endswith(" gnuplot-nox")


def test_a_peer_shows_its_version_or_what_it_lacks() -> None:
    finding = programs.check_peer(Peer("haproxy", "HAProxy version 2.6.12", None, "fetch it"))
    assert finding == Finding("peer haproxy", Level.OK, "HAProxy version 2.6.12")
    finding = programs.check_peer(Peer("piping-server", None, "it needs node, not found", "get it"))
    assert finding == Finding(
        "peer piping-server", Level.WARN, "it needs node, not found", "get it"
    )
