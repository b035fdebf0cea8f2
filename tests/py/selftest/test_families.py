"""Gates of several comparisons, and gates that end by the rule, drawn from made-up sessions."""

from __future__ import annotations

import itertools
import math
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from madeup import session, sound_slice

from iolab import control, gate, verdict
from iolab.matrix import load_plan
from iolab.model import Cell, Plan, Sample, Server, Workload
from iolab.selftest import by_rule, resample
from iolab.selftest.by_rule import SLICES, draw_by_rule
from iolab.selftest.model import FAMILY, Session
from iolab.selftest.recordings import Recordings, noise
from iolab.specs import Offer
from iolab.stopping import Rule

WORKLOAD = Workload("w", 1000, 1)


def test_a_family_is_as_large_as_the_gate_that_is_run_unless_told_otherwise(
    offer: Offer, house_root: Path
) -> None:
    plan = load_plan(house_root / "workloads/gate.toml", offer)
    assert len([cell for cell in plan.cells if cell.server.kind == "engine"]) == FAMILY


def test_comparisons_of_a_family_are_judged_together_and_come_from_sessions_of_their_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    recordings = Recordings([session(seed) for seed in range(12)])
    families: list[int] = []
    judge = verdict.judge

    def spy(comparisons: Any, threshold: float) -> Any:
        families.append(len(comparisons))
        return judge(comparisons, threshold)

    measured, rounds = resample.measured, []

    def keep(found: Any, names: Any, percents: Any, places: Any, threshold: float) -> Any:
        rounds.append([place[0][0] for place in places])
        return measured(found, names, percents, places, threshold)

    monkeypatch.setattr(verdict, "judge", spy)
    monkeypatch.setattr(resample, "measured", keep)
    drawn = resample.draw(recordings, 20, 40, 0.05, 20, 1, FAMILY)
    assert drawn is not None
    assert set(families) == {FAMILY, 1}  # all of them, then the one suspect
    assert all(len(set(sessions)) == len(sessions) for sessions in rounds)
    # The suspect is cell 0, which is measured again with other processes.
    again = [(one[0], two[0]) for one, two in itertools.pairwise(rounds) if len(two) < 2]
    assert len(again) == 20
    assert all(first != second for first, second in again)
    assert drawn.found.share == 1.0
    assert (drawn.alarms.nr, drawn.accused.hits) == (5 * 20, 0)


def test_verdicts_of_a_family_are_harder_to_get() -> None:
    recordings = Recordings([session(seed, spread=0.08) for seed in range(20)])
    one = resample.draw(recordings, 10, 45, 0.1, 100, 1)
    six = resample.draw(recordings, 10, 45, 0.1, 100, 1, FAMILY)
    assert one is not None
    assert six is not None
    assert six.found.share < one.found.share - 0.05
    assert six.comparisons == 6


def test_false_alarms_of_a_family_count_by_comparison_and_by_gate() -> None:
    """One session of twelve has a twin that is 20% off: where it plays, it is an alarm."""
    lucky = [session(0, luck=0.2), *(session(seed) for seed in range(1, 12))]
    drawn = resample.draw(Recordings(lucky), 0, 40, 0.05, 200, 1, FAMILY)
    assert drawn is not None
    assert drawn.alarms.nr == 6 * 200
    assert drawn.alarmed.nr == 200
    assert drawn.alarms.hits == drawn.alarmed.hits  # never two of it in a gate
    assert 0.35 < drawn.alarmed.share < 0.65
    assert drawn.wrong == drawn.alarms
    assert drawn.found.hits == drawn.accused.hits == 0  # it reads as faster


def test_a_gate_whose_pair_shows_nothing_finds_nothing() -> None:
    """As in a real one: see control.lacking."""
    calm = [session(seed, spread=0.01) for seed in range(4)]
    noisy = [
        Session(np.random.default_rng(at).normal(0, 0.5, 60), one.planted, 0.2)
        for at, one in enumerate(calm)
    ]
    seeing = resample.draw(Recordings(calm), 20, 40, 0.05, 20, 1)
    blind = resample.draw(Recordings(noisy), 20, 40, 0.05, 20, 1)
    assert seeing is not None
    assert blind is not None
    assert (seeing.found.share, blind.found.share, blind.unclear.share) == (1.0, 0.0, 1.0)


