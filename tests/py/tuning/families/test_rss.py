"""RSS: tables that ethtool can write are set and come back, others are left alone; keys."""

from __future__ import annotations

from pathlib import Path

import pytest
from fakehost import FakeHost, WriteProfile, snapshot
from faketools import load, save

from iolab.errors import IolabError
from iolab.tuning import bench
from iolab.tuning.knob import Outcome
from iolab.tuning.scene import Scene

BLOCKS = [0] * 12 + [2] * 4
"""Queue 0 gets three quarters, queue 2 the rest."""


@pytest.mark.parametrize(
    ("wanted", "table"),
    [
        ("2", [0, 1] * 8),
        ('"2-3"', [2, 3] * 8),
        ('"1"', [1] * 16),
        ('"0,2"', [0] * 8 + [2] * 8),
        ("[3, 0, 1]", BLOCKS),
        ("[1, 1, 1]", [0] * 5 + [1] * 5 + [2] * 6),
        ("[30, 0, 10, 0]", BLOCKS),
    ],
)
@pytest.mark.parametrize("before", [[0, 1, 2, 3] * 4, BLOCKS, [1, 2, 3] * 5 + [1]])
def test_a_table_is_set_and_comes_back(
    machine: Path,
    host: FakeHost,
    scene: Scene,
    write_profile: WriteProfile,
    wanted: str,
    table: list[int],
    before: list[int],
) -> None:
    save(machine, {**load(machine), "indirection": before})
    applied = bench.apply(write_profile(f"[nic.rss]\nindirection = {wanted}"), scene)
    assert applied.ok, applied.results
    assert load(machine)["indirection"] == table
    assert all(one.good for one in bench.verify(host))
    assert [one for one in bench.revert(host) if one.problem] == []
    assert load(machine)["indirection"] == before


@pytest.mark.parametrize("knob", ["[nic.rss]\nindirection = 2", "[nic]\nchannels = 2"])
def test_a_table_that_ethtool_cannot_write_is_in_the_way(
    machine: Path, host: FakeHost, scene: Scene, write_profile: WriteProfile, knob: str
) -> None:
    save(machine, {**load(machine), "indirection": [0, 3, 1, 0] * 4})
    with pytest.raises(IolabError, match="mixes queues in a way"):
        bench.apply(write_profile(knob), scene)
    assert host.changes == 0


def test_channels_that_are_there_reset_no_table(
    machine: Path, host: FakeHost, scene: Scene, write_profile: WriteProfile
) -> None:
    save(machine, {**load(machine), "indirection": [0, 3, 1, 0] * 4})
    assert bench.apply(write_profile('[nic]\nchannels = "max"'), scene).ok
    assert host.changes == 0


def test_a_table_that_a_change_of_channels_reset_comes_back(
    machine: Path, host: FakeHost, scene: Scene, write_profile: WriteProfile
) -> None:
    save(machine, {**load(machine), "indirection": BLOCKS})
    before = snapshot(machine)
    assert bench.apply(write_profile("[nic]\nchannels = 2"), scene).ok
    assert load(machine)["indirection"] == [0, 1] * 8
    assert [one for one in bench.revert(host) if one.problem] == []
    assert snapshot(machine) == before


def test_affinities_that_a_change_of_rings_reset_come_back(
    machine: Path, host: FakeHost, scene: Scene, write_profile: WriteProfile
) -> None:
    before = snapshot(machine)
    assert bench.apply(write_profile("[nic]\nrx_ring = 512"), scene).ok
    assert (machine / "proc/irq/41/smp_affinity_list").read_text() == "0-3\n"
    assert [one for one in bench.revert(host) if one.problem] == []
    assert snapshot(machine) == before


@pytest.mark.parametrize("wanted", ["0", "[]", "[0, 0]", "[1, -1]", '"some"', "true"])
def test_what_is_no_table_is_said(write_profile: WriteProfile, wanted: str) -> None:
    with pytest.raises(IolabError, match=r"nic\.rss\.indirection: .*weights such as \[3, 1\]"):
        write_profile(f"[nic.rss]\nindirection = {wanted}")


def test_a_hash_key_of_the_wrong_length_is_refused(
    machine: Path, scene: Scene, write_profile: WriteProfile
) -> None:
    before = snapshot(machine)
    applied = bench.apply(write_profile('[nic.rss]\nhash_key = "01:02"'), scene)
    assert applied.results[0].outcome is Outcome.REFUSED
    assert "Invalid hkey length" in applied.results[0].reason
    assert snapshot(machine) == before
