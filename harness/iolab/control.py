"""The A/A pair: every run measures its baseline twice, as two processes. Pure.

Nothing but chance sets the two apart: the layout of their memory, the machine's wobble, an error in
how the harness measures. When the usual test tells them apart nevertheless, it would tell others
apart for the same reasons, and the run is untrusted.

Two processes of one server are never quite equal, though: on a quiet machine enough blocks tell
any two apart, by a percent or less. Where a threshold says which difference matters, the pair
differs only from half of it on: intervals are as narrow as that on each side, and an equal server
with that luck, or less, would read as `same`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from iolab import stats, verdict
from iolab.model import Cell, Plan, Sample, Status
from iolab.stats import Estimate
from iolab.stopping import PAIR_WIDTH

ALPHA = 0.01
"""Share of sound runs that may read as untrusted."""


NOTABLE = 0.1
"""An A/A interval wider than this to either side is no evidence, unless told otherwise."""


@dataclass(frozen=True)
class Control:
    """How the twin of one workload reads against the baseline.

    `adjusted_p` is Holm's over all pairs of the run. `differs` needs it below ALPHA and 1 outside
    the interval, whose confidence is 1 - ALPHA over the number of pairs, and where the plan has a
    threshold, a ratio of half of it.
    """

    base: Cell
    twin: Cell
    estimate: Estimate
    adjusted_p: float
    differs: bool
    confidence: float = 1 - ALPHA

    def powerless(self, widest: float) -> str | None:
        """Why this pair is no evidence, though it does not differ; None when it is.

        It must have blocks enough for its interval, of a relative half-width of `widest` at most.
        """
        return powerless(self.estimate, self.confidence, widest)

    @property
    def text(self) -> str:
        """The reading in words."""
        found, twin = self.estimate, self.twin
        return (
            f"{twin.server.label} to {self.base.server.label} at {twin.workload.name}"
            f"{twin.condition.tail}: "
            f"{found.ratio:.3f} [{found.low:.3f} to {found.high:.3f}], {found.blocks} blocks, "
            f"p {self.adjusted_p:.2g}"
        )


def with_control(plan: Plan) -> Plan:
    """`plan` with a twin beside each reference that this machine can run; unchanged if it has.

    Open loops have none: their rate is given, and the same for all. Nor have copies: there is no
    process of a server that a second one could stand beside.
    """
    if any(cell.server.twin for cell in plan.cells):
        return plan
    cells: list[Cell] = []
    for cell in plan.cells:
        cells.append(cell)
        if cell.workload.open_loop or cell.server.unsupported is not None:
            continue
        if plan.role == "copy":
            continue
        if plan.label(cell) == plan.reference(cell):
            cells.append(replace(cell, server=replace(cell.server, twin=True)))
    return replace(plan, cells=tuple(cells))


def pairs(plan: Plan) -> list[tuple[Cell, Cell]]:
    """The A/A pairs of a plan: (reference, twin).

    A twin whose original is no reference any more, because another server had to take the
    baseline's place, is one of the originals: it still has a pair.
    """
    cells = {(cell.server, cell.workload, cell.condition): cell for cell in plan.cells}
    found = []
    for cell in plan.cells:
        if cell.server.twin:
            original = replace(cell.server, twin=False)
            base = cells.get((original, cell.workload, cell.condition))
            if base is not None:
                found.append((base, cell))
    return found


def read(plan: Plan, samples: Iterable[Sample]) -> list[Control]:
    """Every A/A pair that has a number, judged as one family."""
    both = pairs(plan)
    confidence = 1 - ALPHA / max(1, len(both))
    found = [
        (base, twin, result)
        for (base, twin), logs in zip(both, stats.cell_logs(plan, samples, both), strict=True)
        if (result := stats.estimate(logs, plan.seed, confidence)) is not None
    ]
    adjusted = stats.holm([result.p_value for _, _, result in found])
    return [
        Control(base, twin, result, p, differs(result, p, confidence, plan.threshold), confidence)
        for (base, twin, result), p in zip(found, adjusted, strict=True)
    ]


def differs(
    found: Estimate, adjusted_p: float, confidence: float, threshold: float | None = None
) -> bool:
    """Whether an A/A pair reads as different: see Control."""
    if threshold is not None and abs(math.log(found.ratio)) < math.log1p(threshold) / 2:
        return False
    outside = found.low > 1 or found.high < 1
    return adjusted_p < ALPHA and outside and found.coverage >= confidence


def powerless(found: Estimate, confidence: float, widest: float) -> str | None:
    """See Control.powerless."""
    if found.coverage < confidence:
        return f"{found.blocks} blocks are too few for an interval of {confidence:.4g}"
    if found.half_width > math.log1p(widest):
        return f"the interval is +-{math.expm1(found.half_width):.1%} wide"
    return None


def lacking(plan: Plan, samples: Sequence[Sample], widest: float = NOTABLE) -> str | None:
    """Which A/A pairs of a run say nothing, and why; None when each says something.

    A pair that was not measured, or not well enough to show a difference of about `widest`, is no
    sign that the run can be trusted.
    """
    by_twin = {control.twin.id: control for control in read(plan, samples)}
    both = pairs(plan)
    words = [] if both else ["none in the plan"]
    for base, twin in both:
        found = by_twin.get(twin.id)
        why = found.powerless(widest) if found is not None else _no_number(base, twin, samples)
        if why is not None:
            words.append(f"{twin.id}: {why}")
    return f"no A/A evidence: {'; '.join(words)}" if words else None


def growth(plan: Plan, samples: Sequence[Sample], widest: float = NOTABLE) -> float | None:
    """How many times its blocks would give the pair that `lacking` names, at this noise.

    Of several the one that takes most; None where nothing lacks, or a pair has no number at all:
    more blocks would give it none.
    """
    found = read(plan, samples)
    if len(found) < len(pairs(plan)):
        return None
    half_width = math.log1p(widest)
    times = [
        stats.required_blocks(one.estimate, half_width, one.confidence) / one.estimate.blocks
        for one in found
        if one.powerless(widest) is not None
    ]
    return max(times, default=None)


def known(plan: Plan, samples: Sequence[Sample], enough: float) -> bool:
    """Whether every comparison is known within `enough`, and every A/A pair well enough for that.

    `enough` is a difference of logarithms, and pairs have PAIR_WIDTH times as much. It is what runs
    and gates stop by. Where the plan has a threshold, each comparison must have its verdict as
    well.
    """
    if stats.widest_interval(plan, samples, enough) > enough:
        return False
    if not evident(plan, samples, PAIR_WIDTH * enough):
        return False
    return plan.threshold is None or decided(plan, samples, plan.threshold)


def decided(plan: Plan, samples: Sequence[Sample], threshold: float) -> bool:
    """Whether interval and test agree in every comparison that still can be made.

    A few disturbed blocks cost the signed ranks far more than they cost the median, so that a
    narrow interval may exclude 1 before the test bears it out. To measure on then makes hardly a
    false alarm: who would have stopped where the interval holds 1 still does, and of equal servers
    the interval excludes it as rarely as its confidence says.
    """
    logs = stats.comparison_logs(plan, samples)
    family = [
        verdict.Comparison(
            base.id, cell.id, cell.workload.name, verdict.paired(logs.get(cell.id, []), plan.seed)
        )
        for base, cell in stats.against_reference(plan)
    ]
    return not any(one.undecided for one in verdict.judge(family, threshold))


def evident(plan: Plan, samples: Sequence[Sample], enough: float) -> bool:
    """Whether every A/A pair that still can is known within `enough`, a difference of logarithms.

    What measuring waits for: a run that ends before its pairs show anything proves nothing, however
    well its comparisons are known.
    """
    return all(
        stats.is_narrow(logs, plan.seed, confidence, enough)
        for _, logs, confidence in _unfinished(plan, samples)
    )


def widest_pair(plan: Plan, samples: Sequence[Sample]) -> tuple[str, float] | None:
    """The id of the twin whose pair `evident` waits for, and its half-width; None without one."""
    found = [
        (twin.id, stats.half_width(logs, plan.seed, confidence))
        for twin, logs, confidence in _unfinished(plan, samples)
    ]
    return max(found, key=lambda one: one[1], default=None)


def _unfinished(
    plan: Plan, samples: Sequence[Sample]
) -> Iterable[tuple[Cell, Sequence[float], float]]:
    """The pairs that more blocks can tell something of: twin, log ratios, confidence."""
    both = pairs(plan)
    confidence = 1 - ALPHA / max(1, len(both))
    bad = stats.without_number(samples)
    rest = [pair for pair in both if not bad & {cell.id for cell in pair}]
    for (_, twin), logs in zip(rest, stats.cell_logs(plan, samples, rest), strict=True):
        yield twin, logs, confidence


def _no_number(base: Cell, twin: Cell, samples: Sequence[Sample]) -> str:
    for cell in (twin, base):
        mine = [sample for sample in samples if sample.cell == cell.id]
        status, reason = stats.cell_status(cell, mine)
        if status is not Status.OK:
            return f"{cell.id} has no number ({status}: {reason})"
    return "no block in which both were measured"


def untrusted(controls: Sequence[Control]) -> str | None:
    """Why a run is not to be trusted, None when its A/A pairs say nothing against it."""
    bad = [control.text for control in controls if control.differs]
    if not bad:
        return None
    return "the baseline differs from itself: " + "; ".join(bad)
