from __future__ import annotations

import math
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from madeup import session, sound_slice
from schemas import validator

from iolab import control, store
from iolab.errors import IolabError
from iolab.matrix import plan_to_json
from iolab.model import Server
from iolab.overhead import Overhead
from iolab.report import summarise_run, write_report
from iolab.selftest import resample
from iolab.selftest.by_rule import draw_by_rule
from iolab.selftest.evaluate import end_to_end, evaluate
from iolab.selftest.model import GATES, KIND, PLANTED, Rate, Session, Settings
from iolab.selftest.record import gate_plan, session_plan
from iolab.selftest.recordings import Place, Recordings
from iolab.selftest.targets import POWER, overhead_targets, targets
from iolab.verdict import Effect

EPOLL = Server("engine", "epoll")
SMALL = Settings(sessions=3, blocks=40, draws=30, repetitions=1)


def test_drawn_gates_find_what_is_planted_and_nothing_else() -> None:
    sessions = Recordings([session(seed) for seed in range(6)])
    ten = resample.draw(sessions, 10, 40, 0.05, 60, 1)
    none = resample.draw(sessions, 0, 40, 0.05, 60, 1)
    assert ten is not None
    assert none is not None
    assert ten.found.share >= 0.95
    assert ten.wrong.hits == 0
    assert none.found.hits == 0
    assert none.alarms.share <= 0.05
    assert (none.alarms.nr, ten.alarms.nr) == (60, 0)  # only equal servers can be false alarms
    assert ten.seconds == pytest.approx(3 * 40 * 0.2)
    assert resample.draw(sessions, 10, 40, 0.05, 60, 1) == ten


def test_in_noise_a_gate_cannot_tell() -> None:
    sessions = Recordings([session(seed, spread=0.5) for seed in range(4)])
    found = resample.draw(sessions, 5, 20, 0.05, 40, 1)
    assert found is not None
    assert found.unclear.share > 0.8
    assert found.wrong.share <= 0.05


def test_what_a_pair_of_processes_has_by_chance_stays_in() -> None:
    """Every session's twin is 3% off one way or the other: that is no drift to be averaged."""
    lucky = [session(seed, spread=0.005, luck=0.03 * (-1) ** seed) for seed in range(6)]
    sessions = Recordings(lucky)
    found = resample.draw(sessions, 0, 40, 0.02, 60, 1)
    assert found is not None
    assert found.alarms.share > 0.9


def places(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, Place]]:
    """What every estimate from now on is asked of: planted percent and place."""
    asked: list[tuple[int, Place]] = []
    estimate = Recordings.estimate

    def spy(self: Recordings, percent: int, place: Place, confidence: float) -> Any:
        asked.append((percent, place))
        return estimate(self, percent, place, confidence)

    monkeypatch.setattr(Recordings, "estimate", spy)
    return asked


