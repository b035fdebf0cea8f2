from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fakestage import FakeStage

from iolab.control import with_control
from iolab.errors import IolabError
from iolab.model import Cell, Condition, Plan, Server, Status, Workload, block_order
from iolab.runner import Outcome, Runner
from iolab.settling import MOST, settle
from iolab.store import SampleWriter, read_samples
from iolab.surroundings import Unchanging, in_phases, phases
from iolab.troupe import Troupe

LOAD = Workload("w", 100, 2)
NAMES = ("base", "fast", "slow")


def plan(blocks: int = 4) -> Plan:
    cells = tuple(Cell(Server("engine", n), LOAD, profile) for profile in NAMES for n in "ab")
    return Plan(
        "p", "", "a", cells, baseline_profile="base", budget_s=1e6, slice_ms=100,
        min_blocks=blocks, max_blocks=blocks,
    )  # fmt: skip


class Switching(Unchanging):
    """Surroundings in which every profile is the host's, and which note what is asked of them."""

    now = ""
    renewed = 0
    drifts: Iterator[str | None] = iter(())

    def phase(self, cell: Cell) -> str:
        return cell.profile + ("#2" if cell.server.twin else "")

    def enter(self, phase: str) -> bool:
        switched, self.now = phase != self.now, phase
        return switched

    def drift(self) -> str | None:
        return next(self.drifts, None)

    def renew(self) -> None:
        self.renewed += 1
        self.now = ""

    def not_set(self, cell: Cell) -> tuple[str, ...]:
        return ("cpu.turbo",) if cell.profile == "fast" else ()


@pytest.fixture
def around(stage: FakeStage) -> Switching:
    return Switching(stage)


def measure(around: Switching, stage: FakeStage, chosen: Plan, run_dir: Path) -> Outcome:
    with (
        Troupe(chosen, stage, around) as troupe,
        Runner(chosen, troupe, {}, stage.clock) as runner,
        SampleWriter(run_dir) as writer,
    ):
        return runner.measure(writer)


def test_a_block_goes_through_every_phase_once_in_seeded_order(around: Switching) -> None:
    chosen = plan()
    orders = set()
    for block in range(20):
        found = phases(chosen, block_order(chosen, block), around.phase)
        assert found == phases(chosen, block_order(chosen, block), around.phase)
        orders.add(tuple(name for name, _ in found))
        for name, ids in found:
            assert sorted(ids) == [f"a@w@{name}", f"b@w@{name}"]
    assert len(orders) > 3
    assert {tuple(sorted(order)) for order in orders} == {NAMES}


def test_cells_of_one_phase_keep_the_order_of_the_block() -> None:
    order = block_order(plan(), 3)
    assert phases(plan(), order, lambda cell: "") == [("", list(order.cells))]
    assert [cell for _, cell in in_phases(plan(), lambda cell: "")] == list(plan().cells)


def test_a_twin_has_a_phase_of_its_own(around: Switching) -> None:
    chosen = with_control(plan())
    found = phases(chosen, block_order(chosen, 0), around.phase)
    assert sorted(name for name, _ in found) == ["base", "base#2", "fast", "slow"]


def test_slices_are_driven_under_the_profile_of_their_cell(
    stage: FakeStage, around: Switching, tmp_path: Path
) -> None:
    seen: dict[int, set[str]] = {}
    stage.tamper = lambda session, document: seen.setdefault(id(session), set()).add(around.now)
    measure(around, stage, plan(), tmp_path)
    assert stage.started == len(stage.sessions) == 6  # processes of their own
    assert [len(found) for found in seen.values()] == [1] * 6
    for sample in read_samples(tmp_path).samples:
        assert sample.cell.endswith(f"@{sample.extra['profile']}")
        wanted = ["cpu.turbo"] if sample.extra["profile"] == "fast" else None
        assert sample.extra.get("not_set") == wanted


