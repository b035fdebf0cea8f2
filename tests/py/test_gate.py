from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

from iolab import compare, gate, verdict
from iolab.describe import Describe, Engine
from iolab.errors import InputError, IolabError
from iolab.gate import CellOutcome, Final, Round, decide, exit_code, gate_plan
from iolab.gate_pairs import BASE, CANDIDATE, pair_up, with_those_of
from iolab.gate_report import Gate, junit, markdown
from iolab.model import Cell, Plan, Sample, Server, Status, Workload
from iolab.specs import Offer, PeerOffer
from iolab.verdict import Comparison, Effect, Verdict, judge, paired

SMALL, LARGE = Workload("1KiB", 1024, 8), Workload("1MiB", 1 << 20, 8)


def engine(name: str, **changes: object) -> Engine:
    return Engine(name=name, sources=("file",), roles=("file",)).model_copy(update=changes)


def offer(base: Sequence[str] = ("a", "b"), candidate: Sequence[str] = ("a", "b")) -> Offer:
    here = Describe(schema_version=1, engines=tuple(map(engine, ("a", "b", "c"))))
    builds = {
        name: Describe(schema_version=1, engines=tuple(map(engine, names)))
        for name, names in ((BASE, base), (CANDIDATE, candidate))
    }
    return Offer(here, {"nginx": PeerOffer(("file",))}, builds=builds)


def matrix(*names: str) -> Plan:
    servers = [Server("peer", "nginx"), *(Server("engine", name) for name in names)]
    cells = tuple(Cell(server, load) for load in (SMALL, LARGE) for server in servers)
    return Plan("m", "", "nginx", cells, slice_ms=150, wrk_check=True)


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


# --- deciding ------------------------------------------------------------------------------------


def found(effect: Effect, name: str = "candidate/a@1KiB", ratio: float = 0.9) -> Verdict:
    rng = np.random.default_rng(1)
    noise = 0.3 if effect is Effect.UNCLEAR else 0.01
    true = {Effect.SLOWER: ratio, Effect.FASTER: 1 / ratio}.get(effect, 1.0)
    logs = list(math.log(true) + rng.normal(0, noise, 40))
    server, _, workload = name.partition("@")
    (one,) = judge([Comparison("base/a", server, workload, paired(logs))])
    assert one.effect is effect
    return one


def rounds(first: Effect, again: Effect | None) -> list[CellOutcome]:
    second = None if again is None else Round("r2", (found(again),), measured_s=30.0)
    return decide(Round("r1", (found(first),), measured_s=30.0), second)


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


def test_a_budget_is_that_of_the_whole_plan() -> None:
    """The second round measured a third of the comparisons in 30 s; the budget is for all."""
    first = Round("r1", (found(Effect.SLOWER),), measured_s=90.0)
    again = Round("r2", (found(Effect.UNCLEAR),), measured_s=30.0)
    (whole,), (part,) = decide(first, again), decide(first, replace(again, share=1 / 3))
    assert whole.budget_s is not None
    assert part.budget_s == pytest.approx(3 * whole.budget_s)


def test_an_untrusted_round_that_was_measured_anew_is_not_hidden() -> None:
    lost = Round("lost-gate", (), untrusted="a#2 to a: 0.9", measured_s=40.0)
    kept = Round("kept-gate", (found(Effect.SAME),), measured_s=60.0, instead_of=lost)
    done = replace(gate_of(*decide(kept, None)), rounds=(kept,))
    document = done.to_json()
    assert document["discarded"] == [{"run": "lost-gate", "untrusted": "a#2 to a: 0.9"}]
    assert (document["measured_s"], document["exit_code"]) == (100.0, 0)
    assert "discarded: `lost-gate`" in markdown(done)


def test_open_loops_are_left_out_and_said_to_be() -> None:
    paced = replace(SMALL, name="paced", rate_per_s=100.0)
    both = matrix("a")
    more = replace(both, cells=(*both.cells, Cell(Server("engine", "a"), paced)))
    plan = gate_plan(more, offer(), (), 0.05, None)
    assert paced not in plan.workloads
    assert any("a@paced: an open loop" in note for note in plan.left_out)
    with pytest.raises(InputError, match="an open loop"):
        gate_plan(replace(both, cells=more.cells[-1:]), offer(), (), 0.05, None)


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