def test_a_gate_is_drawn_from_neighbouring_blocks_none_twice(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    numbered = Recordings([Session(np.arange(60.0), {}, 0.2)] * 2)
    asked = places(monkeypatch)
    resample.draw(numbered, 0, 12, 0.05, 20, 1)
    assert len({place for _, place in asked}) > 10
    for percent, place in asked:
        logs = numbered.logs(percent, place).tolist()
        assert logs == [logs[0] + at for at in range(12)]


def test_what_replaces_an_untrusted_measurement_has_processes_of_its_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    drawn: list[Place] = []
    measure = resample.measured

    def spy(found: Recordings, names: Any, percents: Any, where: Any, threshold: float) -> Any:
        drawn.extend(where)
        return replace(measure(found, names, percents, where, threshold), untrusted="always")

    monkeypatch.setattr(resample, "measured", spy)
    three = Recordings([session(seed) for seed in range(3)])
    resample.draw(three, 20, 40, 0.05, 30, 1)
    assert len(drawn) == 3 * 30  # each untrusted, then slower
    for at in range(0, len(drawn), 3):
        assert len({place[0][0] for place in drawn[at : at + 3]}) == 3


def test_sessions_too_short_give_no_point() -> None:
    two = Recordings([session(1), session(2)])
    assert resample.draw(two, 5, 61, 0.05, 10, 1) is None
    assert resample.draw(Recordings([session(1)]), 5, 20, 0.05, 10, 1) is None
    assert resample.draw(two, 5, 20, 0.05, 10, 1, comparisons=2) is None  # nothing for a second
    assert Recordings([session(1), session(2, blocks=25)]).disjoint(20) == 3 + 1


def test_rates_have_wilsons_interval() -> None:
    assert Rate(0, 0).interval == (0.0, 1.0)
    low, high = Rate(0, 200).interval
    assert (low, high) == (0.0, pytest.approx(0.0188, abs=1e-3))
    low, high = Rate(19, 20).interval
    assert (low, high) == (pytest.approx(0.764, abs=1e-2), pytest.approx(0.991, abs=1e-2))
    assert Rate(20, 20).interval[1] == 1.0


def test_a_session_has_the_server_its_twin_and_every_handicap() -> None:
    plan = session_plan(EPOLL, SMALL, 3)
    labels = [cell.server.label for cell in plan.cells]
    assert labels == ["epoll", "epoll#2", "epoll+2%", "epoll+5%", "epoll+10%", "epoll+20%"]
    assert (plan.min_blocks, plan.max_blocks, plan.precision) == (40, 40, None)
    assert session_plan(EPOLL, SMALL, 4).seed != plan.seed


def test_a_whole_gate_is_the_gates_own_plan_with_a_handicap() -> None:
    plan = gate_plan(EPOLL, SMALL, 10, 60.0, 0)
    assert [cell.server.label for cell in plan.cells] == ["base/epoll", "candidate/epoll+10%"]
    assert plan.reference(plan.cells[1]) == "base/epoll"
    assert plan.budget_s == 60.0
    assert plan.precision is not None
    two = gate_plan(EPOLL, SMALL, 2, 60.0, 0)
    assert two.precision is not None
    assert two.precision < plan.precision  # 2% is looked for at 2%


def write(tmp_path: Path, settings: Settings, nr_sessions: int) -> Path:
    """A recorded self-test with made-up rates."""
    run_dir = tmp_path / "20260102-101112-selftest"
    run_dir.mkdir()
    document = {
        "schema_version": 1, "kind": KIND, "run": run_dir.name, "state": "finished",
        "starts": ["2026-01-02T10:11:12+00:00"], "settings": asdict(settings),
    }  # fmt: skip
    store.write_json(run_dir / store.MANIFEST, document)
    for number in range(nr_sessions):
        plan = session_plan(EPOLL, settings, number)
        place = run_dir / plan.name
        place.mkdir()
        store.write_json(
            place / store.MANIFEST,
            {"schema_version": 1, "run": place.name, "plan": plan_to_json(plan)},
        )
        rng = np.random.default_rng(number)
        with store.SampleWriter(place) as writer:
            for block in range(settings.blocks):
                for order, cell in enumerate(plan.cells):
                    rate = 1e6 * math.exp(rng.normal(0, 0.03))
                    rate /= 1 + cell.server.handicap_percent / 100
                    writer.append(sound_slice(block, cell.id, rate, order=order))
                writer.end_block(block, wall_ns=10**9, slices=len(plan.cells))
    for percent, code in ((0, 0), (10, 1)):
        gate = {
            "percent": percent,
            "budget_s": 60.0,
            "exit_code": code,
            "first_s": 30.0,
            "measured_s": 45.0,
        }
        store.append_jsonl(run_dir / GATES, {"schema_version": 1, **gate})
    return run_dir


def test_an_evaluated_self_test_and_its_page(tmp_path: Path) -> None:
    run_dir = write(tmp_path, SMALL, 3)
    document = evaluate(run_dir)
    validator("selftest").validate(document)
    assert document["short"]
    assert document["sessions"] == 3
    assert [one["percent"] for one in document["planted"]] == list(PLANTED)
    assert document["planted"][2]["measured_ratio"] == pytest.approx(1 / 1.1, rel=0.02)
    curve = [one for one in document["curves"] if one["percent"] == 20]
    assert [one["blocks"] for one in curve] == [8, 12, 20, 30]
    assert curve[-1]["found"]["share"] >= 0.9
    assert curve[-1]["seconds"] == pytest.approx(3 * 30 / 6)
    assert {one["percent"]: one["threshold"] for one in document["curves"]} == {
        0: 0.05, 2: 0.02, 5: 0.05, 10: 0.05, 20: 0.05,
    }  # fmt: skip
    page = write_report(run_dir, document)
    text = page.read_text(encoding="utf-8")
    assert "A short trial" in text
    assert 'src="power.svg"' in text
    assert (page.parent / "power.svg").is_file()
    assert store.read_json(run_dir / "selftest.json") == document == summarise_run(run_dir)


def test_a_self_test_without_whole_sessions_is_named(tmp_path: Path) -> None:
    with pytest.raises(IolabError, match="1 whole sessions, two at least are needed"):
        evaluate(write(tmp_path, SMALL, 1))


def test_targets_are_met_missed_or_left_open() -> None:
    many = Recordings([session(seed, blocks=130) for seed in range(5)])
    few = [resample.draw(many, p, 120, 0.05, 20, 1) for p in (0, 5, 10)]
    few += [draw_by_rule(many, p, budget_s, 0.05, 20, 1) for p, budget_s in ((0, 60), *POWER)]
    found = {one.name: one.met for one in targets([one for one in few if one], [], [])}
    assert set(found.values()) == {None}  # 20 draws say nothing of 1%
    drawn = [one for one in few if one is not None]
    plenty = [
        replace(
            one,
            seconds=50.0,
            found=Rate(300 if one.percent else 0, 300),
            alarms=Rate(30, 300),
            wrong=Rate(0, 300),
            disjoint=20,
            outlasting=Rate(0, 300),
        )
        for one in drawn
    ]
    gates = [
        {"percent": 0, "budget_s": 30.0, "exit_code": 0, "first_s": 9.0, "measured_s": 9.0}
    ] * 20
    rows = end_to_end(gates, plenty)
    found = {one.name: one.met for one in targets(plenty, gates, rows)}
    assert found == {
        "false alarms": False,
        "false alarms, by the rule": False,
        "false alarms, gates of 6": None,  # none drawn
        "gates of 6 with a false alarm": None,
        "planted 10%": True,
        "planted 5%": True,
        "wrong rather than unclear": True,
        "wrong rather than unclear, by the rule": True,
        "whole gates without a slowdown": True,
        "whole gates, planted 0%": None,  # none drawn has that budget
    }
    (row,) = rows
    assert (row["found"]["share"], row["drawn"]) == (0.0, None)


def test_what_the_harness_costs_is_a_target(tmp_path: Path) -> None:
    """40 blocks of 6 slices of 0.1 s in 25 s: 4% outside; 2 ms of CPU in each: 2% of a core."""
    run_dir = write(tmp_path, SMALL, 3)
    for path in run_dir.glob("session-*"):
        stored = store.read_samples(path).samples
        (path / store.SAMPLES).unlink()
        with store.SampleWriter(path) as writer:
            for sample in stored:
                extra = {"harness_cpu_ns": 2_000_000}
                writer.append(replace(sample, wall_ns=100_000_000, extra=extra))
            writer.end_block(39, wall_ns=1, slices=240)
    assert evaluate(run_dir)["targets"][-1]["found"] == "not recorded"  # none of them has ended
    for path in run_dir.glob("session-*"):
        manifest = store.read_manifest(path) | {"outcome": {"measure_wall_s": 25.0}}
        store.write_json(path / store.MANIFEST, manifest)
    document = evaluate(run_dir)
    assert document["overhead"]["loop_s"] == pytest.approx(75)
    outside, inside = document["targets"][-2:]
    assert (outside["name"], outside["met"]) == ("harness outside slices", True)
    assert (inside["name"], inside["met"]) == ("harness inside slices", False)
    assert (outside["found"], inside["found"]) == ("4.00%", "2.00%")
    assert [one.met for one in overhead_targets(Overhead(9, 8, 8, 1, 8))] == [None, None]


def test_the_twin_of_a_session_is_the_controls(tmp_path: Path) -> None:
    plan = session_plan(EPOLL, SMALL, 0)
    assert [twin.server.label for _, twin in control.pairs(plan)] == ["epoll#2"]


def drawn_at(blocks: int, percent: int = 0, **found: Any) -> resample.Drawn:
    """Drawn gates without any finding, but for what is given."""
    none = {"found": Rate(0, 300), "unclear": Rate(0, 300), "alarms": Rate(0, 300)}
    fields = {**none, "wrong": Rate(0, 300), "disjoint": 20, **found}
    return resample.Drawn(percent, blocks, blocks * 0.5, **fields)


def met(drawn: list[resample.Drawn], gates: list[dict[str, Any]], name: str) -> bool | None:
    found = targets(drawn, gates, end_to_end(gates, drawn))
    return next(one.met for one in found if one.name == name)


def test_false_alarms_at_one_length_are_not_hidden_by_the_others() -> None:
    quiet = [drawn_at(blocks, disjoint=100) for blocks in (8, 12, 20, 30, 45, 60, 90)]
    assert met([*quiet, drawn_at(120)], [], "false alarms") is True
    assert met([*quiet, drawn_at(120, alarms=Rate(30, 300))], [], "false alarms") is False
    assert met([*quiet, drawn_at(120, alarms=Rate(6, 300))], [], "false alarms") is None


def test_false_alarms_of_families_are_judged_by_comparison_and_by_gate() -> None:
    six = {"comparisons": 6, "alarms": Rate(0, 1800), "alarmed": Rate(0, 300)}
    by_comparison, by_gate = "false alarms, gates of 6", "gates of 6 with a false alarm"
    enough = drawn_at(8, disjoint=120, **six)
    assert met([enough], [], by_comparison) is True
    assert met([enough], [], by_gate) is True
    fewer = drawn_at(8, disjoint=119, **six)  # 19 gates that share no block
    assert met([fewer], [], by_comparison) is True
    assert met([fewer], [], by_gate) is None
    loud = replace(enough, alarms=Rate(18, 1800), alarmed=Rate(18, 300))
    assert met([loud], [], by_comparison) is True  # 1% of comparisons, 6% of gates
    assert met([replace(loud, alarmed=Rate(60, 300))], [], by_gate) is False


def test_draws_from_few_stretches_judge_nothing() -> None:
    few = [drawn_at(100, 10, budget_s=60.0, found=Rate(300, 300), disjoint=19)]
    assert met(few, [], "planted 10%") is None
    assert met([drawn_at(100, disjoint=19)], [], "false alarms") is None


def test_draws_that_outlast_their_session_judge_nothing() -> None:
    kind = {"budget_s": 60.0, "found": Rate(300, 300)}
    within = drawn_at(100, 10, **kind, outlasting=Rate(15, 300))
    assert met([within], [], "planted 10%") is True
    joined = replace(within, outlasting=Rate(16, 300))
    assert met([joined], [], "planted 10%") is None
    bad = drawn_at(100, 0, budget_s=60.0, alarms=Rate(90, 300), outlasting=Rate(16, 300))
    assert met([bad], [], "false alarms, by the rule") is None


@pytest.mark.parametrize(
    ("effect", "percent", "wrong"),
    [
        (Effect.SAME, 20, True),
        (Effect.SAME, 10, True),
        (Effect.SAME, 5, False),
        (Effect.SAME, 0, False),
        (Effect.FASTER, 5, True),
        (Effect.SLOWER, 0, True),
        (Effect.SLOWER, 10, False),
        (Effect.UNCLEAR, 20, False),
    ],
)
def test_a_wrong_pass_is_wrong(effect: Effect, percent: int, wrong: bool) -> None:
    assert resample.is_wrong(effect, percent, 0.05) is wrong


def test_whole_gates_that_find_less_than_drawn_ones_miss_a_target() -> None:
    drawn = [drawn_at(100, 10, budget_s=60.0, found=Rate(288, 300))]
    kind = {"percent": 10, "budget_s": 60.0, "first_s": 55.0, "measured_s": 90.0}
    (row,) = end_to_end([{**kind, "exit_code": 1}], drawn)
    assert (row["first_s"], row["total_s"]) == (55.0, 90.0)
    half = [{**kind, "exit_code": code} for code in (1, 2)] * 10
    assert met(drawn, half, "planted 10%") is True
    assert met(drawn, half, "planted 10%, whole gates") is False
    assert met(drawn, half, "whole gates, planted 10%") is False
    assert met(drawn, [{**kind, "exit_code": 1}] * 20, "whole gates, planted 10%") is True
    assert met(drawn, half[:10], "whole gates, planted 10%") is None
    assert met(drawn, half[:10], "planted 10%, whole gates") is None
    short = [replace(drawn[0], unfinished=Rate(1, 300))]
    assert met(short, half, "whole gates, planted 10%") is None