def runner_stops(twin: list[float], new: list[float], rule: Rule, block_s: float) -> int:
    """After how many blocks a run of these log ratios ends, asked as the runner asks."""
    servers = Server("engine", "a"), Server("engine", "a", twin=True), Server("engine", "b")
    plan = Plan("p", "", "a", tuple(Cell(s, WORKLOAD) for s in servers), confidence=0.99, seed=0)
    plan = replace(plan, threshold=0.05)
    samples: list[Sample] = []
    for block, logs in enumerate(zip(itertools.repeat(0.0), [*twin, 0.0], [*new, 0.0])):

        def known(enough: float) -> bool:
            return control.known(plan, samples, enough)

        if rule.stop(block, block * block_s, block_s, known) is not None:
            return block
        for cell, log in zip(plan.cells, logs, strict=True):
            samples.append(sound_slice(block, cell.id, 1e6 * math.exp(log)))
    raise AssertionError("it never stopped")


def disturbed(one: Session, every: int) -> Session:
    """The same, with a base that stands still in some of the blocks."""
    for logs in one.planted.values():
        logs[every - 1 :: every] += 1.0
    return one


@pytest.mark.parametrize(
    ("spread", "every", "budget_s"),
    [(0.02, 120, 60.0), (0.05, 120, 60.0), (0.05, 120, 20.0), (0.005, 6, 60.0)],
)
def test_gates_drawn_by_the_rule_end_where_the_runner_would(
    spread: float, every: int, budget_s: float
) -> None:
    rule = gate.rule_for(1, 0.05, budget_s)
    sessions = [session(seed, blocks=120, spread=spread) for seed in range(4)]
    recordings = Recordings([disturbed(one, every) for one in sessions])
    for at in range(4):
        found = by_rule._walk(recordings, 10, rule, 0.05, [at], 0)
        blocks = sum(nr for _, _, nr in found.place)
        one = recordings.sessions[at]
        assert not found.unfinished
        assert blocks == runner_stops(
            one.twin.tolist(), one.planted[10].tolist(), rule, SLICES * 0.2
        )


def test_a_budget_ends_what_stays_wide() -> None:
    recordings = Recordings([session(seed, blocks=80, spread=0.5) for seed in range(3)])
    drawn = draw_by_rule(recordings, 10, 30.3, 0.05, 20, 1)
    assert drawn is not None
    assert (drawn.blocks, drawn.seconds, drawn.unclear.share) == (50, pytest.approx(30.0), 1.0)
    assert (drawn.outlasting.hits, drawn.unfinished.hits, drawn.disjoint) == (0, 0, 3)
    assert drawn.budget_s == 30.3
    assert draw_by_rule(Recordings([session(1)]), 10, 30.0, 0.05, 20, 1) is None


def test_precision_ends_a_gate_long_before_its_budget() -> None:
    recordings = Recordings([session(seed, blocks=80, spread=0.01) for seed in range(8)])
    drawn = draw_by_rule(recordings, 10, 3600.0, 0.05, 40, 1)
    assert drawn is not None
    assert drawn.blocks < 40
    assert drawn.found.share == 1.0


def test_a_gate_that_outlasts_its_session_goes_on_in_others_and_says_so() -> None:
    recordings = Recordings([session(seed, blocks=30, spread=0.5) for seed in range(3)])
    rng = random.Random(1)
    for budget_s, blocks, unfinished in ((36.3, 60, False), (60.0, 90, True)):
        take = by_rule._until(recordings, gate.rule_for(1, 0.05, budget_s), 0.05, rng)
        (stretch,) = take([10], [{1}])
        assert sum(nr for _, _, nr in stretch.place) == blocks
        sessions = [at for at, _, _ in stretch.place]
        assert len(set(sessions)) == len(sessions)
        assert sessions[0] != 1  # used before: not while there is another
        assert stretch.unfinished is unfinished
        drawn = draw_by_rule(recordings, 10, budget_s, 0.05, 10, 1)
        assert drawn is not None
        assert drawn.outlasting.share == 1.0
        assert drawn.unfinished.share == float(unfinished)
        assert drawn.disjoint == 90 // blocks


def test_joined_pieces_are_read_in_their_order() -> None:
    recordings = Recordings([Session(np.arange(10.0) + 100 * at, {}, 0.2) for at in range(3)])
    assert recordings.logs(0, ((2, 8, 2), (0, 0, 3))).tolist() == [208, 209, 0, 1, 2]


def test_noise_between_sessions_is_laid_beside_what_chance_explains() -> None:
    alike = noise([session(seed) for seed in range(40)])
    assert 0.5 < alike["between_sessions"] / alike["by_chance"] < 1.6
    unlike = noise([session(seed, luck=0.05 * (-1) ** seed) for seed in range(40)])
    assert unlike["between_sessions"] > 5 * unlike["by_chance"]
