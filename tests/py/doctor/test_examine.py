"""The checks of `doctor` on machines that do not exist: a directory imitates /proc and /sys."""

from __future__ import annotations

from pathlib import Path

from iolab.doctor import examine
from iolab.doctor.machine import Level, Machine, Peer
from iolab.paths import House


def test_a_good_machine_has_nothing_amiss(machine: Machine) -> None:
    findings = examine.examine(machine)
    assert [finding for finding in findings if finding.level is not Level.OK] == []
    assert len({finding.check for finding in findings}) == sum(
        map(len, (examine.CHECKS, machine.interfaces, machine.peers))
    )


def test_every_finding_that_is_not_ok_has_a_remedy(tmp_path: Path) -> None:
    nothing = Machine(
        root=tmp_path,
        house=House(root=tmp_path, build=tmp_path),
        kernel="5.4.0",
        affinity=frozenset({3}),
        memlock_bytes=65536,
        nofile_hard=100,
        free_disk_bytes=0,
        which=lambda tool: None,
        peers=(Peer("nginx", None, "no binary found", "fetch it"),),
    )
    bad = [finding for finding in examine.examine(nothing) if finding.level is not Level.OK]
    assert len(bad) >= 10
    assert all(finding.remedy for finding in bad)
    assert examine.worst(bad) is Level.FAIL
