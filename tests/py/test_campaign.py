"""What the command line replaces of a matrix."""

from __future__ import annotations

from iolab.campaign import override
from iolab.model import Cell, Plan, Server, Workload

PLAN = Plan(
    "p", "", "a", (Cell(Server("engine", "a"), Workload("w", 1, 1)),), budget_s=3600.0,
    min_blocks=20, max_blocks=400, precision=0.03,
)  # fmt: skip


def test_nothing_asked_for_replaces_nothing() -> None:
    assert override(PLAN, None, None) == PLAN


def test_a_budget_that_is_asked_for_waits_for_no_number_of_blocks() -> None:
    asked = override(PLAN, 7, 40.0)
    assert (asked.budget_s, asked.seed, asked.precision) == (40.0, 7, 0.03)
    assert asked.min_blocks == 1
    assert asked.max_blocks > 100_000


def test_a_precision_that_is_asked_for_keeps_budget_and_least_number() -> None:
    asked = override(PLAN, None, None, 0.01)
    assert (asked.precision, asked.budget_s, asked.min_blocks) == (0.01, 3600.0, 20)
    assert asked.max_blocks > 100_000
