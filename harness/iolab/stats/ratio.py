"""A series of log ratios -> the ratio, its interval and its p-value.

The ratio is that of the median, and `Work` that of what was done in all. The median's interval is
the wider one of order statistics and bootstrap (intervals.py): the former are exact for independent
blocks, the latter minds how they resemble each other.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from iolab.stats.dependence import Floats, effective_blocks
from iolab.stats.intervals import (
    CONFIDENCE,
    bootstrap_interval,
    bootstrap_intervals,
    order_interval,
)
from iolab.stats.significance import paired_p_value

_MIN_PAIRS = 6  # below this no order-statistic interval reaches 95%


@dataclass(frozen=True)
class Work:
    """What was done over all blocks together, as a ratio with its 95% interval.

    Of each block the share that the cell did of what both did, new / (new + base), averaged: the
    odds of that mean. A median does not see what happens in fewer than half of the blocks; this
    does, and no single block can move it by more than one of n, however slow it was. Swapping the
    sides inverts it.
    """

    ratio: float
    low: float
    high: float


@dataclass(frozen=True)
class Estimate:
    """A ratio (1 = equal to the baseline) with its confidence interval.

    `blocks` pairs went in, worth `effective_blocks` independent ones. `p_value` is two-sided,
    against a ratio of 1. `coverage` is what the order-statistic interval really covers: with fewer
    than 6 blocks it is the whole range, and falls short of 95%. `work` is None then.
    """

    ratio: float
    low: float
    high: float
    p_value: float
    blocks: int
    effective_blocks: float
    coverage: float
    work: Work | None = None

    @property
    def half_width(self) -> float:
        """Relative half-width of the interval: half of log(high / low)."""
        if self.low <= 0 or not math.isfinite(self.high):
            return math.inf
        return math.log(self.high / self.low) / 2


def estimate(
    log_ratios: Sequence[float], seed: int = 0, confidence: float = CONFIDENCE
) -> Estimate | None:
    """What a series of log ratios says, None when it is empty.

    `confidence` is that of the interval. Too few blocks for it show in `coverage`.
    """
    found = estimates(log_ratios, seed, (confidence,))
    return found[0] if found else None


def estimates(
    log_ratios: Sequence[float], seed: int, confidences: Sequence[float]
) -> list[Estimate]:
    """`estimate` at several confidences for hardly more work than at one; [] for no value."""
    values = np.asarray(log_ratios, dtype=np.float64)
    values = values[np.isfinite(values)]
    if len(values) == 0:
        return []
    work = _work(values, seed) if len(values) >= _MIN_PAIRS else None
    ratio, p_value = math.exp(float(np.median(values))), paired_p_value(values)
    effective = effective_blocks(values)
    return [
        Estimate(
            ratio, math.exp(low), math.exp(high), p_value, len(values), effective, coverage, work
        )
        for low, high, coverage in median_intervals(values, seed, confidences)
    ]


def median_intervals(
    values: Floats, seed: int, confidences: Sequence[float]
) -> list[tuple[float, float, float]]:
    """Intervals of the median of log ratios, (low, high, coverage), without all else: see above."""
    effective = effective_blocks(values)
    found = [order_interval(values, confidence, effective) for confidence in confidences]
    if len(values) < _MIN_PAIRS:
        return found
    others = bootstrap_intervals(values, seed, confidences)
    return [
        (min(low, other_low), max(high, other_high), coverage)
        for (low, high, coverage), (other_low, other_high) in zip(found, others, strict=True)
    ]


def _work(values: Floats, seed: int) -> Work:
    """See Work; `values` are log ratios. A mean of nothing but zeros or ones is an end."""
    shares = np.asarray(1 / (1 + np.exp(-values)), dtype=np.float64)
    low, high = bootstrap_interval(shares, seed, CONFIDENCE, np.mean)

    def odds(share: float) -> float:
        share = min(max(share, 1e-9), 1 - 1e-9)
        return share / (1 - share)

    return Work(odds(float(np.mean(shares))), odds(low), odds(high))


def required_blocks(current: Estimate, half_width: float, confidence: float = CONFIDENCE) -> float:
    """How many blocks would bring the interval to +-`half_width` (relative), at the present noise.

    Widths shrink with the square root of the number of blocks. Not fewer than an interval of that
    confidence takes at all: of n independent values the widest covers the median with 1 - 2 / 2^n.
    Infinite while the interval is unbounded.
    """
    if half_width <= 0:
        raise ValueError("half_width must be above 0")
    least = math.ceil(1 - math.log2(1 - confidence)) * current.blocks / current.effective_blocks
    return max(float(_MIN_PAIRS), least, current.blocks * (current.half_width / half_width) ** 2)
