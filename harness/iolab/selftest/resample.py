"""Gates drawn from recorded sessions, judged by the very code that judges real ones. Pure.

A gate of n blocks is drawn as n neighbouring blocks of one session, all cells of a block together
and none of them twice: so the noise keeps its correlation, and what one pair of processes has by
chance stays in. Drawing with replacement would take a session's own luck for the truth, and raise
false alarms that no gate would. Its second measurement comes from another session: fresh processes,
at another time; what replaces an untrusted first one from a third, where there is one. Draws
overlap, so that their number says less than as many gates would.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from iolab import control, stats, verdict
from iolab.gate import Round, decide, exit_code
from iolab.selftest.model import Logs, Rate, Session
from iolab.verdict import Comparison, Effect, Verdict

NAME = "candidate@selftest"


@dataclass(frozen=True)
class Drawn:
    """What gates of `blocks` blocks did at one planted slowdown.

    `alarms` are single comparisons that read as faster or slower, `wrong` those that are clear and
    not true: see `is_wrong`. `disjoint` is how many stretches of that length share no block: what
    the draws rest upon, however many they are. `found` are gates that end with 1, `unclear` those
    that end with 2; of a slowdown, all others missed it: they said `same`.
    """

    percent: int
    blocks: int
    seconds: float
    found: Rate
    unclear: Rate
    alarms: Rate
    wrong: Rate
    disjoint: int


def draw(
    sessions: Sequence[Session], percent: int, blocks: int, threshold: float, nr: int, seed: int
) -> Drawn | None:
    """`nr` gates of `blocks` blocks, None when no session is that long or there is but one."""
    usable = [one for one in sessions if one.blocks >= blocks]
    if len(usable) < 2:
        return None
    rng = random.Random(f"{seed}:{percent}:{blocks}")
    codes: list[int] = []
    effects: list[Effect] = []
    for _ in range(nr):
        first, again = rng.sample(usable, 2)
        one = _round(first, percent, blocks, threshold, rng)
        if one.untrusted is not None:
            fresh = [other for other in usable if other is not first and other is not again]
            one = _round(rng.choice(fresh or [first]), percent, blocks, threshold, rng)
        two = _round(again, percent, blocks, threshold, rng) if one.suspects() else None
        codes.append(exit_code(decide(one, two)))
        effects.append(one.verdicts[0].effect)
    second = sorted(one.second_per_slice for one in usable)[len(usable) // 2]
    return Drawn(
        percent,
        blocks,
        3 * blocks * second,  # a gate's block has three slices: base, its twin, candidate
        found=Rate(codes.count(1), nr),
        unclear=Rate(codes.count(2), nr),
        alarms=Rate(sum(one in (Effect.SLOWER, Effect.FASTER) for one in effects), nr),
        wrong=Rate(sum(is_wrong(one, percent, threshold) for one in effects), nr),
        disjoint=disjoint(usable, blocks),
    )


def is_wrong(effect: Effect, percent: int, threshold: float) -> bool:
    """Whether a clear verdict is not true: `same` of a slowdown beyond the threshold is not.

    Of a slowdown as large as the threshold either is fair: the truth lies on the border.
    """
    if effect is Effect.SAME:
        return percent > 100 * threshold + 1e-9
    return effect is Effect.FASTER or (effect is Effect.SLOWER and percent == 0)


def _round(
    session: Session, percent: int, blocks: int, threshold: float, rng: random.Random
) -> Round:
    """One measurement of a gate: a stretch of the session, its A/A pair beside it."""
    start = rng.randrange(session.blocks - blocks + 1)
    stretch = slice(start, start + blocks)
    series = session.planted[percent] if percent else session.twin
    found = judge_one(series[stretch], threshold)
    # Where the twin plays the candidate, there is no third server to be its A/A pair.
    doubt = untrusted(session.twin[stretch]) if percent else None
    return Round("drawn", (found,), untrusted=doubt)


def judge_one(logs: Logs, threshold: float) -> Verdict:
    """The verdict on a single comparison, as a gate of one cell gives it."""
    compared = Comparison("base", "candidate", "selftest", verdict.paired(list(logs)))
    return verdict.judge([compared], threshold)[0]


def untrusted(logs: Logs) -> str | None:
    """What a gate says of an A/A pair, None when it finds nothing."""
    found = stats.estimate(list(logs), 0, 1 - control.ALPHA)
    if found is None:
        return None
    effect = verdict.effect_of(found, found.p_value, 1 - control.ALPHA, 1e-9, control.ALPHA)
    return "the A/A pair differs" if effect in (Effect.SLOWER, Effect.FASTER) else None


def disjoint(sessions: Sequence[Session], blocks: int) -> int:
    """How many stretches of `blocks` blocks share none: what the draws rest upon."""
    return sum(one.blocks // blocks for one in sessions)
