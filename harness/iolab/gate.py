"""The regression gate: which cells of a candidate are slower than the baseline's, beyond doubt.

Pure but for `measure` and `rounds`: the plan of both builds, and what two rounds of measuring
amount to. A cell that reads as slower, or fails, is measured once more with fresh processes, for a
process may be unlucky with its memory for as long as it lives; only what says so twice counts.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from pathlib import Path

from iolab import compare, control, stats, verdict
from iolab.campaign import Result, run_plan
from iolab.console import say
from iolab.errors import InputError, IolabError
from iolab.gate_pairs import BASE, pair_up
from iolab.lab import Lab
from iolab.model import Plan, Status
from iolab.specs import Offer
from iolab.stopping import Rule
from iolab.store import create_run_dir, read_samples
from iolab.units import format_duration
from iolab.verdict import Comparison, Effect, Verdict

BUDGET_S = 180.0
"""Time for one comparison, at most: that in which a slowdown of 5% is found on a noisy machine."""

_ENDLESS = 1_000_000


class Final(StrEnum):
    """What a gate says of a cell."""

    PASS = "pass"
    REGRESSION = "regression"
    UNCLEAR = "unclear"


@dataclass(frozen=True)
class Round:
    """One measuring of a gate: a run with verdicts on its cells.

    `broken` names the cells in which the candidate fails though the baseline does not.
    `measured_s` is the time of the measuring loop. `unproven` says which A/A pairs could not have
    shown a difference of the threshold: a round without that evidence decides nothing, and would
    have had it in `growth` times the time (None: that would not help). `share` is that of the
    plan's comparisons which it measured, and `instead_of` the untrusted round that it replaces.
    """

    run: str
    verdicts: tuple[Verdict, ...]
    broken: Mapping[str, str] = field(default_factory=dict)
    untrusted: str | None = None
    measured_s: float = 0.0
    stop_reason: str = ""
    unproven: str | None = None
    share: float = 1.0
    instead_of: Round | None = None
    growth: float | None = None

    @property
    def doubt(self) -> str | None:
        """Why no verdict of this round counts, None when they do."""
        return self.unproven if self.untrusted is None else f"untrusted: {self.untrusted}"

    def verdict(self, name: str) -> Verdict | None:
        """The verdict on a cell, None when it was not measured."""
        return next((one for one in self.verdicts if one.name == name), None)

    def suspects(self) -> list[str]:
        """The cells that must be measured again before they count."""
        slower = [one.name for one in self.verdicts if one.effect is Effect.SLOWER]
        return [*slower, *(name for name in self.broken if name not in slower)]


@dataclass(frozen=True)
class CellOutcome:
    """The gate's word on one cell. `budget_s` is the time that would have told."""

    name: str
    workload: str
    final: Final
    first: Verdict
    again: Verdict | None = None
    reason: str = ""
    budget_s: float | None = None


# --- the plan ------------------------------------------------------------------------------------


def gate_plan(
    plan: Plan,
    offer: Offer,
    engines: Sequence[str],
    threshold: float,
    budget_s: float | None,
) -> Plan:
    """Both builds of every engine of `plan` (or of those given), on its workloads.

    InputError for an unknown engine, and when nothing is left that both builds have.
    """
    pairs = pair_up(plan, offer, engines)
    if not pairs.cells:
        why = "; ".join(pairs.left_out) or "the matrix has no engine"
        raise InputError(f"nothing to compare: {why}")
    planned = replace(
        plan,
        name="gate",
        summary="Two builds of the same engines against each other.",
        baseline=pairs.cells[0].server.label,
        baseline_build=BASE,
        baseline_profile=None,
        cells=pairs.cells,
        left_out=pairs.left_out,
        grid=False,
        wrk_check=False,
    )
    return plan_to(planned, threshold, budget_s)


