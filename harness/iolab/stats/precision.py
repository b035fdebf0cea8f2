"""How wide the intervals of an unfinished run are: whether it may stop.

Asked before every block. The width decides and never where the interval lies; what asking so often
does to coverage is in docs/method.md and simulated in tests/py/stats/test_precision.py.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from iolab.model import Plan, Sample, Status
from iolab.stats.dependence import effective_blocks
from iolab.stats.intervals import order_interval
from iolab.stats.pairing import against_reference, cell_logs
from iolab.stats.ratio import estimate


def widest_interval(plan: Plan, samples: Sequence[Sample], enough: float | None = None) -> float:
    """The largest relative half-width of a ratio to the reference among cells that are still ok.

    Infinite while one has too few blocks for an interval of the plan's confidence, or while
    nothing is measured. Who only asks whether it is at most `enough` gets a lower bound as soon as
    that exceeds it: order statistics are a thousand times cheaper than the bootstrap, and asked
    before every block.
    """
    bad = {sample.cell for sample in samples if sample.status is not Status.OK}
    pairs = [
        (base, cell)
        for base, cell in against_reference(plan)
        if not {base.id, cell.id} & bad and cell.server.unsupported is None
    ]
    series = cell_logs(plan, samples, pairs)
    if enough is not None:
        least = max((_least_half_width(logs, plan.confidence) for logs in series), default=math.inf)
        if least > enough:
            return least
    widths: list[float] = []
    for logs in series:
        result = estimate(logs, plan.seed, plan.confidence)
        enough = result is not None and result.coverage >= plan.confidence
        widths.append(result.half_width if result is not None and enough else math.inf)
    return max(widths, default=math.inf)


def _least_half_width(logs: Sequence[float], confidence: float) -> float:
    """What the half-width of an estimate's interval is at least; infinite with too few blocks."""
    values = np.asarray(logs, dtype=np.float64)
    if len(values) == 0:
        return math.inf
    low, high, coverage = order_interval(values, confidence, effective_blocks(values))
    return (high - low) / 2 if coverage >= confidence else math.inf
