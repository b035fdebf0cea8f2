"""What ends a run, and what it says of that."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

from fakestage import FakeSession, FakeStage
from stagedruns import measure, plan

from iolab import control
from iolab.model import Plan
from iolab.stats.precision import STEADY_BLOCKS
from iolab.store import read_samples


def test_the_budget_ends_a_run_before_a_block_that_does_not_fit(
    stage: FakeStage, tmp_path: Path
) -> None:
    # A block of four slices takes 4 * 0.13 s: the fourth would end at 2.08 s.
    outcome = measure(stage, plan("a", "b", budget_s=2.0, max_blocks=99), tmp_path)
    assert outcome.blocks == 3
    assert outcome.stop_reason == "budget (2 s) used up"


def test_min_blocks_are_measured_whatever_the_budget(stage: FakeStage, tmp_path: Path) -> None:
    assert measure(stage, plan("a", "b", budget_s=0.01), tmp_path).blocks == 2


def test_precision_ends_a_run(stage: FakeStage, tmp_path: Path) -> None:
    chosen = plan("a", "b", precision=0.01, max_blocks=99)
    outcome = measure(stage, chosen, tmp_path)
    assert outcome.blocks == STEADY_BLOCKS
    assert "within +-1.0%" in outcome.stop_reason


def test_a_budget_that_ends_first_says_what_the_precision_would_take(
    stage: FakeStage, tmp_path: Path
) -> None:
    nr = iter(range(10**6))

    def vary(session: FakeSession, document: dict[str, Any]) -> None:
        document["window"]["body_bytes"] *= 1 + 0.05 * (next(nr) % 5)

    stage.tamper = vary
    chosen = plan("a", "b", precision=0.001, budget_s=12.0, max_blocks=999)
    reason = measure(stage, chosen, tmp_path).stop_reason
    assert "budget (12 s) used up before every interval was within +-0.1%: that of b@" in reason
    assert re.search(r"is \+-\d+\.\d% wide; --budget \d+[sm] would do", reason)


def wobbling_twin(stage: FakeStage, steps: int) -> Plan:
    """A plan of servers without noise but for the baseline's twin, a step of 2% in `steps`."""
    nr = iter(range(10**6))

    def vary(session: FakeSession, document: dict[str, Any]) -> None:
        if stage.label(session) == "a#2":
            document["window"]["body_bytes"] *= 1 + 0.02 * (next(nr) % steps)

    stage.tamper = vary
    return control.with_control(plan("a", "b", precision=0.01, max_blocks=10_000))


def test_precision_waits_for_the_a_a_pairs(stage: FakeStage, tmp_path: Path) -> None:
    chosen = wobbling_twin(stage, 4)
    outcome = measure(stage, chosen, tmp_path)
    samples = read_samples(tmp_path).samples
    assert outcome.blocks > STEADY_BLOCKS
    assert "within +-1.0%" in outcome.stop_reason
    assert control.evident(chosen, samples, 2 * math.log1p(0.01))
    earlier = [sample for sample in samples if sample.block < outcome.blocks - 1]
    assert not control.evident(chosen, earlier, 2 * math.log1p(0.01))


def test_a_budget_that_ends_before_the_a_a_pairs_are_known_says_so(
    stage: FakeStage, tmp_path: Path
) -> None:
    chosen = replace(wobbling_twin(stage, 9), budget_s=20.0)
    reason = measure(stage, chosen, tmp_path).stop_reason
    assert re.search(
        r"within \+-1\.0% \(an A/A pair's within \+-2\.0%\): that of the A/A pair a#2@small is "
        r"\+-\d+\.\d% wide; --budget \d+[sm] would do",
        reason,
    )


def test_a_budget_of_too_few_blocks_says_how_many_it_takes(
    stage: FakeStage, tmp_path: Path
) -> None:
    # A block of four slices takes 4 * 0.13 s: 3 fit, and 20 of them 10.4 s.
    chosen = plan("a", "b", precision=0.01, budget_s=2.0, max_blocks=99)
    assert measure(stage, chosen, tmp_path).stop_reason == (
        "budget (2 s) used up before every interval was within +-1.0%: 3 blocks are too few for "
        "one of 0.95 of b@small; --budget 11s gives the fewest that may do"
    )


def test_a_run_ends_when_nothing_is_left_to_compare(stage: FakeStage, tmp_path: Path) -> None:
    """Neither budget nor precision is waited for by a baseline that stands alone."""

    def timeout(session: FakeSession, document: dict[str, Any]) -> None:
        if stage.label(session) in ("b", "c") and stage.clock.now_ns > 2 * 10**9:
            document["errors"]["timeout"] = 1

    stage.tamper = timeout
    chosen = plan("a", "b", "c", max_blocks=10_000, budget_s=1000.0, precision=0.01)
    outcome = measure(stage, chosen, tmp_path)
    assert "no comparison is left" in outcome.stop_reason
    assert 2 < outcome.measure_wall_s < 10


def test_with_nothing_to_drive_one_block_says_why(stage: FakeStage, tmp_path: Path) -> None:
    stage.broken = {"a": "x", "b": "y"}
    outcome = measure(stage, plan("a", "b"), tmp_path)
    assert outcome.stop_reason == "no cell is left to measure"
    assert len(read_samples(tmp_path).samples) == 4
