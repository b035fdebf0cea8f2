"""A series of log ratios -> the ratio, its interval and its p-value.

The ratio is that of the median. Its interval is the wider one of order statistics and bootstrap
(intervals.py): the former are exact for independent blocks, the latter minds how they resemble
each other.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from iolab.stats.dependence import effective_blocks
from iolab.stats.intervals import CONFIDENCE, bootstrap_interval, order_interval
from iolab.stats.significance import paired_p_value

_MIN_PAIRS = 6  # below this no order-statistic interval reaches 95%


@dataclass(frozen=True)
class Estimate:
    """A ratio (1 = equal to the baseline) with its confidence interval.

    `blocks` pairs went in, worth `effective_blocks` independent ones. `p_value` is two-sided,
    against a ratio of 1. `coverage` is what the order-statistic interval really covers: with fewer
    than 6 blocks it is the whole range, and falls short of 95%.
    """

    ratio: float
    low: float
    high: float
    p_value: float
    blocks: int
    effective_blocks: float
    coverage: float

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
    values = np.asarray(log_ratios, dtype=np.float64)
    values = values[np.isfinite(values)]
    if len(values) == 0:
        return None
    low, high, coverage = order_interval(values, confidence, effective_blocks(values))
    if len(values) >= _MIN_PAIRS:
        other_low, other_high = bootstrap_interval(values, seed, confidence)
        low, high = min(low, other_low), max(high, other_high)
    return Estimate(
        ratio=math.exp(float(np.median(values))),
        low=math.exp(low),
        high=math.exp(high),
        p_value=paired_p_value(values),
        blocks=len(values),
        effective_blocks=effective_blocks(values),
        coverage=coverage,
    )


def required_blocks(current: Estimate, half_width: float) -> float:
    """How many blocks would bring the interval to +-`half_width` (relative), at the present noise.

    Widths shrink with the square root of the number of blocks. Infinite while the interval is
    unbounded.
    """
    if half_width <= 0:
        raise ValueError("half_width must be above 0")
    return max(float(_MIN_PAIRS), current.blocks * (current.half_width / half_width) ** 2)