def plan_to(plan: Plan, threshold: float, budget_s: float | None) -> Plan:
    """`plan`, measured until its verdicts can be clear: see verdict.py."""
    nr = len(stats.against_reference(plan))
    rule = rule_for(nr, threshold, BUDGET_S * nr if budget_s is None else budget_s)
    return replace(
        plan,
        precision=rule.precision,
        confidence=verdict.confidence_of(nr),
        threshold=threshold,
        min_blocks=max(rule.min_blocks, plan.min_blocks),
        max_blocks=rule.max_blocks,
        budget_s=rule.budget_s,
    )


def rule_for(nr_comparisons: int, threshold: float, budget_s: float) -> Rule:
    """By what a gate of so many comparisons stops: intervals of half the threshold.

    Never before an interval of the family's confidence exists: of n values the widest, from the
    smallest to the largest, covers the median with 1 - 2 / 2^n.
    """
    confidence = verdict.confidence_of(nr_comparisons)
    return Rule(
        min_blocks=math.ceil(1 - math.log2(1 - confidence)),
        max_blocks=_ENDLESS,
        precision=math.expm1(math.log1p(threshold) / 2),
        budget_s=budget_s,
    )


def only(plan: Plan, names: Iterable[str], threshold: float, seed: int) -> Plan:
    """The part of a plan in which the named comparisons stand, with their references.

    Names are ids of cells. IolabError when the plan compares none of them.
    """
    wanted = set(names)
    chosen = [(base, cell) for base, cell in stats.against_reference(plan) if cell.id in wanted]
    if not chosen:
        raise IolabError(f"{', '.join(sorted(wanted))}: no comparison of {plan.name}")
    ids = {cell.id for pair in chosen for cell in pair}
    share = len(chosen) / max(1, len(stats.against_reference(plan)))
    cells = tuple(cell for cell in plan.cells if cell.id in ids)
    baseline = plan.baseline
    if plan.baseline_build is not None and cells:
        baseline = plan.reference(cells[0])
    part = replace(plan, cells=cells, baseline=baseline, seed=seed, left_out=())
    return plan_to(part, threshold, plan.budget_s * share)


# --- measuring -----------------------------------------------------------------------------------

Compared = Callable[[compare.Measured], Sequence[Comparison]]
"""The comparisons that a measured run stands for."""


def measure(
    lab: Lab, plan: Plan, threshold: float, compared: Compared, results: Path | None = None
) -> Round:
    """Runs `plan` with processes of its own and judges it.

    The run is kept in `results` (None: where all runs are).
    """
    run_dir = create_run_dir(results or lab.house.results, plan.name, datetime.now())
    return judged(run_plan(lab, plan, run_dir, resumable=False), threshold, compared)


def rounds(
    lab: Lab, plan: Plan, threshold: float, compared: Compared, results: Path | None = None
) -> list[Round]:
    """The first round, anew if it is untrusted, then its suspects with fresh processes if any."""
    first = measure(lab, plan, threshold, compared, results)
    if first.untrusted is not None:
        say(f"untrusted: {first.untrusted}; measuring once more with fresh processes")
        plan = only(plan, [one.name for one in first.verdicts], threshold, plan.seed + 1)
        first = replace(measure(lab, plan, threshold, compared, results), instead_of=first)
    suspects = first.suspects()
    if not suspects:
        return [first]
    say(f"measuring again with fresh processes: {', '.join(suspects)}")
    part = only(plan, suspects, threshold, plan.seed + 2)
    share = len(suspects) / max(1, len(stats.against_reference(plan)))
    return [first, replace(measure(lab, part, threshold, compared, results), share=share)]


def judged(result: Result, threshold: float, compared: Compared) -> Round:
    """A finished run as a round."""
    samples = read_samples(result.run_dir).samples
    run = compare.Measured(result.run_dir.name, result.plan, samples)
    return Round(
        result.run_dir.name,
        tuple(verdict.judge(compared(run), threshold)),
        broken(run),
        result.untrusted,
        result.outcome.measure_wall_s,
        result.outcome.stop_reason,
        control.lacking(result.plan, samples, threshold),
        growth=control.growth(result.plan, samples, threshold),
    )


