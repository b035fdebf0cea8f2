"""What a run would measure, and how long a block of it takes at least: `run --dry-run`. Pure."""

from __future__ import annotations

import math
from typing import Any

from iolab.control import with_control
from iolab.model import NO_PROFILE, WITHOUT, Plan
from iolab.units import format_duration


def least_block_s(plan: Plan) -> float:
    """Seconds of the slices of one block, one for each cell that this machine can run.

    What profiles add, which are applied, verified, settled and reverted in each block, is known
    only from a block.
    """
    able = [cell for cell in plan.cells if cell.server.unsupported is None]
    return len(able) * (plan.warmup_ms + plan.slice_ms) / 1000


def most_blocks(plan: Plan) -> int:
    """Blocks that the budget holds when each takes no longer than its slices."""
    block_s = least_block_s(plan)
    return min(plan.max_blocks, max(1, math.floor(plan.budget_s / block_s))) if block_s else 0


def to_json(plan: Plan) -> dict[str, Any]:
    """The forecast as data, the cells of the A/A pairs among the others."""
    plan = with_control(plan)
    return {
        "schema_version": 1,
        "matrix": plan.name,
        "cells": [cell.id for cell in plan.cells],
        "least_block_s": round(least_block_s(plan), 3),
        "budget_s": plan.budget_s,
        "min_blocks": plan.min_blocks,
        "most_blocks": most_blocks(plan),
        "precision": plan.precision,
        "left_out": list(plan.left_out),
    }


def lines(plan: Plan) -> list[str]:
    """The forecast in words, without the list of cells."""
    plan = with_control(plan)
    twins = sum(cell.server.twin for cell in plan.cells)
    servers = sum(not server.twin for server in plan.servers)
    parts = [_count(servers, "server"), _count(len(plan.workloads), "workload")]
    parts += _conditions(plan)
    block_s, most = least_block_s(plan), _count(most_blocks(plan), "block")
    return [
        f"{plan.name}: {plan.summary}",
        f"{len(plan.cells)} cells: {', '.join(parts)}; {twins} of the cells are A/A twins",
        f"a block takes {format_duration(block_s)} of slices at least"
        + (", and what it takes to switch between profiles" if plan.baseline_profile else ""),
        f"stops after {format_duration(plan.budget_s)}, {most} at most"
        + (f", or once every ratio is within +-{plan.precision:.1%}" if plan.precision else ""),
        *(f"left out: {note}" for note in plan.left_out),
    ]


def _conditions(plan: Plan) -> list[str]:
    """Profiles, steps of ablations and testbeds, where there is more than the one default."""
    profiles = {condition.profile for condition in plan.conditions}
    steps = {name for name in profiles if WITHOUT in name}
    beds = dict.fromkeys(condition.testbed for condition in plan.conditions)
    words = [f"testbed {' and '.join(beds)}"]
    if profiles != {NO_PROFILE}:
        words.append(_count(len(profiles - steps), "profile"))
    return [*words, _count(len(steps), "step of ablations")] if steps else words


def _count(nr: int, what: str) -> str:
    """`1 server`, `2 steps of ablations`."""
    first, blank, rest = what.partition(" ")
    return f"{nr} {first}{'' if nr == 1 else 's'}{blank}{rest}"
