"""Blocks in order, and the life of servers and clients around them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from fakestage import FakeSession, FakeStage
from stagedruns import LARGE, SMALL, measure, plan, running

from iolab import store
from iolab.errors import IolabError
from iolab.load import LoadSession
from iolab.model import Status, Workload
from iolab.servers import RunningServer
from iolab.store import SampleWriter, read_samples
from iolab.troupe import Troupe, with_running_baseline


def test_every_block_holds_every_cell_once(stage: FakeStage, tmp_path: Path) -> None:
    outcome = measure(stage, plan("a", "b", "c"), tmp_path)
    stored = read_samples(tmp_path)
    assert outcome.stop_reason == "max_blocks (3) reached"
    assert outcome.blocks == len(stored.blocks) == 3
    for block in range(3):
        cells = [sample.cell for sample in stored.samples if sample.block == block]
        assert sorted(cells) == sorted(f"{s}@{w}" for s in "abc" for w in ("small", "large"))
    assert all(sample.status is Status.OK for sample in stored.samples)
    assert all((sample.server_counters or {})["requests"] == 10 for sample in stored.samples)
    assert all(
        (sample.server_counters or {})["syscalls"] == {"send": 0} for sample in stored.samples
    )
    assert outcome.efficiency == pytest.approx(1.0)


def test_arrivals_are_those_of_the_plans_seed(stage: FakeStage) -> None:
    seeds: dict[int, list[int]] = {}
    opened = stage.open_load

    for plan_seed in (1, 2):
        found = seeds.setdefault(plan_seed, [])

        def note(
            server: RunningServer,
            workloads: Sequence[Workload],
            seed: int,
            found: list[int] = found,
        ) -> LoadSession:
            found.append(seed)
            return opened(server, workloads, seed)

        stage.open_load = note  # type: ignore[method-assign]
        with running(stage, plan("a", "b", seed=plan_seed)):
            pass
    assert not set(seeds[1]) & set(seeds[2])
    assert len(set(seeds[1])) == len(seeds[1]) == 4


def test_all_is_closed_and_stopped_at_the_end(stage: FakeStage, tmp_path: Path) -> None:
    measure(stage, plan("a", "b"), tmp_path)
    assert len(stage.sessions) == 4
    assert all(session.closed for session in stage.sessions)
    assert all(server.stopped for server in stage.servers.values())


def test_role_file_shares_a_server_other_roles_have_one_a_cell(
    stage: FakeStage, tmp_path: Path
) -> None:
    with Troupe(plan("a", "b"), stage) as troupe:
        assert sorted(troupe.servers) == ["a", "b"]
    stage.started = 0
    chosen = plan("a", "b", role="forward", memory_limit_bytes=1 << 30)
    measure(stage, chosen, tmp_path)
    assert stage.started == 4
    assert stage.limits == {None, 1 << 30}
    samples = read_samples(tmp_path).samples
    assert {s.status for s in samples} == {Status.OK}
    assert all(s.extra["memory"]["resident_peak_bytes"] == 4096 for s in samples)


def test_sizes_may_take_turns_on_the_same_connections(stage: FakeStage, tmp_path: Path) -> None:
    measure(stage, plan("a", "b", share_connections=True), tmp_path)
    assert [session.workloads for session in stage.sessions] == [(SMALL, LARGE)] * 2
    samples = read_samples(tmp_path).samples
    assert {s.status for s in samples} == {Status.OK}
    assert len({s.cell for s in samples}) == 4


def test_a_baseline_that_lacks_one_of_its_cells_is_replaced(stage: FakeStage) -> None:
    chosen = plan("a", "b", role="forward")
    with Troupe(chosen, stage) as troupe:
        troupe.failures["a@large"] = "no port"
        del troupe.servers["a@large"]
        again = with_running_baseline(chosen, troupe)
    assert again.left_out == ("baseline is b instead of a (no port)",)


def test_a_baseline_that_does_not_start_is_replaced_and_said(stage: FakeStage) -> None:
    stage.broken = {"a": "port in use"}
    with Troupe(plan("a", "b", "c"), stage) as troupe:
        chosen = with_running_baseline(plan("a", "b", "c"), troupe)
    assert chosen.baseline == "b"
    assert chosen.left_out == ("baseline is b instead of a (port in use)",)
    stage.broken = dict.fromkeys("abc", "no")
    with Troupe(plan("a", "b", "c"), stage) as troupe, pytest.raises(IolabError, match="a: no"):
        with_running_baseline(plan("a", "b", "c"), troupe)


def test_a_run_interrupted_in_a_block_goes_on_with_that_block(
    stage: FakeStage, tmp_path: Path
) -> None:
    chosen = plan("a", "b", max_blocks=4)
    whole = tmp_path / "whole"
    whole.mkdir()
    measure(FakeStage(), chosen, whole)
    slices = iter(range(100))

    def interrupt(session: FakeSession, document: dict[str, Any]) -> None:
        if next(slices) == 6:  # the third slice of the second block
            raise KeyboardInterrupt

    stage.tamper = interrupt
    with pytest.raises(KeyboardInterrupt):
        measure(stage, chosen, tmp_path)
    assert all(server.stopped for server in stage.servers.values())
    kept = read_samples(tmp_path)
    assert kept.next_block == 1
    again = FakeStage()
    with running(again, chosen) as runner:
        runner.samples += kept.samples
        with SampleWriter(tmp_path) as writer:
            outcome = runner.measure(writer, kept.next_block, spent_s=0.5)
    assert outcome.blocks == 4
    orders = [
        [(s.block, s.order, s.cell) for s in read_samples(run_dir).samples]
        for run_dir in (tmp_path, whole)
    ]
    assert orders[0] == orders[1]
    assert not (tmp_path / store.WRK).exists()
