"""Intervals of a median: order statistics, and a circular block bootstrap.

Order statistics assume independence and nothing else (David and Nagaraja, Order Statistics, 7.1);
dependent values get the interval of as few independent ones as they are worth. The circular block
bootstrap (Politis and Romano 1992) keeps what dependence there is between neighbours; the length of
its blocks grows as n^(1/3) (Hall, Horowitz and Jing 1995) and with the correlation.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import lru_cache
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
    ordered = np.sort(values)
    n = len(ordered)
    m = n if effective is None else max(1, min(n, math.floor(effective)))
    if n < 2:
        return float(ordered[0]), float(ordered[0]), 0.0
    k, coverage = _rank(m, confidence)
    if k == 0:
        return float(ordered[0]), float(ordered[-1]), coverage
    rank = k * n // m
    return float(ordered[rank - 1]), float(ordered[n - rank]), coverage


@lru_cache(maxsize=4096)
def _rank(m: int, confidence: float) -> tuple[int, float]:
    """The k of `order_interval` and its coverage; 0 and that of the whole range where none does.

    Kept, for a run that may stop asks before every block, and a self-test a million times.
    """
    from scipy.stats import binom

    ks = np.arange(1, max(1, m // 2) + 1)
    coverages = 1 - 2 * np.asarray(binom.cdf(ks - 1, m, 0.5), dtype=np.float64)
    good = np.nonzero(coverages >= confidence)[0]
    if len(good) == 0:
        return 0, max(0.0, float(coverages[0]))
    return int(ks[good[-1]]), float(coverages[good[-1]])


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
    end. The array is shared: not to be written to.
    """
    return _drawn_blocks(n, resample_length(n, correlation_r), seed, resamples)


@lru_cache(maxsize=8)
def _drawn_blocks(n: int, length: int, seed: int, resamples: int) -> npt.NDArray[np.int64]:
    """See resample_blocks. An estimate draws twice, and series of one length draw the same."""
    rng = np.random.default_rng(seed)
    starts = rng.integers(0, n, size=(resamples, math.ceil(n / length)))
    index = starts[:, :, None] + np.arange(length)[None, None, :]
    np.subtract(index, n, out=index, where=index >= n)  # below 2 n; a division costs far more
    drawn: npt.NDArray[np.int64] = index.reshape(resamples, -1)[:, :n]
    drawn.flags.writeable = False
    return drawn


def bootstrap_interval(
    values: Floats,
    seed: int = 0,
    confidence: float = CONFIDENCE,
    statistic: Callable[..., Any] = np.median,
) -> tuple[float, float]:
    """`bootstrap_intervals` at one confidence."""
    return bootstrap_intervals(values, seed, (confidence,), statistic)[0]


def bootstrap_intervals(
    values: Floats,
    seed: int,
    confidences: Sequence[float],
    statistic: Callable[..., Any] = np.median,
) -> list[tuple[float, float]]:
    """Percentile intervals of the median by a circular block bootstrap: `resample_blocks`.

    `statistic` may be another one that takes an axis, such as numpy's mean. One bootstrap serves
    all `confidences`.

    Beyond 95% the tails of so many resamples say nothing: their quantiles are those of 95%, moved
    out as far as a normal's.
    """
    index = resample_blocks(len(values), correlation(values), seed, _RESAMPLES)
    drawn = statistic(values[index], axis=1)
    return [_percentiles(drawn, confidence) for confidence in confidences]


def _percentiles(drawn: Floats, confidence: float) -> tuple[float, float]:
    known = min(confidence, CONFIDENCE)
    tail = (1 - known) / 2
    low, middle, high = np.quantile(drawn, [tail, 0.5, 1 - tail])
    stretch = _stretch(confidence)
    return float(middle + (low - middle) * stretch), float(middle + (high - middle) * stretch)


@lru_cache(maxsize=256)
def _stretch(confidence: float) -> float:
    """How much farther out a normal's quantiles of `confidence` lie than those of 95%."""
    from scipy.stats import norm

    tail = (1 - min(confidence, CONFIDENCE)) / 2
    return float(norm.isf((1 - confidence) / 2) / norm.isf(tail))
