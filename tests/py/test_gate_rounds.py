"""What two rounds of measuring amount to: what passes, what is a regression, what is unclear."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from fakegate import found, matrix, offer, rounds

from iolab import compare, gate
from iolab.errors import IolabError
from iolab.gate import Final, Round, decide, exit_code, gate_plan
from iolab.model import Sample, Status
from iolab.verdict import Comparison, Effect, Verdict, judge, paired


@pytest.mark.parametrize(
    ("first", "again", "final", "code"),
    [
        (Effect.SAME, None, Final.PASS, 0),
        (Effect.FASTER, None, Final.PASS, 0),
        (Effect.UNCLEAR, None, Final.UNCLEAR, 2),
        (Effect.SLOWER, Effect.SLOWER, Final.REGRESSION, 1),
        (Effect.SLOWER, Effect.SAME, Final.PASS, 0),
        (Effect.SLOWER, Effect.UNCLEAR, Final.UNCLEAR, 2),
        (Effect.SLOWER, Effect.FASTER, Final.UNCLEAR, 2),
        (Effect.SLOWER, None, Final.UNCLEAR, 2),
    ],
)
def test_slower_counts_when_it_is_said_twice(
    first: Effect, again: Effect | None, final: Final, code: int
) -> None:
    outcomes = rounds(first, again)
    assert [one.final for one in outcomes] == [final]
    assert exit_code(outcomes) == code


def test_an_unclear_cell_says_what_budget_would_do() -> None:
    (one,) = rounds(Effect.UNCLEAR, None)
    assert one.budget_s is not None
    assert one.budget_s > 30
    assert "a budget of about" in one.reason


def test_why_the_second_measurement_could_not_tell_is_said() -> None:
    (one,) = rounds(Effect.SLOWER, Effect.UNCLEAR)
    assert one.reason.startswith("slower once, then unclear: the interval is +-")


def test_nothing_compared_is_no_pass() -> None:
    assert exit_code([]) == 2


def test_an_untrusted_round_passes_nothing_and_condemns_nothing() -> None:
    doubtful = Round("r1", (found(Effect.SAME),), untrusted="a#2 to a: 0.9")
    (one,) = decide(doubtful, None)
    assert (one.final, "untrusted" in one.reason) == (Final.UNCLEAR, True)
    slower = Round("r1", (found(Effect.SLOWER),))
    again = Round("r2", (found(Effect.SLOWER),), untrusted="a#2 to a: 0.9")
    assert decide(slower, again)[0].final is Final.UNCLEAR
    twice = decide(replace(slower, untrusted="a#2 to a: 0.9"), replace(again, untrusted=None))[0]
    assert (twice.final, "first untrusted" in twice.reason) == (Final.UNCLEAR, True)


def test_a_round_without_a_a_evidence_decides_nothing() -> None:
    blind = "no A/A evidence: base/a#2@1KiB: 4 blocks are too few"
    (one,) = decide(Round("r1", (found(Effect.SAME),), unproven=blind), None)
    assert (one.final, one.reason) == (Final.UNCLEAR, blind)
    slower, again = Round("r1", (found(Effect.SLOWER),)), Round("r2", (found(Effect.SLOWER),))
    for pair in (
        (replace(slower, unproven=blind), again),
        (slower, replace(again, unproven=blind)),
    ):
        (one,) = decide(*pair)
        assert (one.final, blind in one.reason) == (Final.UNCLEAR, True)


def test_evidence_that_more_time_would_have_given_names_it() -> None:
    """The pairs of the first round would have shown enough in three times its 30 s."""
    few = "no A/A evidence: base/a#2@1KiB: 4 blocks are too few"
    lacks = Round("r1", (found(Effect.SAME),), measured_s=30.0, unproven=few, growth=3.0)
    (one,) = decide(lacks, None)
    assert one.budget_s == pytest.approx(90.0)
    assert one.reason == f"{few}; a budget of about 2 min would do"
    # Untrusted is no matter of time.
    assert decide(replace(lacks, untrusted="a#2 to a: 0.9"), None)[0].budget_s is None
    again = Round("r2", (found(Effect.SLOWER),), measured_s=10.0)
    (late,) = decide(replace(lacks, verdicts=(found(Effect.SLOWER),)), again)
    assert late.budget_s == pytest.approx(90.0)
    # An unclear cell needs its own blocks as well as those of the pair.
    (vague,) = decide(replace(lacks, verdicts=(found(Effect.UNCLEAR),), growth=1e6), None)
    assert vague.budget_s == pytest.approx(30e6)


def test_a_budget_is_that_of_the_whole_plan() -> None:
    """The second round measured a third of the comparisons in 30 s; the budget is for all."""
    first = Round("r1", (found(Effect.SLOWER),), measured_s=90.0)
    again = Round("r2", (found(Effect.UNCLEAR),), measured_s=30.0)
    (whole,), (part,) = decide(first, again), decide(first, replace(again, share=1 / 3))
    assert whole.budget_s is not None
    assert part.budget_s == pytest.approx(3 * whole.budget_s)


@pytest.mark.parametrize(
    "condition", [{}, {"profile": "throughput"}, {"testbed": "netns"}], ids=str
)
def test_whatever_surrounds_a_cell_its_verdict_is_found_again(condition: dict[str, Any]) -> None:
    """Verdicts, failures and plans name a cell alike: by its id, with profile and testbed."""
    plan = gate_plan(matrix("a"), offer(), (), 0.05, None)
    plan = replace(plan, cells=tuple(replace(cell, **condition) for cell in plan.cells))
    dead = plan.cells[1].id
    samples = tuple(
        Sample(0, 0, cell.id, Status.FAILED if cell.id == dead else Status.OK, "died", 0, 1)
        for cell in plan.cells
    )
    run = compare.Measured("r", plan, samples)
    judged = tuple(judge(compare.against_references(run)))
    first = Round("r1", judged, gate.broken(run))
    assert first.suspects() == [dead]
    assert {cell.id for cell in gate.only(plan, first.suspects(), 0.05, 1).cells} == {
        plan.cells[0].id, dead,
    }  # fmt: skip
    outcomes = decide(first, Round("r2", judged, gate.broken(run)))
    assert [one.final for one in outcomes if one.name == dead] == [Final.REGRESSION]
    with pytest.raises(IolabError, match="nobody: no comparison of gate"):
        gate.only(plan, ["nobody"], 0.05, 1)


def test_a_candidate_that_fails_twice_is_a_regression() -> None:
    name = "candidate/a@1KiB"
    bad = Verdict(name, "base/a", "candidate/a", "1KiB", Effect.UNCLEAR, 0.99, 0.05)
    first = Round("r1", (bad,), {name: "died"})
    assert first.suspects() == [name]
    assert decide(first, Round("r2", (bad,), {name: "died"}))[0].final is Final.REGRESSION
    once = decide(first, Round("r2", (found(Effect.SAME),)))[0]
    assert (once.final, "failed once" in once.reason) == (Final.UNCLEAR, True)


def test_broken_is_the_candidates_failure_and_not_the_baselines() -> None:
    plan = gate_plan(matrix("a", "b"), offer(), (), 0.05, None)
    bad = {"candidate/a@1KiB", "base/b@1KiB", "candidate/b@1KiB"}
    samples = tuple(
        Sample(0, 0, cell.id, Status.INVALID if cell.id in bad else Status.OK, "short", 0, 1)
        for cell in plan.cells
    )
    broken = gate.broken(compare.Measured("r", plan, samples))
    assert list(broken) == ["candidate/a@1KiB"]
    assert "invalid: short" in broken["candidate/a@1KiB"]


def test_gates_of_a_regression_find_it_and_those_of_none_pass() -> None:
    rng = np.random.default_rng(9)

    def one(ratio: float) -> int:
        pair = []
        for name in ("r1", "r2"):
            logs = list(math.log(ratio) + rng.normal(0, 0.04, 60))
            compared = Comparison("base/a", "candidate/a", "1KiB", paired(logs))
            pair.append(Round(name, tuple(judge([compared])), measured_s=60))
        return exit_code(decide(*pair))

    assert [one(1 / 1.1) for _ in range(40)].count(1) >= 38
    assert [one(1.0) for _ in range(40)].count(1) == 0


def measured(
    shares: dict[str, tuple[float, float]], nr: int = 30, ratio: float = 1.0
) -> compare.Measured:
    """A gate's run; of the servers (base, candidate) client and server CPU, and what sets them
    apart."""
    plan = gate_plan(matrix("a"), offer(), (), 0.05, None)
    plan = replace(plan, cells=plan.cells[:2])
    rng = np.random.default_rng(4)
    samples = []
    for block in range(nr):
        for order, cell in enumerate(plan.cells):
            client, server = shares[cell.server.label]
            speed = ratio if cell.server.label.startswith("candidate") else 1.0
            done = int(100_000 * speed * math.exp(rng.normal(0, 0.01)))
            counted = {"ns": 10**9, "requests": done, "body_bytes": done * 1024}
            cpu = {"client_ns": 1, "client_share": client, "server_ns": int(server * 1e9)}
            load = {"window": counted, "total": counted, "errors": {}, "cpu": cpu}
            samples.append(Sample(block, order, cell.id, Status.OK, None, 0, 1, load))
    return compare.Measured("r", plan, tuple(samples))


@pytest.mark.parametrize("limited", ["base/a", "candidate/a"])
@pytest.mark.parametrize("cpu", [(0.99, 0.5), (0.99, 0.985)])
def test_a_client_that_is_used_up_passes_nothing(limited: str, cpu: tuple[float, float]) -> None:
    sound = {"base/a": (0.7, 0.99), "candidate/a": (0.7, 0.99)}
    (passed,) = judge(compare.against_references(measured(sound)))
    assert passed.effect is Effect.SAME
    (found,) = judge(compare.against_references(measured(sound | {limited: cpu})))
    assert found.effect is Effect.UNCLEAR
    assert f"{limited}@1KiB in r was limited by its client" in (found.reason or "")
    assert exit_code(decide(Round("r", (found,)), None)) == 2


@pytest.mark.parametrize(
    ("limited", "ratio", "effect", "code"),
    [
        ("candidate/a", 0.8, Effect.UNCLEAR, 2),
        ("base/a", 0.8, Effect.SLOWER, 1),
        ("candidate/a", 1.25, Effect.FASTER, 0),
        ("base/a", 1.25, Effect.UNCLEAR, 2),
    ],
)
def test_what_a_client_limits_is_a_lower_bound(
    limited: str, ratio: float, effect: Effect, code: int
) -> None:
    """A candidate whose client was used up is no regression, nor better than such a base."""
    shares = {"base/a": (0.7, 0.99), "candidate/a": (0.7, 0.99)} | {limited: (0.99, 0.5)}
    run = measured(shares, ratio=ratio)
    (found,) = judge(compare.against_references(run))
    assert found.effect is effect
    assert ("was limited by its client" in (found.reason or "")) == (effect is Effect.UNCLEAR)
    rounds_ = [Round(name, (found,)) for name in ("r1", "r2")]
    assert exit_code(decide(rounds_[0], rounds_[1])) == code


def test_slices_that_others_disturbed_are_no_fault_of_the_candidate() -> None:
    run = measured({"base/a": (0.7, 0.99), "candidate/a": (0.7, 0.99)})
    busy = {"bystanders": {"ns": 10**9, "cpu_ns": {"base/a": 5 * 10**8}}}
    samples = tuple(
        replace(one, extra=busy) if one.cell.startswith("candidate") else one for one in run.samples
    )
    run = replace(run, samples=samples)
    (found,) = judge(compare.against_references(run))
    first = Round("r", (found,), gate.broken(run))
    assert (first.broken, first.suspects()) == ({}, [])
    (outcome,) = decide(first, None)
    assert (outcome.final, "another server" in outcome.reason) == (Final.UNCLEAR, True)
