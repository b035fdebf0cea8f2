"""What `run --dry-run` says of a plan."""

from __future__ import annotations

from dataclasses import replace

import pytest

from iolab.forecast import least_block_s, lines, most_blocks, to_json
from iolab.model import Cell, Plan, Server, Workload

SERVERS = (Server("engine", "a"), Server("engine", "b"), Server("engine", "c", unsupported="no"))
LOADS = (Workload("w", 1, 1), Workload("v", 2, 1))
PROFILES = ("base", "fast", "fast~x.y")
PLAN = Plan(
    "p", "s", "a",
    tuple(Cell(s, w, f, "netns") for f in PROFILES for w in LOADS for s in SERVERS),
    testbed="netns", baseline_profile="base", slice_ms=200, warmup_ms=50, budget_s=60.0,
    precision=0.03, left_out=("c: no",),
)  # fmt: skip


def test_a_block_takes_a_slice_of_every_cell_that_can_run() -> None:
    assert least_block_s(PLAN) == pytest.approx(12 * 0.25)
    assert most_blocks(PLAN) == 20
    assert most_blocks(replace(PLAN, max_blocks=7)) == 7
    assert most_blocks(replace(PLAN, budget_s=1.0)) == 1  # the first is measured in any case
    assert most_blocks(replace(PLAN, cells=PLAN.cells[2:3])) == 0


def test_the_twins_of_the_run_are_counted() -> None:
    document = to_json(PLAN)
    assert len(document["cells"]) == 18 + 4
    assert "a#2@w@base@netns" in document["cells"]
    assert document["least_block_s"] == 4.0
    assert (document["most_blocks"], document["precision"]) == (15, 0.03)


def test_the_words_say_what_the_matrix_crosses() -> None:
    said = "\n".join(lines(PLAN))
    assert "22 cells: 3 servers, 2 workloads, testbed netns, 2 profiles, 1 step of abl" in said
    assert "4 of the cells are A/A twins" in said
    assert "switch between profiles" in said
    assert "15 blocks at most, or once every ratio is within +-3.0%" in said
    assert said.endswith("left out: c: no")
    plain = replace(PLAN, cells=(Cell(SERVERS[0], LOADS[0]),), baseline_profile=None)
    assert "testbed loopback; 1 of" in "\n".join(lines(plain))
    assert "profiles" not in "\n".join(lines(plain))
