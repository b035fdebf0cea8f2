"""Gates drawn from recorded sessions, judged by the very code that judges real ones. Pure.

A gate of n blocks is drawn as n neighbouring blocks of one session, all cells of a block together
and none of them twice: so the noise keeps its correlation, and what one pair of processes has by
chance stays in. Drawing with replacement would take a session's own luck for the truth, and raise
false alarms that no gate would. Its second measurement comes from another session: fresh processes,
at another time; what replaces an untrusted first one from a third, where there is one. Draws
overlap, so that their number says less than as many gates would.

The comparisons of a family come from as many sessions. What follows the stopping rule of a real
gate instead of a fixed length is in `by_rule.py`.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from iolab import control, verdict
from iolab.gate import CellOutcome, Final, Round, decide, exit_code
from iolab.selftest.model import Rate
from iolab.selftest.recordings import Place, Recordings
from iolab.verdict import Comparison, Effect

_NONE = Rate(0, 0)


@dataclass(frozen=True)
class Drawn:
    """What drawn gates did at one planted slowdown (0: none), in the first of `comparisons` cells.

    `budget_s` is None for gates of a fixed length; `blocks` and `seconds` (of measuring a cell) are
    those of the first measurement, the median where they vary. `disjoint` is how many stretches of
    that length share no block: what the draws rest upon, however many they are.

    `found` are gates that call the planted cell a regression, `unclear` those that cannot tell of
    it; all others missed it. Of gates without a slowdown it is those that end with 1, and with 2.

    Of equal servers alone: `alarms` are single comparisons that read as faster or slower, `alarmed`
    gates with at least one, and `accused` gates that end by calling one a regression. `wrong` are
    comparisons that are clear and not true: see `is_wrong`. `outlasting` are gates that took more
    blocks than their session has, `unfinished` those for which all sessions were not enough.
    """

    percent: int
    blocks: int
    seconds: float
    found: Rate
    unclear: Rate
    alarms: Rate
    wrong: Rate
    disjoint: int
    comparisons: int = 1
    budget_s: float | None = None
    alarmed: Rate = _NONE
    accused: Rate = _NONE
    outlasting: Rate = _NONE
    unfinished: Rate = _NONE

    @property
    def label(self) -> str:
        """Which gates of a curve these are."""
        return f"at {self.blocks} blocks" if self.budget_s is None else f"in {self.budget_s:g} s"


@dataclass(frozen=True)
class Stretch:
    """Where a measurement was drawn, and what of it counts besides: see Drawn."""

    place: Place
    unfinished: bool = False


Take = Callable[[Sequence[int], Sequence[set[int]]], list[Stretch]]
"""Draws a measurement: a stretch for each planted percent, away from the sessions used before."""


@dataclass(frozen=True)
class DrawnGate:
    """One drawn gate: the measurement that its first verdicts are of, and its outcomes."""

    first: Round
    outcomes: tuple[CellOutcome, ...]
    blocks: int
    outlasting: bool
    unfinished: bool


def draw(
    recordings: Recordings,
    percent: int,
    blocks: int,
    threshold: float,
    nr: int,
    seed: int,
    comparisons: int = 1,
) -> Drawn | None:
    """`nr` gates of `blocks` blocks; None when fewer sessions than two a comparison are as long."""
    if len(recordings.with_blocks(blocks)) < 2 * comparisons:
        return None
    rng = random.Random(f"{seed}:{percent}:{blocks}:{comparisons}")
    take = _fixed(recordings, blocks, rng)
    percents = (percent, *[0] * (comparisons - 1))
    gates = [one_gate(recordings, percents, threshold, take) for _ in range(nr)]
    found = tally(gates, percents, threshold)
    # a gate's block has three slices a comparison: base, its twin, candidate
    seconds = 3 * blocks * recordings.second_per_slice
    return replace(found, seconds=seconds, disjoint=recordings.disjoint(blocks))


def _fixed(recordings: Recordings, blocks: int, rng: random.Random) -> Take:
    """Stretches of `blocks` blocks, each of another session.

    They begin at multiples of a third of their length: one block further is hardly another draw.
    """
    usable = recordings.with_blocks(blocks)

    def take(percents: Sequence[int], used: Sequence[set[int]]) -> list[Stretch]:
        taken: set[int] = set()
        found = []
        for mine in used:
            rest = [at for at in usable if at not in taken]
            session = rng.choice([at for at in rest if at not in mine] or rest)
            taken.add(session)
            last = recordings.sessions[session].blocks - blocks
            start = rng.randrange(0, last + 1, max(1, blocks // 3))
            found.append(Stretch(((session, start, blocks),)))
        return found

    return take


def one_gate(
    recordings: Recordings, percents: Sequence[int], threshold: float, take: Take
) -> DrawnGate:
    """A gate as `gate.rounds` measures and `gate.decide` judges it, with drawn measurements."""
    names = {_name(at): at for at in range(len(percents))}
    used: list[set[int]] = [set() for _ in percents]
    drawn: list[list[Stretch]] = []

    def measure(wanted: Sequence[str]) -> Round:
        which = [names[name] for name in wanted]
        mine = [percents[at] for at in which]
        stretches = take(mine, [used[at] for at in which])
        for at, stretch in zip(which, stretches, strict=True):
            used[at].update(session for session, _, _ in stretch.place)
        drawn.append(stretches)
        places = [stretch.place for stretch in stretches]
        return measured(recordings, wanted, mine, places, threshold)

    first = measure(list(names))
    if first.untrusted is not None:
        first = replace(measure(list(names)), instead_of=first)
    of_first = drawn[-1]
    suspects = first.suspects()
    again: Round | None = None
    if suspects:
        again = replace(measure(suspects), share=len(suspects) / len(percents))
    everything = [stretch for round_ in drawn for stretch in round_]
    return DrawnGate(
        first,
        tuple(decide(first, again)),
        blocks=sum(blocks for _, _, blocks in of_first[0].place),
        outlasting=any(len(stretch.place) > 1 for stretch in everything),
        unfinished=any(stretch.unfinished for stretch in everything),
    )


def measured(
    recordings: Recordings,
    names: Sequence[str],
    percents: Sequence[int],
    places: Sequence[Place],
    threshold: float,
) -> Round:
    """One measurement, judged as a family; its A/A pairs are those of the slowed servers.

    Where the twin plays the candidate, there is no third server to be its A/A pair.
    """
    comparisons = [
        Comparison("base", name, "drawn", partial(recordings.estimate, percent, place), cell=name)
        for name, percent, place in zip(names, percents, places, strict=True)
    ]
    verdicts = tuple(verdict.judge(comparisons, threshold))
    pairs = [place for percent, place in zip(percents, places, strict=True) if percent]
    untrusted, unproven = _doubts(recordings, pairs, len(names), threshold)
    return Round("drawn", verdicts, untrusted=untrusted, unproven=unproven)


def _doubts(
    recordings: Recordings, pairs: Sequence[Place], family: int, threshold: float
) -> tuple[str | None, str | None]:
    """What a gate says of its A/A pairs: that one differs, that one shows nothing; see control.py.

    Each is corrected for a `family` of pairs, of which those that are not here would not differ.
    """
    untrusted = unproven = None
    confidence = 1 - control.ALPHA / family
    for place in pairs:
        found = recordings.estimate(0, place, confidence)
        if found is None:
            return None, "no A/A evidence"
        if control.differs(found, min(1.0, family * found.p_value), confidence, threshold):
            untrusted = "the A/A pair differs"
        unproven = unproven or control.powerless(found, confidence, threshold)
    return untrusted, unproven


def tally(gates: Sequence[DrawnGate], percents: Sequence[int], threshold: float) -> Drawn:
    """The shares of what gates did; time and what they rest upon are left to be filled in."""
    planted = percents[0]
    of = {_name(at): percent for at, percent in enumerate(percents)}
    equal = [[one.effect for one in gate.first.verdicts if not of[one.name]] for gate in gates]
    alarms = [sum(one in (Effect.SLOWER, Effect.FASTER) for one in effects) for effects in equal]
    accused = [
        any(one.final is Final.REGRESSION and not of[one.name] for one in gate.outcomes)
        for gate in gates
    ]
    wrong = [
        is_wrong(one.effect, of[one.name], threshold)
        for gate in gates
        for one in gate.first.verdicts
    ]
    answers = [_answer(gate, planted) for gate in gates]
    nr, nr_equal = len(gates), sum(map(len, equal))
    some = nr if nr_equal else 0
    return Drawn(
        planted,
        blocks=int(np.median([gate.blocks for gate in gates])),
        seconds=0.0,
        found=Rate(answers.count(1), nr),
        unclear=Rate(answers.count(2), nr),
        alarms=Rate(sum(alarms), nr_equal),
        wrong=Rate(sum(wrong), len(wrong)),
        disjoint=0,
        comparisons=len(percents),
        alarmed=Rate(sum(count > 0 for count in alarms), some),
        accused=Rate(sum(accused), some),
        outlasting=Rate(sum(gate.outlasting for gate in gates), nr),
        unfinished=Rate(sum(gate.unfinished for gate in gates), nr),
    )


def _name(at: int) -> str:
    return f"candidate-{at}"


def _answer(gate: DrawnGate, planted: int) -> int:
    """The exit status of a gate, of its planted cell alone where it has one."""
    return exit_code(gate.outcomes[:1] if planted else gate.outcomes)


def is_wrong(effect: Effect, percent: int, threshold: float) -> bool:
    """Whether a clear verdict is not true: `same` of a slowdown beyond the threshold is not.

    Of a slowdown as large as the threshold either is fair: the truth lies on the border.
    """
    if effect is Effect.SAME:
        return percent > 100 * threshold + 1e-9
    return effect is Effect.FASTER or (effect is Effect.SLOWER and percent == 0)
