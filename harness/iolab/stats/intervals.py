"""Intervals of a median: order statistics, and a circular block bootstrap.

Order statistics assume independence and nothing else (David and Nagaraja, Order Statistics, 7.1);
dependent values get the interval of as few independent ones as they are worth. The circular block
bootstrap (Politis and Romano 1992) keeps what dependence there is between neighbours; the length of
its blocks grows as n^(1/3) (Hall, Horowitz and Jing 1995) and with the correlation.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from iolab.stats.dependence import Floats, correlation

CONFIDENCE = 0.95
_RESAMPLES = 2000


def order_interval(
    values: Floats, confidence: float = CONFIDENCE, effective: float | None = None
) -> tuple[float, float, float]:
    """Distribution-free interval of the median: (low, high, coverage).

    The k-th smallest and k-th largest of m independent values cover the median with probability
    1 - 2 P(Binomial(m, 1/2) < k); k is the largest that keeps `confidence`. When even the whole
    range does not reach it (m < 6 at 95%), the range is returned with its true coverage.
    `effective` says how many independent values these are worth (None: all of them): the interval
    then ends at the quantiles k / m of all, which are those of m independent ones.
    """
    from scipy.stats import binom

    ordered = np.sort(values)
    n = len(ordered)
    m = n if effective is None else max(1, min(n, math.floor(effective)))
    if n < 2:
        return float(ordered[0]), float(ordered[0]), 0.0
    ks = np.arange(1, max(1, m // 2) + 1)
    coverages = 1 - 2 * np.asarray(binom.cdf(ks - 1, m, 0.5), dtype=np.float64)
    good = np.nonzero(coverages >= confidence)[0]
    if len(good) == 0:
        return float(ordered[0]), float(ordered[-1]), max(0.0, float(coverages[0]))
    rank = int(ks[good[-1]]) * n // m
    return float(ordered[rank - 1]), float(ordered[n - rank]), float(coverages[good[-1]])


def resample_length(n: int, correlation_r: float) -> int:
    """How many neighbouring blocks a circular block bootstrap draws together, of `n`.

    n^(1/3) stretched by (1 + r) / (1 - r), so that independent series get short
    runs; at most n / 3.
    """
    rho = min(correlation_r, 0.9)
    return int(min(max(1, round(n ** (1 / 3) * (1 + rho) / (1 - rho))), max(1, n // 3)))


def resample_blocks(
    n: int, correlation_r: float, seed: int, resamples: int
) -> npt.NDArray[np.int64]:
    """`resamples` rows of `n` block numbers, as a circular block bootstrap draws them.

    Runs of `resample_length` neighbouring blocks are drawn with replacement, wrapping around the
    end.
    """
    length = resample_length(n, correlation_r)
    rng = np.random.default_rng(seed)
    starts = rng.integers(0, n, size=(resamples, math.ceil(n / length)))
    index = (starts[:, :, None] + np.arange(length)[None, None, :]) % n
    drawn: npt.NDArray[np.int64] = index.reshape(resamples, -1)[:, :n]
    return drawn


def bootstrap_interval(
    values: Floats,
    seed: int = 0,
    confidence: float = CONFIDENCE,
    statistic: Callable[..., Any] = np.median,
) -> tuple[float, float]:
    """Percentile interval of the median by a circular block bootstrap: `resample_blocks`.

    `statistic` may be another one that takes an axis, such as numpy's mean.

    Beyond 95% the tails of so many resamples say nothing: their quantiles are those of 95%, moved
    out as far as a normal's.
    """
    from scipy.stats import norm

    index = resample_blocks(len(values), correlation(values), seed, _RESAMPLES)
    drawn = statistic(values[index], axis=1)
    known = min(confidence, CONFIDENCE)
    tail = (1 - known) / 2
    low, middle, high = np.quantile(drawn, [tail, 0.5, 1 - tail])
    stretch = float(norm.isf((1 - confidence) / 2) / norm.isf(tail))
    return float(middle + (low - middle) * stretch), float(middle + (high - middle) * stretch)
