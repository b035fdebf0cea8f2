"""How wide the intervals of an unfinished run are: whether it may stop.

Asked before every block, so that a run tends to end on a width that is too narrow by chance. Where
an interval lies decides nothing, which spares the rates; the widths are kept honest by
`STEADY_BLOCKS`. Simulated in tests/py/stats/error_rates.py.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from iolab import bystanders
from iolab.model import Plan, Sample, Status
from iolab.stats.dependence import Floats, effective_blocks
from iolab.stats.intervals import order_interval
from iolab.stats.pairing import against_reference, cell_logs
from iolab.stats.ratio import median_intervals
from iolab.stopping import PAIR_WIDTH
from iolab.units import as_argument

STEADY_BLOCKS = 20
"""A width from fewer blocks ends no run.

Of 8 blocks the correlation can hardly be measured, and where it reads too small, intervals are too
narrow and runs stop: at a true correlation of 0.6, 99% intervals then held the truth in 96% of
runs. From 20 blocks on they do in 99%.
"""


def widest_interval(plan: Plan, samples: Sequence[Sample], enough: float | None = None) -> float:
    """The largest relative half-width of a ratio to the reference among cells that are still ok.

    Infinite while one has fewer than STEADY_BLOCKS blocks or too few for an interval of the plan's
    confidence, or while nothing is measured. Who only asks whether it is at most `enough` gets a
    lower bound as soon as that exceeds it: order statistics are a thousand times cheaper than the
    bootstrap, and asked before every block.
    """
    series = comparison_logs(plan, samples)
    least = max(
        (least_half_width(logs, plan.confidence) for logs in series.values()), default=math.inf
    )
    if not math.isfinite(least) or (enough is not None and least > enough):
        return least
    return max(half_width(logs, plan.seed, plan.confidence) for logs in series.values())


def widest_cell(plan: Plan, samples: Sequence[Sample]) -> tuple[str, float] | None:
    """The id of the cell that `widest_interval` waits for, and its half-width; None without one."""
    found = {
        name: half_width(logs, plan.seed, plan.confidence)
        for name, logs in comparison_logs(plan, samples).items()
    }
    return max(found.items(), key=lambda one: one[1], default=None)


def missed(
    plan: Plan,
    samples: Sequence[Sample],
    blocks: int,
    spent_s: float,
    pair: tuple[str, float] | None = None,
) -> str:
    """What a run that its budget ends lacks of its precision, and what would have given it.

    In words, to stand behind the reason it ended; empty without a precision. `spent_s` went into
    `blocks` blocks. `pair` is the A/A pair that is known worst, with the half-width of its
    interval, which may be PAIR_WIDTH times as wide.
    """
    if plan.precision is None:
        return ""
    text = f" before every interval was within +-{plan.precision:.1%}"
    found = widest_cell(plan, samples)
    if found is None:
        return f"{text}: nothing is left to compare"
    cell, width = found
    enough = math.log1p(plan.precision)
    for_pair = PAIR_WIDTH * enough
    if pair is not None and math.isfinite(pair[1]) and width <= enough and pair[1] > for_pair:
        needed_s = spent_s * (pair[1] / for_pair) ** 2
        told = f"that of the A/A pair {pair[0]} is +-{math.expm1(pair[1]):.1%} wide"
        wanted = f"(an A/A pair's within +-{math.expm1(for_pair):.1%}): {told}"
        return f"{text} {wanted}; --budget {as_argument(needed_s)} would do, at this noise"
    if width <= enough:
        return f"{text} with a test that bears it out; a larger budget would tell"
    if math.isfinite(width):
        needed_s = spent_s * (width / enough) ** 2
        told = f"that of {cell} is +-{math.expm1(width):.1%} wide"
        return f"{text}: {told}; --budget {as_argument(needed_s)} would do, at this noise"
    # Blocks that resemble each other are worth fewer: twice as many as now, then.
    least = max(STEADY_BLOCKS, math.ceil(1 - math.log2(1 - plan.confidence)))
    needed_s = spent_s * (least / blocks if blocks < least else 2)
    told = f"{blocks} blocks are too few for one of {plan.confidence:.4g} of {cell}"
    return f"{text}: {told}; --budget {as_argument(needed_s)} gives the fewest that may do"


def comparison_logs(plan: Plan, samples: Sequence[Sample]) -> dict[str, list[float]]:
    """The log ratios to the reference of each cell that is still ok, by its id."""
    bad = without_number(samples)
    pairs = [
        (base, cell)
        for base, cell in against_reference(plan)
        if not {base.id, cell.id} & bad and cell.server.unsupported is None
    ]
    logs = cell_logs(plan, samples, pairs)
    return {cell.id: found for (_, cell), found in zip(pairs, logs, strict=True)}


def without_number(samples: Sequence[Sample]) -> set[str]:
    """The cells that no further block gives a number: out, or disturbed in every slice so far.

    The latter may still get one, but a run that waits for it need never end.
    """
    out = {sample.cell for sample in samples if sample.status is not Status.OK}
    counted = {sample.cell for sample in samples if not bystanders.disturbed(sample)}
    return out | ({sample.cell for sample in samples} - counted)


def half_width(logs: Sequence[float] | Floats, seed: int, confidence: float) -> float:
    """The relative half-width of what `logs` say, infinite where it does not count."""
    if not math.isfinite(least_half_width(logs, confidence)):
        return math.inf
    values = np.asarray(logs, dtype=np.float64)
    ((low, high, _),) = median_intervals(values, seed, (confidence,))
    return (high - low) / 2


def is_narrow(logs: Sequence[float] | Floats, seed: int, confidence: float, enough: float) -> bool:
    """Whether `half_width` is at most `enough`, mostly answered by its cheap lower bound."""
    if least_half_width(logs, confidence) > enough:
        return False
    return half_width(logs, seed, confidence) <= enough


def least_half_width(logs: Sequence[float] | Floats, confidence: float) -> float:
    """A lower bound of `half_width` at little cost, infinite where that is."""
    values = np.asarray(logs, dtype=np.float64)
    if len(values) < STEADY_BLOCKS:
        return math.inf
    low, high, coverage = order_interval(values, confidence, effective_blocks(values))
    return (high - low) / 2 if coverage >= confidence else math.inf
