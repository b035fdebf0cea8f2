from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fakestage import FakeServer, FakeSession, FakeStage

from iolab import control, stats, store
from iolab.errors import IolabError
from iolab.executor import ProcessError
from iolab.kernelstat import Reading
from iolab.load import LoadSession, UnsupportedError
from iolab.model import Cell, Plan, Role, Server, Status, Workload
from iolab.runner import Outcome, Retired, Runner
from iolab.servers import RunningServer
from iolab.stats.precision import STEADY_BLOCKS
from iolab.store import SampleWriter, read_samples
from iolab.troupe import Troupe, with_running_baseline

SMALL, LARGE = Workload("small", 100, 2), Workload("large", 1000, 2)


@pytest.fixture
def stage() -> FakeStage:
    return FakeStage()


def plan(*names: str, unsupported: str = "", **changes: Any) -> Plan:
    servers = [
        Server("engine", name, (), "not here" if name == unsupported else None) for name in names
    ]
    cells = tuple(Cell(server, workload) for workload in (SMALL, LARGE) for server in servers)
    defaults = {"min_blocks": 2, "max_blocks": 3, "budget_s": 1000.0, "slice_ms": 100}
    return replace(Plan("p", "", names[0], cells), **(defaults | changes))


@contextmanager
def running(
    stage: FakeStage, chosen: Plan, retired: dict[str, Retired] | None = None
) -> Iterator[Runner]:
    with (
        Troupe(chosen, stage) as troupe,
        Runner(
            chosen, troupe, retired or {}, stage.clock, cpu_clock=FakeServer.cpu_clock
        ) as runner,
    ):
        yield runner


def measure(stage: FakeStage, chosen: Plan, run_dir: Path) -> Outcome:
    with running(stage, chosen) as runner, SampleWriter(run_dir) as writer:
        return runner.measure(writer)


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


def test_what_the_harness_used_within_slices_is_stored(stage: FakeStage, tmp_path: Path) -> None:
    """The clock's CPU time is a tenth of its wall time, and a slice takes 130 ms."""
    outcome = measure(stage, plan("a", "b"), tmp_path)
    samples = read_samples(tmp_path).samples
    assert {sample.extra["harness_cpu_ns"] for sample in samples} == {13_000_000}
    assert outcome.overhead.inside == pytest.approx(0.1)
    assert outcome.overhead.outside == pytest.approx(0.0)
    assert outcome.overhead.loop_s == outcome.measure_wall_s


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


def test_builds_are_driven_while_their_own_reference_is_fit(
    stage: FakeStage, tmp_path: Path
) -> None:
    servers = [Server("engine", name, build=build) for name in "ab" for build in ("old", "new")]
    cells = tuple(Cell(server, SMALL) for server in servers)
    chosen = Plan("p", "", "old/a", cells, baseline_build="old", min_blocks=2, max_blocks=3)
    stage.broken["old/a"] = "would not start"
    outcome = measure(stage, chosen, tmp_path)
    driven = {s.cell for s in read_samples(tmp_path).samples if s.status is Status.OK}
    assert driven == {"old/b@small", "new/b@small"}
    assert outcome.blocks == 3


def test_an_invalid_slice_retires_its_cell_and_no_other(stage: FakeStage, tmp_path: Path) -> None:
    def timeout(session: FakeSession, document: dict[str, Any]) -> None:
        if stage.label(session) == "b" and session.workload is LARGE:
            document["errors"]["timeout"] = 1

    stage.tamper = timeout
    chosen = plan("a", "b")
    measure(stage, chosen, tmp_path)
    samples = read_samples(tmp_path).samples
    bad = [sample for sample in samples if sample.status is not Status.OK]
    assert [(s.cell, s.block, s.status, s.reason) for s in bad] == [
        ("b@large", 0, Status.INVALID, "client saw 1 timeout")
    ]
    assert sum(sample.cell == "b@small" for sample in samples) == 3
    assert sum(sample.cell == "b@large" for sample in samples) == 1
    summaries = stats.summarise(chosen, samples)
    statuses = {cell.cell: cell.status for summary in summaries for cell in summary.cells}
    assert statuses.pop("b@large") is Status.INVALID
    assert set(statuses.values()) == {Status.OK}


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


def test_counts_that_differ_make_a_slice_invalid(stage: FakeStage, tmp_path: Path) -> None:
    def lose(session: FakeSession, document: dict[str, Any]) -> None:
        if stage.label(session) == "b":
            session.server.total["requests"] += 1  # type: ignore[operator]

    stage.tamper = lose
    measure(stage, plan("a", "b"), tmp_path)
    reasons = {s.reason for s in read_samples(tmp_path).samples if s.cell.startswith("b")}
    assert reasons == {"requests: client counted 10, server 11"}


