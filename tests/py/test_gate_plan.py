"""What a gate measures: which cells of both builds, how precisely, and what it leaves out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import pytest
from fakegate import SMALL, engine, matrix, offer

from iolab import compare, gate, verdict
from iolab.describe import Describe
from iolab.errors import InputError
from iolab.gate import gate_plan
from iolab.gate_pairs import BASE, CANDIDATE, pair_up, with_those_of
from iolab.model import Cell, Server
from iolab.specs import Offer


def test_a_gate_measures_both_builds_of_every_engine_and_no_peer() -> None:
    plan = gate_plan(matrix("a", "b"), offer(), (), 0.05, None)
    assert [cell.id for cell in plan.cells if cell.workload == SMALL] == [
        "base/a@1KiB", "candidate/a@1KiB", "base/b@1KiB", "candidate/b@1KiB",
    ]  # fmt: skip
    assert plan.reference(plan.cell("candidate/b@1KiB")) == "base/b"
    assert plan.slice_ms == 150
    assert not plan.wrk_check


def test_a_gate_measures_to_half_the_threshold_at_the_familys_confidence() -> None:
    plan = gate_plan(matrix("a", "b"), offer(), (), 0.05, None)
    assert plan.precision is not None
    assert math.log1p(plan.precision) == pytest.approx(math.log(1.05) / 2)
    assert plan.confidence == pytest.approx(1 - 0.01 / 4)
    assert plan.budget_s == 4 * gate.BUDGET_S
    nr = plan.min_blocks  # the first that gives an interval of that confidence
    assert 1 - 2 * 0.5**nr >= plan.confidence > 1 - 2 * 0.5 ** (nr - 1)
    assert gate_plan(matrix("a"), offer(), (), 0.05, 33.0).budget_s == 33.0


def test_confidence_is_shared_by_the_family() -> None:
    assert verdict.confidence_of(1) == 0.99
    assert verdict.confidence_of(10) == pytest.approx(0.999)


def test_what_is_new_in_the_candidate_is_left_out_with_a_reason() -> None:
    both = offer(base=("a",))
    plan = gate_plan(matrix("a", "b"), both, (), 0.05, None)
    assert {cell.server.name for cell in plan.cells} == {"a"}
    assert any("b@1KiB: not in both builds: base: unknown engine 'b'" in n for n in plan.left_out)
    assert pair_up(matrix("a", "b"), both, ()).missing == {}
    with pytest.raises(InputError, match="nothing to compare"):
        gate_plan(matrix("b"), both, (), 0.05, None)


def test_what_the_candidate_has_no_more_is_missing() -> None:
    pairs = pair_up(matrix("a", "b"), offer(candidate=("a",)), ())
    assert list(pairs.missing) == ["b@1KiB", "b@1MiB"]
    reason = pairs.missing["b@1KiB"]
    assert "the baseline runs it and the candidate does not: " in reason
    assert "candidate: unknown engine 'b'" in reason
    assert f"b@1KiB: {reason}" in pairs.left_out
    given = pair_up(matrix("a"), offer(candidate=("a",)), ("b",))
    assert list(given.missing) == ["b@1KiB", "b@1MiB"]


@pytest.mark.parametrize(
    ("lame", "missing"),
    [((CANDIDATE,), ["a@1KiB", "a@1MiB"]), ((BASE,), []), ((BASE, CANDIDATE), [])],
)
def test_a_probe_that_refuses_counts_where_the_baselines_does_not(
    lame: Sequence[str], missing: list[str]
) -> None:
    refusing = Describe(
        schema_version=1, engines=(engine("a", usable=False, reason="no ring"), engine("b"))
    )
    both = offer()
    found = replace(both, builds={**both.builds, **dict.fromkeys(lame, refusing)})
    pairs = pair_up(matrix("a", "b"), found, ())
    assert list(pairs.missing) == missing
    assert {cell.server.name for cell in pairs.cells} == {"b"}
    assert all("no ring" in line for line in pairs.left_out)


def test_a_star_means_the_baselines_engines_too() -> None:
    joined = with_those_of(matrix("a"), matrix("a", "b"))
    assert [cell.id for cell in joined.cells if cell.workload == SMALL] == [
        "nginx@1KiB", "a@1KiB", "b@1KiB",
    ]  # fmt: skip


def test_engines_of_the_command_line_replace_those_of_the_matrix() -> None:
    plan = gate_plan(matrix("a"), offer(), ("b", "engine:b"), 0.05, None)
    assert {cell.server.name for cell in plan.cells} == {"b"}
    with pytest.raises(InputError, match="--engine: unknown engine 'x'"):
        gate_plan(matrix("a"), offer(), ("x",), 0.05, None)


def test_an_engine_that_cannot_run_here_is_left_out() -> None:
    both = offer()
    lame = Describe(schema_version=1, engines=(engine("a", usable=False, reason="no ring"),))
    found = Offer(both.describe, both.peers, builds={**both.builds, CANDIDATE: lame})
    with pytest.raises(InputError, match="no ring"):
        gate_plan(matrix("a"), found, (), 0.05, None)


def test_measuring_again_takes_the_suspects_with_their_references() -> None:
    plan = gate_plan(matrix("a", "b"), offer(), (), 0.05, 100.0)
    part = gate.only(plan, ["candidate/b@1MiB"], 0.05, 77)
    assert [cell.id for cell in part.cells] == ["base/b@1MiB", "candidate/b@1MiB"]
    assert (part.seed, part.baseline, part.budget_s) == (77, "base/b", 25.0)
    assert part.confidence == pytest.approx(0.99)


def test_open_loops_are_left_out_and_said_to_be() -> None:
    paced = replace(SMALL, name="paced", rate_per_s=100.0)
    both = matrix("a")
    more = replace(both, cells=(*both.cells, Cell(Server("engine", "a"), paced)))
    plan = gate_plan(more, offer(), (), 0.05, None)
    assert paced not in plan.workloads
    assert any("a@paced: an open loop" in note for note in plan.left_out)
    with pytest.raises(InputError, match="an open loop"):
        gate_plan(replace(both, cells=more.cells[-1:]), offer(), (), 0.05, None)


def test_rates_of_open_loops_are_never_compared() -> None:
    """Both are at the rate that was asked for: `same` would say nothing."""
    plan = matrix("a", "b")
    paced = replace(SMALL, name="paced", rate_per_s=100.0)
    cells = (*plan.cells, *(Cell(cell.server, paced) for cell in plan.cells[:3]))
    run = compare.Measured("r", replace(plan, cells=cells), ())
    assert {one.workload for one in compare.inside(run, "a", "b")} == {"1KiB", "1MiB"}
    with pytest.raises(InputError, match="share no workload"):
        compare.inside(run, "a@paced", "b@paced")
