"""P-values: of one series of log ratios, and of a family of comparisons.

The signed ranks are Wilcoxon's (1945), the correction for families is Holm's (1979), which needs no
independence: comparisons with one baseline share its noise.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Sequence

import numpy as np

from iolab.stats.dependence import Floats, effective_blocks

ALPHA = 0.05


def preload() -> None:
    """Imports what estimates need: half a second that must not pass between two slices."""
    importlib.import_module("scipy.stats")


def paired_p_value(values: Floats) -> float:
    """Two-sided p of the hypothesis that the log ratios are symmetric around 0.

    Wilcoxon's signed ranks, exact for few blocks. Autocorrelation inflates the variance of the sum
    of signed ranks by n / effective n, so the normal deviate that belongs to the exact p is
    divided by the root of that, and judged by Student's t of as few degrees of freedom as there
    are effective blocks: correlation can only weaken the evidence. Ranks do not show how far apart
    from 0 the values lie, which then weakens too much: so Student's t of the values, over their
    effective number, is asked as well, and the smaller p counts twofold (Bonferroni).
    """
    from scipy.stats import norm, rankdata, t, wilcoxon

    used = values[values != 0]
    if len(used) == 0:
        return 1.0
    exact = max(float(wilcoxon(used).pvalue), 1e-300)
    signed = np.asarray(np.sign(used) * rankdata(np.abs(used)), dtype=np.float64)
    effective = effective_blocks(signed)
    if effective >= len(signed):
        return min(1.0, exact)
    deviate = norm.isf(exact / 2) * math.sqrt(effective / len(signed))
    by_ranks = 2 * float(t.sf(deviate, max(1.0, effective - 1)))
    return min(1.0, max(exact, 2 * min(by_ranks, _t_test(values))))


def _t_test(values: Floats) -> float:
    """Two-sided p of the mean being 0, the values counted as the effective number of them."""
    from scipy.stats import t

    effective = effective_blocks(values)
    error = float(np.std(values, ddof=1)) / math.sqrt(effective)
    if error <= 0:
        return 0.0 if float(np.mean(values)) else 1.0
    return 2 * float(t.sf(abs(float(np.mean(values))) / error, max(1.0, effective - 1)))


def holm(p_values: Sequence[float]) -> list[float]:
    """P-values adjusted for a family of comparisons (Holm's step-down method), in given order."""
    order = sorted(range(len(p_values)), key=lambda at: p_values[at])
    adjusted = [0.0] * len(p_values)
    running = 0.0
    for step, at in enumerate(order):
        running = max(running, min(1.0, p_values[at] * (len(p_values) - step)))
        adjusted[at] = running
    return adjusted
