"""Gates drawn to where a real one would end: by the rule of `iolab.stopping`. Pure.

Such a gate is asked before every block whether it stops, as the runner asks: at precision, or when
its budget has no room for another block. It begins where its session has room for the whole budget,
at the first block where none has. One that takes more blocks than its session goes on at the
beginning of another, with that one's processes: what a pair of processes has by chance for life is
then averaged over two and more, which no real gate does. How many gates that concerns is counted.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import numpy as np

from iolab import control, gate, verdict
from iolab.selftest.recordings import Place, Recordings
from iolab.selftest.resample import Drawn, Stretch, Take, one_gate, tally
from iolab.stopping import PAIR_WIDTH, Rule

SLICES = 3
"""Slices of a block: the baseline, its twin, and the candidate."""


_PAIR = 1 - control.ALPHA
"""The confidence of the only A/A pair: see control.py."""


def draw_by_rule(
    recordings: Recordings, percent: int, budget_s: float, threshold: float, nr: int, seed: int
) -> Drawn | None:
    """`nr` gates of one comparison within `budget_s` of measuring; None with a single session."""
    if len(recordings.sessions) < 2:
        return None
    rng = random.Random(f"{seed}:{percent}:{budget_s}:rule")
    take = _until(recordings, gate.rule_for(1, threshold, budget_s), threshold, rng)
    gates = [one_gate(recordings, (percent,), threshold, take) for _ in range(nr)]
    found = tally(gates, (percent,), threshold)
    block_s = SLICES * recordings.second_per_slice
    return replace(
        found,
        seconds=block_s * float(np.median([one.blocks for one in gates])),
        disjoint=_disjoint(recordings, found.blocks),
        budget_s=budget_s,
    )


def _disjoint(recordings: Recordings, blocks: int) -> int:
    """How many such gates share no block; where none fits into a session, of sessions joined."""
    within = recordings.disjoint(max(1, blocks))
    return within or sum(one.blocks for one in recordings.sessions) // max(1, blocks)


def _until(recordings: Recordings, rule: Rule, threshold: float, rng: random.Random) -> Take:
    """Stretches that end by `rule`: see above."""
    most = int(rule.budget_s / (SLICES * recordings.second_per_slice))

    def take(percents: Sequence[int], used: Sequence[set[int]]) -> list[Stretch]:
        found = []
        for percent, mine in zip(percents, used, strict=True):
            order = _order(recordings, rng, mine)
            room = max(0, recordings.sessions[order[0]].blocks - most)
            start = rng.randrange(room + 1)
            found.append(_walk(recordings, percent, rule, threshold, order, start))
        return found

    return take


def _order(recordings: Recordings, rng: random.Random, used: set[int]) -> list[int]:
    """The sessions in random order, those that the gate has used before at the end."""
    found = list(range(len(recordings.sessions)))
    rng.shuffle(found)
    return sorted(found, key=lambda at: at in used)


def _known(
    recordings: Recordings, percent: int, place: Place, threshold: float, enough: float
) -> bool:
    """What control.known asks of a run, of a comparison drawn there."""
    confidence = verdict.confidence_of(1)
    if not recordings.is_narrow(percent, place, confidence, enough):
        return False
    # Where the twin plays the candidate, there is no third server for an A/A pair.
    if percent and not recordings.is_narrow(0, place, _PAIR, PAIR_WIDTH * enough):
        return False
    found = recordings.estimate(percent, place, confidence)
    if found is None:
        return False
    effect = verdict.effect_of(found, found.p_value, confidence, threshold)
    return effect is not verdict.Effect.UNCLEAR


def _walk(
    recordings: Recordings,
    percent: int,
    rule: Rule,
    threshold: float,
    order: Sequence[int],
    start: int,
) -> Stretch:
    """Block after block until the rule ends it, or nothing is left."""
    block_s = SLICES * recordings.second_per_slice
    whole: Place = ()
    blocks = available = 0
    for at in order:
        rest = recordings.sessions[at].blocks - start
        whole = (*whole, (at, start, rest))
        available += rest
        start = 0
        while True:
            place = _leading(whole, blocks)

            narrow = partial(_known, recordings, percent, place, threshold)
            if rule.stop(blocks, blocks * block_s, block_s, narrow) is not None:
                return Stretch(place)
            if blocks == available:
                break
            blocks += 1
    return Stretch(_leading(whole, blocks), unfinished=True)


def _leading(whole: Place, blocks: int) -> Place:
    """The first `blocks` blocks of a place."""
    found: list[tuple[int, int, int]] = []
    for at, first, nr in whole:
        if blocks <= 0:
            break
        found.append((at, first, min(nr, blocks)))
        blocks -= nr
    return tuple(found)