# --- what is written -----------------------------------------------------------------------------


def gate_of(*outcomes: CellOutcome) -> Gate:
    return Gate(
        "main (0123)", "HEAD|`x` (4567)", 0.05, outcomes,
        (Round("20260102-101112-gate", (), measured_s=61.2),), ("c@1KiB: not in both",), "CPU <1>",
        {name: {"commit": digit * 40, "dirty": False, "compiler": "GNU 12.2 | x", "cflags": "-O2"}
         for name, digit in ((BASE, "0"), (CANDIDATE, "4"))},
    )  # fmt: skip


def all_finals() -> Gate:
    outcomes = [
        *rounds(Effect.SAME, None),
        *rounds(Effect.SLOWER, Effect.SLOWER),
        *rounds(Effect.UNCLEAR, None),
    ]
    return gate_of(*outcomes)


def test_junit_counts_and_explains() -> None:
    text = junit(all_finals())
    root = ElementTree.fromstring(text)
    assert (root.get("tests"), root.get("failures")) == ("3", "1")
    suite = root.find("testsuite")
    assert suite is not None
    assert (suite.get("tests"), suite.get("failures"), suite.get("skipped")) == ("3", "1", "1")
    said = {one.get("name"): one.get("value") for one in suite.iter("property")}
    assert said["candidate.commit"] == "4" * 40
    failure = root.find(".//failure")
    assert failure is not None
    assert "slower, twice" in (failure.get("message") or "")
    assert "again: slower, ratio 0." in (failure.text or "")
    skipped = root.find(".//skipped")
    assert skipped is not None
    assert "budget" in (skipped.get("message") or "")


def test_junit_survives_what_xml_cannot_hold() -> None:
    (plain,) = rounds(Effect.SAME, None)
    text = junit(gate_of(replace(plain, reason="bell \x07 & <tag> \ud800")))
    output = ElementTree.fromstring(text).find(".//system-out")
    assert output is not None
    assert "bell ? & <tag> ?" in (output.text or "")


# What junit-10.xsd of Jenkins' xunit plugin allows: attributes that must be there, those that may
# be, and children. Text is allowed where it says so.
JUNIT = {
    "testsuites": ((), ("name", "time", "tests", "failures", "errors"), ("testsuite",)),
    "testsuite": (
        ("name", "tests", "failures", "errors"),
        (
            "group",
            "time",
            "skipped",
            "timestamp",
            "hostname",
            "id",
            "package",
            "file",
            "log",
            "url",
        ),
        ("testsuite", "properties", "testcase", "system-out", "system-err"),
    ),
    "properties": ((), (), ("property",)),
    "property": (("name", "value"), (), ()),
    "testcase": (
        ("name",),
        ("time", "classname", "group"),
        ("skipped", "error", "failure", "system-out", "system-err"),
    ),
    "failure": ((), ("type", "message"), ()),
    "skipped": ((), ("type", "message"), ()),
    "system-out": ((), (), ()),
}
_MIXED = ("failure", "skipped", "system-out")


def junit_trouble(element: ElementTree.Element) -> list[str]:
    """Where a document is not what consumers of JUnit XML take."""
    if element.tag not in JUNIT:
        return [f"no element {element.tag}"]
    needed, optional, children = JUNIT[element.tag]
    found = [f"{element.tag} lacks {name}" for name in needed if name not in element.attrib]
    found += [f"{element.tag} {n}" for n in element.attrib if n not in (*needed, *optional)]
    found += [f"{element.tag} in {element.tag}" for c in element if c.tag not in children]
    if element.tag not in _MIXED and (element.text or "").strip():
        found.append(f"text in {element.tag}")
    if not re.fullmatch(r"[0-9]{0,9}(\.[0-9]*)?", element.get("time", "")):
        found.append(f"time {element.get('time')}")
    return found + [trouble for child in element for trouble in junit_trouble(child)]


