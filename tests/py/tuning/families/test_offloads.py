"""Offloads that stand for a group of features."""

from __future__ import annotations

from pathlib import Path

from fakehost import FakeHost, WriteProfile, snapshot
from faketools import load, save

from iolab.tuning import bench
from iolab.tuning.scene import Scene


def test_a_group_of_offloads_comes_back_member_by_member(
    machine: Path, host: FakeHost, scene: Scene, write_profile: WriteProfile
) -> None:
    before = snapshot(machine)
    assert bench.apply(write_profile("[nic.offloads]\ntso = false"), scene).ok
    features = load(machine)["features"]
    assert "on" not in {value for name, value in features.items() if name.startswith("tx-tcp")}
    bench.revert(host)
    assert snapshot(machine) == before


def test_a_group_that_is_on_in_part_is_switched_on_whole(
    machine: Path, scene: Scene, write_profile: WriteProfile
) -> None:
    state = load(machine)
    state["features"]["tx-tcp6-segmentation"] = "off"
    save(machine, state)
    applied = bench.apply(write_profile("[nic.offloads]\ntso = true"), scene)
    assert applied.ok
    features = load(machine)["features"]
    assert features["tx-tcp6-segmentation"] == "on"
    assert features["tx-tcp-mangleid-segmentation"] == "off"  # only its own name asks for it
