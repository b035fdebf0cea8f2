"""How much neighbouring blocks resemble each other, and how many independent ones they are worth.

A first-order autoregressive series with correlation r at lag 1 is worth n (1 - r) / (1 + r)
independent values when its mean is estimated (Bayley and Hammersley 1946). What is measured as r in
n values with their own mean is too small by (1 + 4 r) / n (Marriott and Pope 1954).
"""

from __future__ import annotations

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
    """How many independent blocks the series is worth: n (1 - r) / (1 + r), at least 1.

    The formula is that of a first-order autoregressive series with correlation r at lag 1.
    """
    rho = correlation(values)
    return max(1.0, len(values) * (1 - rho) / (1 + rho))