def test_each_switch_is_followed_by_unmeasured_slices(
    stage: FakeStage, around: Switching, tmp_path: Path
) -> None:
    measure(around, stage, plan(), tmp_path)
    stored = read_samples(tmp_path)
    assert len(stored.samples) == 4 * 6
    for block in stored.blocks:
        assert len(block["settled"]) in (2, 3)  # a block may begin as the last one ended
        assert all(one["steady"] and one["slices"] == 2 for one in block["settled"])


def test_settling_is_bounded() -> None:
    rates = iter([1.0, 2.0] * MOST)
    assert settle("p", lambda: next(rates)).slices == MOST
    assert not settle("p", lambda: 0.0).steady
    steady = iter([1.0, 2.0, 2.1])
    found = settle("p", lambda: next(steady))
    assert (found.slices, found.steady) == (3, True)


def test_switching_and_settling_are_stored_apart_from_what_the_harness_takes(
    stage: FakeStage, around: Switching, tmp_path: Path
) -> None:
    outcome = measure(around, stage, plan(), tmp_path)
    blocks = read_samples(tmp_path).blocks
    settling = sum(one["slices"] for block in blocks for one in block["settled"])
    slice_s = outcome.overhead.slices_s / outcome.slices
    assert outcome.overhead.profiles_s == pytest.approx(settling * slice_s)
    assert outcome.overhead.outside == pytest.approx(0.0)


def test_drift_invalidates_the_block_and_applies_anew(
    stage: FakeStage, around: Switching, tmp_path: Path
) -> None:
    # Asked before and after a phase: the second answer of the first block is that a knob moved.
    around.drifts = iter([None, "base: somaxconn: asked for 1, has 2"])
    outcome = measure(around, stage, plan(), tmp_path)
    stored = read_samples(tmp_path)
    assert around.renewed == 1
    assert outcome.blocks == 4
    drifts = [block.get("drift") for block in stored.blocks]
    assert drifts == ["base: somaxconn: asked for 1, has 2", None, None, None]
    assert {sample.block for sample in stored.samples} == {1, 2, 3}
    assert (tmp_path / "samples.jsonl").read_text().count('"block":0,') == 2  # raw, and kept


def test_drift_before_a_phase_measures_nothing_of_it(
    stage: FakeStage, around: Switching, tmp_path: Path
) -> None:
    around.drifts = iter(["it moved"])
    measure(around, stage, plan(), tmp_path)
    assert '"block":0,' not in (tmp_path / "samples.jsonl").read_text()


def test_a_failure_counts_in_a_spoilt_block_too(
    stage: FakeStage, around: Switching, tmp_path: Path
) -> None:
    def break_it(session: Any, document: dict[str, Any]) -> None:
        document["errors"]["timeout"] = 1

    stage.tamper = break_it
    around.drifts = iter([None, "it moved"])
    measure(around, stage, plan(blocks=1), tmp_path)
    found = read_samples(tmp_path).samples
    assert found
    assert all(sample.status is Status.INVALID for sample in found)


def test_drift_without_end_ends_the_run(
    stage: FakeStage, around: Switching, tmp_path: Path
) -> None:
    around.drifts = iter(["it moved"] * 99)
    with pytest.raises(IolabError, match="the last 3 blocks are lost to drift: it moved"):
        measure(around, stage, plan(blocks=9), tmp_path)


def test_what_cannot_be_had_is_unsupported_with_its_reason(
    stage: FakeStage, around: Switching, tmp_path: Path
) -> None:
    around.unsupported = {Condition("fast"): "no such knob"}
    measure(around, stage, plan(), tmp_path)
    found = {s.cell: s for s in read_samples(tmp_path).samples if s.status is not Status.OK}
    assert sorted(found) == ["a@w@fast", "b@w@fast"]
    assert found["a@w@fast"].status is Status.UNSUPPORTED
    assert found["a@w@fast"].reason == "no such knob"
    assert stage.started == 4
