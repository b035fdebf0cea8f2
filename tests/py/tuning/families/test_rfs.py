"""Receive flow steering: the counts of the queues and the table of the host."""

from __future__ import annotations

from pathlib import Path

from fakehost import FakeHost, WriteProfile

from iolab.tuning import bench
from iolab.tuning.knob import Outcome
from iolab.tuning.scene import Scene


def test_flow_counts_are_inert_without_the_global_table(
    machine: Path, host: FakeHost, scene: Scene, write_profile: WriteProfile
) -> None:
    applied = bench.apply(write_profile("[steering]\nrfs_entries = 4096"), scene)
    assert {one.effective for one in applied.results} == {"4096", "1024"}
    (machine / "proc/sys/net/core/rps_sock_flow_entries").write_text("0\n")
    found = bench.verify(host)
    assert found[0].outcome is Outcome.IGNORED
    assert all("inert" in one.reason for one in found[1:])