def broken(run: compare.Measured) -> dict[str, str]:
    """The cells that fail, or send wrong bytes, while what they are compared with does not.

    Not those in which other servers worked all the time: that is no fault of theirs.
    """
    out = {sample.cell for sample in run.samples if sample.status is not Status.OK}
    return {
        cell.id: trouble
        for base, cell in stats.against_reference(run.plan)
        if cell.id in out
        and run.trouble(base) is None
        and (trouble := run.trouble(cell)) is not None
    }


def usable(run: compare.Measured) -> bool:
    """Whether anything at all was measured."""
    return any(sample.status is Status.OK for sample in run.samples)


# --- deciding ------------------------------------------------------------------------------------


def decide(first: Round, again: Round | None) -> list[CellOutcome]:
    """The outcome of every cell of the first round; `again` has measured its suspects anew."""
    suspects = set(first.suspects())
    return [
        _decide_suspect(one, first, again) if one.name in suspects else _decide_plain(one, first)
        for one in first.verdicts
    ]


def _decide_plain(one: Verdict, first: Round) -> CellOutcome:
    if one.effect is Effect.UNCLEAR:
        return _unclear(one, None, first, one.reason or "")
    if first.doubt is not None:
        return _unclear(one, None, first, first.doubt, doubted=True)
    return CellOutcome(one.name, one.workload, Final.PASS, one)


def _decide_suspect(one: Verdict, first: Round, again: Round | None) -> CellOutcome:
    found = again.verdict(one.name) if again is not None else None
    if again is None or found is None:
        return _unclear(one, None, first, "it was not measured again")
    failed_first, failed_again = first.broken.get(one.name), again.broken.get(one.name)
    if failed_again is not None:
        return CellOutcome(one.name, one.workload, Final.REGRESSION, one, found, failed_again)
    if failed_first is not None:
        return _unclear(one, found, again, f"it failed once and not again: {failed_first}")
    if again.doubt is not None:
        return _unclear(one, found, again, again.doubt, doubted=True)
    if found.effect is Effect.SLOWER and first.doubt is not None:
        return _unclear(one, found, first, f"slower, but first {first.doubt}", doubted=True)
    if found.effect is Effect.SLOWER:
        return CellOutcome(one.name, one.workload, Final.REGRESSION, one, found, "slower, twice")
    if found.effect is Effect.SAME:
        why = "slower once, the same with fresh processes"
        return CellOutcome(one.name, one.workload, Final.PASS, one, found, why)
    why = f": {found.reason}" if found.reason else ""
    return _unclear(one, found, again, f"slower once, then {found.effect}{why}")


def _unclear(
    one: Verdict, found: Verdict | None, last: Round, reason: str, doubted: bool = False
) -> CellOutcome:
    """An unclear cell, with the time that would have told where the noise says it.

    A budget is that of the whole plan, also where a part of it was measured. `doubted`: it is the
    round that is in doubt.
    """
    judged_last, times = found or one, []
    if judged_last.required_blocks is not None and judged_last.estimate is not None:
        times.append(judged_last.required_blocks / max(1, judged_last.estimate.blocks))
    if last.growth is not None and last.untrusted is None and (doubted or times):
        times.append(last.growth)
    budget_s = last.measured_s / last.share * max(times) if times else None
    if budget_s is not None:
        reason = f"{reason}; a budget of about {format_duration(budget_s)} would do"
    return CellOutcome(one.name, one.workload, Final.UNCLEAR, one, found, reason, budget_s)


def exit_code(outcomes: Sequence[CellOutcome]) -> int:
    """0 when every cell passes, 1 for a regression, 2 when that cannot be told."""
    finals = {one.final for one in outcomes}
    if Final.REGRESSION in finals:
        return 1
    return 0 if finals == {Final.PASS} else 2