def test_a_server_that_counts_late_is_waited_for(stage: FakeStage, tmp_path: Path) -> None:
    class Late(FakeServer):
        asked = 0

        def counters(self) -> dict[str, Any] | None:
            self.asked += 1
            total = super().counters()
            assert total is not None
            if self.asked % 4 != 1 and self.asked % 4 != 0:  # before, then two stale answers
                total["requests"] -= 1
            return total

    stage.start_server = lambda server, role, limit=None: stage.servers.setdefault(  # type: ignore[method-assign]
        server.label, Late()
    )
    measure(stage, plan("a", "b"), tmp_path)
    assert {sample.status for sample in read_samples(tmp_path).samples} == {Status.OK}


def test_servers_without_counters_are_trusted_to_the_client(
    stage: FakeStage, tmp_path: Path
) -> None:
    with running(stage, plan("a", "b")) as runner, SampleWriter(tmp_path) as writer:
        for server in stage.servers.values():
            server.counts = False
        runner.measure(writer)
    samples = read_samples(tmp_path).samples
    assert {(s.status, s.server_counters is None) for s in samples} == {(Status.OK, True)}


def test_a_death_is_told_by_the_server_and_others_go_on(stage: FakeStage, tmp_path: Path) -> None:
    def die(session: FakeSession, document: dict[str, Any]) -> None:
        if stage.label(session) == "b":
            session.server.death = "the server died; its last words: SIGBUS"
            raise ProcessError("iolab-load: said nothing")

    stage.tamper = die
    measure(stage, plan("a", "b"), tmp_path)
    samples = read_samples(tmp_path).samples
    assert {s.reason for s in samples if s.status is Status.FAILED} == {
        "the server died; its last words: SIGBUS"
    }
    assert sum(s.cell.startswith("a@") for s in samples) == 6


def test_a_document_without_its_keys_fails_the_cell(stage: FakeStage, tmp_path: Path) -> None:
    def forget(session: FakeSession, document: dict[str, Any]) -> None:
        if stage.label(session) == "b":
            del document["errors"]

    stage.tamper = forget
    measure(stage, plan("a", "b"), tmp_path)
    reasons = {s.reason for s in read_samples(tmp_path).samples if s.cell.startswith("b")}
    assert reasons == {"the load generator's document lacks 'errors'"}


def test_a_document_that_statistics_could_not_read_fails_the_cell(
    stage: FakeStage, tmp_path: Path
) -> None:
    def forget(session: FakeSession, document: dict[str, Any]) -> None:
        if stage.label(session) == "b":
            del document["cpu"]

    stage.tamper = forget
    chosen = plan("a", "b")
    measure(stage, chosen, tmp_path)
    samples = read_samples(tmp_path).samples
    assert {s.reason for s in samples if s.cell.startswith("b")} == {
        "the load generator's document: no key 'load.cpu'"
    }
    # What a gate asks of every cell, failed or not.
    assert [stats.limiter_of(cell, samples) is None for cell in chosen.cells] == [
        cell.server.label == "b" for cell in chosen.cells
    ]


def test_what_is_out_from_the_start_is_stored_with_its_reason(
    stage: FakeStage, tmp_path: Path
) -> None:
    stage.broken = {"c": "c: did not become ready"}
    measure(stage, plan("a", "b", "c", "d", unsupported="d"), tmp_path)
    out = {
        s.cell: (s.status, s.reason)
        for s in read_samples(tmp_path).samples
        if s.status is not Status.OK
    }
    assert out == {
        "c@small": (Status.FAILED, "c: did not become ready"),
        "c@large": (Status.FAILED, "c: did not become ready"),
        "d@small": (Status.UNSUPPORTED, "not here"),
        "d@large": (Status.UNSUPPORTED, "not here"),
    }


