"""Slices of one block -> log ratios: what is compared with what, and which cells have a number.

Within a block all servers of a workload are driven within a few seconds, so that the noise of the
machine is largely shared and cancels in log(rate of one / rate of the other).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

from iolab import bystanders
from iolab.model import Cell, Plan, Sample, Status
from iolab.stats.slices import unit_rate, usable
from iolab.stats.warmup import warmup_blocks

_STANDSTILL = 1e-3
"""The ratio for which a slice without a byte stands: a logarithm needs one above 0."""


def paired_logs(a: Mapping[int, float], b: Mapping[int, float]) -> list[float]:
    """log(a / b) of every block that both series have, in the order of blocks."""
    return [
        math.log(a[block] / b[block])
        for block in sorted(a.keys() & b.keys())
        if a[block] > 0 and b[block] > 0
    ]


def rate_logs(a: Mapping[int, float], b: Mapping[int, float]) -> list[float]:
    """`paired_logs` of rates, in which a slice without a byte counts as almost standing still.

    A server that stalls for a whole window must not be the better for it. Where both stood still
    there is nothing to compare.
    """
    return [
        math.log(max(a[block], b[block] * _STANDSTILL) / max(b[block], a[block] * _STANDSTILL))
        for block in sorted(a.keys() & b.keys())
        if a[block] > 0 or b[block] > 0
    ]


def cell_status(cell: Cell, samples: Iterable[Sample]) -> tuple[Status, str | None]:
    """The verdict on a cell: one slice that is not ok makes the cell so, never a number.

    Neither has it one when other servers worked in every one of its slices.
    """
    if cell.server.unsupported is not None:
        return Status.UNSUPPORTED, cell.server.unsupported
    found = list(samples)
    for sample in found:
        if sample.status is not Status.OK:
            return sample.status, sample.reason
    if not found:
        return Status.FAILED, "no slice was measured"
    if all(bystanders.disturbed(sample) for sample in found):
        return Status.INVALID, bystanders.account(found)
    return Status.OK, None


def cell_logs(
    plan: Plan, samples: Iterable[Sample], pairs: Iterable[tuple[Cell, Cell]]
) -> list[list[float]]:
    """The log ratios of the second cell to the first, for each pair, in the order of blocks.

    Empty where one of the two has no number. Blocks of warm-up are left out, as in summaries: one
    ratio of a cell, whoever asks.
    """
    mine: dict[str, list[Sample]] = {}
    found = list(samples)
    counted = set(sorted({sample.block for sample in found})[warmup_blocks(found, plan) :])
    for sample in found:
        if sample.block in counted or sample.status is not Status.OK:
            mine.setdefault(sample.cell, []).append(sample)
    rates: dict[str, dict[int, float]] = {}
    for cell in plan.cells:
        found = mine.get(cell.id, [])
        sound = cell_status(cell, found)[0] is Status.OK
        rates[cell.id] = _rates(found, cell.workload.unit_bytes) if sound else {}
    return [rate_logs(rates[new.id], rates[base.id]) for base, new in pairs]


def _rates(samples: Iterable[Sample], unit_bytes: int) -> dict[int, float]:
    """Units per second by block, of usable slices."""
    return {
        sample.block: unit_rate(sample.load, unit_bytes)
        for sample in samples
        if sample.load is not None and usable(sample)
    }


def against_reference(plan: Plan) -> list[tuple[Cell, Cell]]:
    """The comparisons of a plan: (reference, cell), in the plan's order.

    Twins and open loops are left out: chance alone sets the ones apart, nothing the others' rates.
    """
    pairs = []
    for (_, reference), cells in plan.groups().items():
        base = next((cell for cell in cells if plan.label(cell) == reference), None)
        if base is not None and not base.workload.open_loop:
            pairs += [(base, cell) for cell in cells if cell is not base and not cell.server.twin]
    return pairs
