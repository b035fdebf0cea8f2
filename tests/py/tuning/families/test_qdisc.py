"""Queueing disciplines: at the root, below mq, and made by hand."""

from __future__ import annotations

from pathlib import Path

import pytest
from fakehost import FakeHost, WriteProfile, snapshot
from faketools import load, save

from iolab.errors import IolabError
from iolab.tuning import bench
from iolab.tuning.scene import Scene


def test_fq_as_root_replaces_mq_and_mq_fq_keeps_it(
    machine: Path, host: FakeHost, scene: Scene, write_profile: WriteProfile
) -> None:
    before = snapshot(machine)
    bench.apply(write_profile('[nic]\nqdisc = "fq"'), scene)
    assert load(machine)["root"] == "fq"
    bench.revert(host)
    assert snapshot(machine) == before
    bench.apply(write_profile('[nic]\nqdisc = "mq/fq"'), scene)
    assert load(machine)["leaves"] == ["fq"] * 4
    bench.revert(host)
    assert snapshot(machine) == before


def test_a_root_made_by_hand_is_not_touched(
    machine: Path, host: FakeHost, scene: Scene, write_profile: WriteProfile
) -> None:
    save(machine, {**load(machine), "root": "htb", "handle": "1:"})
    with pytest.raises(IolabError, match="set by hand"):
        bench.apply(write_profile('[nic]\nqdisc = "fq"'), scene)