def test_what_a_tool_cannot_do_here_is_unsupported_and_no_failure(
    stage: FakeStage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_load = stage.open_load

    def refuse_large(
        server: RunningServer, workloads: Sequence[Workload], seed: int
    ) -> LoadSession:
        if LARGE in workloads and server is stage.servers["b"]:
            raise UnsupportedError("not between these file systems")
        return open_load(server, workloads, seed)

    monkeypatch.setattr(stage, "open_load", refuse_large)
    measure(stage, plan("a", "b"), tmp_path)
    samples = read_samples(tmp_path).samples
    assert [(s.cell, s.status, s.reason) for s in samples if s.status is not Status.OK] == [
        ("b@large", Status.UNSUPPORTED, "not between these file systems")
    ]


def test_a_workload_without_its_baseline_is_not_driven_on(stage: FakeStage, tmp_path: Path) -> None:
    def fail(session: FakeSession, document: dict[str, Any]) -> None:
        if stage.label(session) == "a" and session.workload is SMALL:
            document["non_2xx"] = 1

    stage.tamper = fail
    measure(stage, plan("a", "b"), tmp_path)
    samples = read_samples(tmp_path).samples
    assert max(s.block for s in samples if s.cell == "b@small") == 0
    assert max(s.block for s in samples if s.cell == "b@large") == 2


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


def test_gauges_are_stored_as_they_stand(stage: FakeStage, tmp_path: Path) -> None:
    class Piped(FakeServer):
        def __init__(self) -> None:
            super().__init__()
            self.total |= {"pipes": 2, "pipe_bytes": 8192}

    def start(server: Server, role: Role, memory_limit_bytes: int | None = None) -> RunningServer:
        return stage.servers.setdefault(server.label, Piped())

    stage.start_server = start  # type: ignore[method-assign]
    measure(stage, plan("a", role="relay"), tmp_path)
    for sample in read_samples(tmp_path).samples:
        assert (sample.server_counters or {})["pipes"] == 0  # a difference, of no meaning here
        memory = sample.extra["memory"]
        assert (memory["pipes"], memory["pipe_bytes"]) == (2, 8192)


def test_a_baseline_that_lacks_one_of_its_cells_is_replaced(stage: FakeStage) -> None:
    chosen = plan("a", "b", role="forward")
    with Troupe(chosen, stage) as troupe:
        troupe.failures["a@large"] = "no port"
        del troupe.servers["a@large"]
        again = with_running_baseline(chosen, troupe)
    assert again.left_out == ("baseline is b instead of a (no port)",)


def test_with_nothing_to_drive_one_block_says_why(stage: FakeStage, tmp_path: Path) -> None:
    stage.broken = {"a": "x", "b": "y"}
    outcome = measure(stage, plan("a", "b"), tmp_path)
    assert outcome.stop_reason == "no cell is left to measure"
    assert len(read_samples(tmp_path).samples) == 4


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


class FakeObserver:
    """Counters that grow by one at each reading."""

    def __init__(self) -> None:
        self.asked: list[tuple[Sequence[int], Sequence[int], int | None]] = []

    def read(
        self, server: Sequence[int], client: Sequence[int], resident: int | None = None
    ) -> Reading:
        self.asked.append((server, client, resident))
        nr = len(self.asked)
        return Reading(nr * 1000, {"tcp": {"RetransSegs": nr}}, {"server_resident_bytes": nr})


def test_what_the_kernel_counted_is_stored_with_its_slice(stage: FakeStage, tmp_path: Path) -> None:
    chosen, observer = plan("a", max_blocks=2), FakeObserver()
    with (
        Troupe(chosen, stage) as troupe,
        Runner(chosen, troupe, {}, stage.clock, observer) as runner,
        SampleWriter(tmp_path) as writer,
    ):
        runner.measure(writer)
    samples = read_samples(tmp_path).samples
    assert len(observer.asked) == 2 * len(samples)
    assert set(observer.asked) == {((1,), (4,), 1)}
    assert [sample.extra["kernel"]["tcp"] for sample in samples] == [{"RetransSegs": 1}] * 4
    assert samples[-1].extra["kernel"]["ns"] == 1000
    assert samples[-1].extra["kernel"]["server_resident_bytes"] == 8


def test_servers_that_work_while_another_is_driven_are_noted(
    stage: FakeStage, tmp_path: Path
) -> None:
    def spin(session: FakeSession, document: dict[str, Any]) -> None:
        for name, server in stage.servers.items():
            if name != "a" and server.cpu_ns is not None:
                server.cpu_ns += 65_000_000  # "b" works whether it is driven or not

    stage.tamper = spin
    chosen = plan("a", "b", "gone")
    with running(stage, chosen) as runner, SampleWriter(tmp_path) as writer:
        stage.servers["gone"].cpu_ns = None
        runner.measure(writer)
    samples = read_samples(tmp_path).samples
    seen = {sample.cell: sample.extra["bystanders"] for sample in samples}
    assert seen["a@small"] == {"ns": 130_000_000, "cpu_ns": {"b": 65_000_000}}
    assert seen["b@small"] == {"ns": 130_000_000, "cpu_ns": {}}
    cells = {cell.cell: cell for found in stats.summarise(chosen, samples) for cell in found.cells}
    assert cells["b@small"].status is Status.OK
    assert cells["a@small"].status is Status.INVALID
    assert "b with 50% of a CPU" in (cells["a@small"].reason or "")