def test_junit_is_what_its_consumers_take() -> None:
    for gate_ in (all_finals(), gate_of()):
        root = ElementTree.fromstring(junit(gate_))
        assert junit_trouble(root) == []
    root.set("skipped", "1")
    ElementTree.SubElement(root, "oops")
    assert junit_trouble(root) == [
        "testsuites skipped", "testsuites in testsuites", "no element oops",
    ]  # fmt: skip


def test_both_builds_are_named_whole() -> None:
    document = all_finals().to_json()
    assert document["builds"][CANDIDATE]["commit"] == "4" * 40
    assert document["builds"][BASE]["cflags"] == "-O2"
    text = markdown(all_finals())
    assert f"- candidate: `{'4' * 40}`, GNU 12.2 \\| x, -O2" in text


def test_markdown_says_it_first_and_keeps_its_table_whole() -> None:
    text = markdown(all_finals())
    lines = text.splitlines()
    assert lines[0].startswith("### iolab gate: regression: candidate/a@1KiB")
    rows = [line for line in lines if line.startswith("| candidate/a")]
    assert len(rows) == 3
    assert {row.count(" | ") for row in rows} == {9 - 1}
    assert "**regression**" in rows[1]
    assert "`HEAD|'x' (4567)`" in text
    assert "CPU \\<1\\>" in text
    assert "Measured 62 s in `20260102-101112-gate`." in text


def test_headlines() -> None:
    passed = gate_of(*rounds(Effect.SAME, None))
    assert passed.headline == "no regression of 5% in 1 cells, 1 left out"
    assert replace(passed, left_out=()).headline == "no regression of 5% in 1 cells"
    vague = gate_of(*rounds(Effect.UNCLEAR, None)).headline
    slow = gate_of(*rounds(Effect.SLOWER, Effect.SLOWER))
    for one, code, words in (
        (passed, 2, "cannot tell: the candidate does not run b@1KiB, which the baseline runs; "),
        (slow, 1, "regression: candidate/a@1KiB"),
    ):
        less = replace(one, missing={"b@1KiB": "unknown | engine"})
        assert less.code == less.to_json()["exit_code"] == code
        assert less.headline.startswith(words)
        assert less.to_json()["missing"] == {"b@1KiB": "unknown | engine"}
        assert "- **missing**: b@1KiB: unknown \\| engine" in markdown(less)
        suite = ElementTree.fromstring(junit(less).partition("\n")[2]).find("testsuite")
        assert suite is not None
        assert (suite.get("tests"), suite.get("errors")) == ("2", "1")
        assert [error.get("message") for error in suite.iter("error")] == ["unknown | engine"]
    assert vague.startswith("cannot tell: candidate/a@1KiB; a budget of about")
    assert gate_of().headline == "cannot tell: nothing was compared"
    document = all_finals().to_json()
    assert document["exit_code"] == 1
    assert [cell["final"] for cell in document["cells"]] == ["pass", "regression", "unclear"]


def test_confidence_is_shared_by_the_family() -> None:
    assert verdict.confidence_of(1) == 0.99
    assert verdict.confidence_of(10) == pytest.approx(0.999)


# --- what a gate must not pass -------------------------------------------------------------------


def measured(shares: dict[str, tuple[float, float]], nr: int = 30) -> compare.Measured:
    """A gate's run without a difference; of the servers (base, candidate) client and server CPU."""
    plan = gate_plan(matrix("a"), offer(), (), 0.05, None)
    plan = replace(plan, cells=plan.cells[:2])
    rng = np.random.default_rng(4)
    samples = []
    for block in range(nr):
        for order, cell in enumerate(plan.cells):
            client, server = shares[cell.server.label]
            done = int(100_000 * math.exp(rng.normal(0, 0.01)))
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


def test_rates_of_open_loops_are_never_compared() -> None:
    """Both are at the rate that was asked for: `same` would say nothing."""
    plan = matrix("a", "b")
    paced = replace(SMALL, name="paced", rate_per_s=100.0)
    cells = (*plan.cells, *(Cell(cell.server, paced) for cell in plan.cells[:3]))
    run = compare.Measured("r", replace(plan, cells=cells), ())
    assert {one.workload for one in compare.inside(run, "a", "b")} == {"1KiB", "1MiB"}
    with pytest.raises(InputError, match="share no workload"):
        compare.inside(run, "a@paced", "b@paced")
