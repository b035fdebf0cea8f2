"""Which leading blocks of a run are warm-up."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from iolab import bystanders
from iolab.model import Plan, Sample
from iolab.stats.slices import unit_rate, usable


def warmup_blocks(samples: Iterable[Sample], plan: Plan) -> int:
    """How many leading blocks are warm-up and take no part in the statistics.

    A block is warm-up while the median over cells of log(rate here / median rate of the later
    blocks) lies outside +-max(10%, 3 median absolute deviations of the later blocks' medians):
    all cells fast or slow together at the start and not afterwards. At most a quarter of the
    blocks is given up. Ratios within a block hardly mind warm-up; this guards the rates.
    """
    sizes = {cell.id: cell.workload.unit_bytes for cell in plan.cells}
    rates: dict[str, dict[int, float]] = {}
    for sample in samples:
        rate = _sample_rate(sample, sizes)
        if rate:
            rates.setdefault(sample.cell, {})[sample.block] = math.log(rate)
    blocks = sorted({block for series in rates.values() for block in series})
    skipped = 0
    while skipped < len(blocks) // 4:
        later = blocks[skipped + 1 :]
        levels = {block: _median_shift(rates, block, later) for block in blocks[skipped:]}
        spread = float(np.median([abs(levels[block]) for block in later]))
        if abs(levels[blocks[skipped]]) <= max(math.log(1.1), 3 * spread):
            break
        skipped += 1
    return skipped


def _median_shift(rates: dict[str, dict[int, float]], block: int, later: list[int]) -> float:
    """Median over cells of this block's log rate minus the cell's median over `later`."""
    shifts = []
    for series in rates.values():
        others = [series[b] for b in later if b in series]
        if block in series and others:
            shifts.append(series[block] - float(np.median(others)))
    return float(np.median(shifts)) if shifts else 0.0


def _sample_rate(sample: Sample, sizes: Mapping[str, int]) -> float:
    """The rate of a usable slice, 0 when it has none."""
    if sample.load is None or sample.cell not in sizes or not usable(sample):
        return 0.0
    return unit_rate(sample.load, sizes[sample.cell])


def counted_samples(plan: Plan, samples: Sequence[Sample]) -> list[Sample]:
    """The samples without those that take no part: of warm-up blocks, and disturbed ones."""
    blocks = set(sorted({sample.block for sample in samples})[warmup_blocks(samples, plan) :])
    return [s for s in samples if s.block in blocks and not bystanders.disturbed(s)]
