"""Which leading blocks of a run are warm-up."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from iolab import bystanders
from iolab.model import Plan, Sample
from iolab.stats.dependence import Floats
from iolab.stats.slices import unit_rate, usable


def warmup_blocks(samples: Iterable[Sample], plan: Plan) -> int:
    """How many leading blocks are warm-up and take no part in the statistics.

    A block is warm-up while the median over cells of log(rate here / median rate of the later
    blocks) lies outside +-max(10%, 3 median absolute deviations of the later blocks' medians):
    all cells fast or slow together at the start and not afterwards. At most a quarter of the
    blocks is given up. Ratios within a block hardly mind warm-up; this guards the rates.
    """
    blocks, logs = _log_rates(samples, plan)
    skipped = 0
    while skipped < len(blocks) // 4:
        levels = _levels(logs[:, skipped:])
        spread = float(np.median(np.abs(levels[1:])))
        if abs(float(levels[0])) <= max(math.log(1.1), 3 * spread):
            break
        skipped += 1
    return skipped


def _log_rates(samples: Iterable[Sample], plan: Plan) -> tuple[list[int], Floats]:
    """The blocks in which something has a rate, and log rates: a row a cell, NaN for none."""
    sizes = {cell.id: cell.workload.unit_bytes for cell in plan.cells}
    rates = [(s.cell, s.block, rate) for s in samples if (rate := _sample_rate(s, sizes))]
    rows = {cell: at for at, cell in enumerate(sizes)}
    blocks = sorted({block for _, block, _ in rates})
    columns = {block: at for at, block in enumerate(blocks)}
    logs = np.full((len(rows), len(blocks)), np.nan)
    for cell, block, rate in rates:
        logs[rows[cell], columns[block]] = math.log(rate)
    return blocks, logs


def _levels(logs: Floats) -> Floats:
    """Of each block the median over cells of the log rate minus the cell's own in later blocks.

    Later than the first of them; 0 where no cell has both. Asked before every block of a run with
    a precision, hence without a loop.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a row or a column of nothing but NaN
        usual = np.nanmedian(logs[:, 1:], axis=1)
        return np.asarray(np.nan_to_num(np.nanmedian(logs - usual[:, None], axis=0)))


def _sample_rate(sample: Sample, sizes: Mapping[str, int]) -> float:
    """The rate of a usable slice, 0 when it has none."""
    if sample.load is None or sample.cell not in sizes or not usable(sample):
        return 0.0
    return unit_rate(sample.load, sizes[sample.cell])


def counted_samples(plan: Plan, samples: Sequence[Sample]) -> list[Sample]:
    """The samples without those that take no part: of warm-up blocks, and disturbed ones."""
    blocks = set(sorted({sample.block for sample in samples})[warmup_blocks(samples, plan) :])
    return [s for s in samples if s.block in blocks and not bystanders.disturbed(s)]
