"""Governors, and the energy preference that one of them moves."""

from __future__ import annotations

from pathlib import Path

from fakehost import FakeHost, Rule, WriteProfile, snapshot
from faketools import put

from iolab.tuning import bench
from iolab.tuning.scene import Scene

POLICY = "sys/devices/system/cpu/cpufreq/policy{}/{}"


def test_an_energy_preference_that_a_governor_moved_comes_back(
    machine: Path, host: FakeHost, scene: Scene, write_profile: WriteProfile
) -> None:
    """As amd-pstate does it: `performance` takes the preference along, the way back does not."""

    def moving(preference: str) -> Rule:
        def rule(old: str, new: str) -> str:
            if new == "performance":
                put(machine, preference, "performance")
            return new

        return rule

    for number in range(4):
        preference = POLICY.format(number, "energy_performance_preference")
        host.rules[POLICY.format(number, "scaling_governor")] = moving(preference)
    before = snapshot(machine)
    assert bench.apply(write_profile('[cpu]\ngovernor = "performance"'), scene).ok
    moved = machine / POLICY.format(3, "energy_performance_preference")
    assert moved.read_text() == "performance\n"
    assert [one for one in bench.revert(host) if one.problem] == []
    assert snapshot(machine) == before
