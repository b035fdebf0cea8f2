from __future__ import annotations

import pytest
from madeup import sound_slice

from iolab.ablation import steps
from iolab.model import Cell, Plan, Sample, Server, Status, Workload

LOAD = Workload("w", 100, 2)
RATES = {"base": 1.0, "fast": 1.5, "fast~a.carries": 1.0, "fast~b.idle": 1.5}


def plan() -> Plan:
    cells = tuple(
        Cell(Server("engine", name), LOAD, profile, "netns")
        for profile in (*RATES, "fast~c.missing")
        for name in ("x", "y")
    )
    return Plan("p", "", "x", cells, baseline_profile="base", testbed="netns")


def sample(cell: Cell, block: int) -> Sample:
    if cell.profile not in RATES:
        reason = "c.missing changes nothing here"
        return Sample(block, -1, cell.id, Status.UNSUPPORTED, reason, 0, 0)
    noise = 1 + 0.01 * ((block * 7 + len(cell.profile)) % 5)
    size = int(1e6 * RATES[cell.profile] * noise)
    return sound_slice(block, cell.id, size)


def samples(nr_blocks: int = 20) -> list[Sample]:
    return [sample(cell, block) for block in range(nr_blocks) for cell in plan().cells]


def test_the_knob_that_carries_the_effect_is_found_and_no_other() -> None:
    found = {(one.server, one.knob): one for one in steps(plan(), samples())}
    assert len(found) == 6
    for server in ("x", "y"):
        carrier, idle = found[server, "a.carries"], found[server, "b.idle"]
        assert carrier.carries
        assert carrier.ratio is not None
        assert carrier.ratio.ratio == pytest.approx(1.5, abs=0.05)
        assert not idle.carries
        assert carrier.place == ("fast", server, "w", "netns")


def test_p_values_are_corrected_over_the_steps_of_a_profile() -> None:
    found = [one for one in steps(plan(), samples()) if one.server == "x" and one.ratio]
    for one in found:
        assert one.adjusted_p is not None
        assert one.ratio is not None
        assert one.adjusted_p >= one.ratio.p_value
    least = min(found, key=lambda one: one.ratio.p_value if one.ratio else 1.0)
    assert least.ratio is not None
    assert least.adjusted_p == pytest.approx(2 * least.ratio.p_value)  # of two with a number


def test_a_knob_without_a_number_says_why() -> None:
    found = [one for one in steps(plan(), samples()) if one.knob == "c.missing"]
    assert [one.reason for one in found] == ["unsupported: c.missing changes nothing here"] * 2
    assert not any(one.carries for one in found)
    assert all(one.reason for one in steps(plan(), []))
