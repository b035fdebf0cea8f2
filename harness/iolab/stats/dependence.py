"""How much neighbouring blocks resemble each other, and how many independent ones they are worth.

A first-order autoregressive series with correlation r at lag 1 is worth n (1 - r) / (1 + r)
independent values when its mean is estimated (Bayley and Hammersley 1946). What is measured as r in
n values with their own mean is too small by (1 + 4 r) / n (Marriott and Pope 1954). Where much
noise lies over a slow drift, lag 1 shows little of it: so the sum over lags (Geyer 1992) is asked
as well, and the one that leaves less is taken.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


def lag1(values: Floats) -> float:
    """Autocorrelation at lag 1, 0 for series too short or too constant to tell."""
    if len(values) < 8:
        return 0.0
    centred = values - values.mean()
    power = float(np.dot(centred, centred))
    return float(np.dot(centred[1:], centred[:-1])) / power if power > 1e-24 else 0.0


def correlation(values: Floats) -> float:
    """The lag-1 autocorrelation that corrections use, in [0, 0.95]; 0 below 8 values.

    What is measured in n values with their own mean comes out too small by (1 + 4 r) / n (Marriott
    and Pope 1954), which at the lengths of runs here would hide most of it; that is added again.
    """
    n = len(values)
    if n < 8:
        return 0.0
    rho = lag1(values)
    return min(max(0.0, rho + (1 + 4 * rho) / n), 0.95)


def effective_blocks(values: Floats) -> float:
    """How many independent blocks the series is worth, from 1 to n.

    n over the larger of two correlation times: (1 + r) / (1 - r) of a first-order autoregressive
    series with correlation r at lag 1, and `correlation_time`, which needs no such form.
    """
    rho = correlation(values)
    return max(1.0, len(values) / max((1 + rho) / (1 - rho), correlation_time(values)))


def correlation_time(values: Floats) -> float:
    """The integrated autocorrelation time 1 + 2 (r1 + r2 + ...), at least 1; 1 below 8 values.

    Geyer's initial monotone sequence (1992): sums of two neighbouring lags are added while they
    are positive, none counted larger than the one before. Much noise on top of a slow drift hides
    the drift from lag 1, but not from the sum. Each lag is mended for the bias as in `correlation`.
    """
    n = len(values)
    centred = values - values.mean() if n else values
    power = float(np.dot(centred, centred))
    if n < 8 or power <= 1e-24:
        return 1.0
    lags = np.correlate(centred, centred, "full")[n - 1 : n - 1 + n // 2] / power
    lags[1:] += (1 + 4 * max(float(lags[1]), 0.0)) / n
    total, last = 0.0, math.inf
    for at in range(0, len(lags) - 1, 2):
        last = min(last, float(lags[at] + lags[at + 1]))
        if last <= 0:
            break
        total += last
    return max(1.0, 2 * total - 1)
