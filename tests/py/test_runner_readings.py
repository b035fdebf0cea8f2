"""What is read around a slice and stored with it: counters, gauges, the kernel, CPU times."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from fakestage import FakeServer, FakeSession, FakeStage
from stagedruns import measure, plan, running

from iolab import stats
from iolab.kernelstat import Reading
from iolab.model import Role, Server, Status
from iolab.portuse import Connector
from iolab.runner import Runner
from iolab.servers import RunningServer
from iolab.store import SampleWriter, read_samples
from iolab.troupe import Troupe


def test_what_the_harness_used_within_slices_is_stored(stage: FakeStage, tmp_path: Path) -> None:
    """The clock's CPU time is a tenth of its wall time, and a slice takes 130 ms."""
    outcome = measure(stage, plan("a", "b"), tmp_path)
    samples = read_samples(tmp_path).samples
    assert {sample.extra["harness_cpu_ns"] for sample in samples} == {13_000_000}
    assert outcome.overhead.inside == pytest.approx(0.1)
    assert outcome.overhead.outside == pytest.approx(0.0)
    assert outcome.overhead.loop_s == outcome.measure_wall_s


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

    def ports(
        self, kernel: Mapping[str, Any], connectors: Sequence[Connector]
    ) -> dict[str, dict[str, int]]:
        """All ports of the client are held."""
        self.connectors = list(connectors)
        return {"client": {"range": 500, "held": 500, "held_first": 250, "time_wait": 490}}


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


def test_a_slice_that_failed_for_want_of_ports_says_so(stage: FakeStage, tmp_path: Path) -> None:
    def fail(session: FakeSession, document: dict[str, Any]) -> None:
        session.server.upstream = ("127.0.0.2", 2)
        document["errors"] = {"connect": 3}

    chosen, observer = plan("a"), FakeObserver()
    stage.tamper = fail
    with (
        Troupe(chosen, stage) as troupe,
        Runner(chosen, troupe, {}, stage.clock, observer) as runner,
        SampleWriter(tmp_path) as writer,
    ):
        runner.measure(writer)
    assert observer.connectors == [
        Connector("client", (4,), ("127.0.0.1", 1)),
        Connector("server", (1, 1), ("127.0.0.2", 2)),
    ]
    (sample,) = [one for one in read_samples(tmp_path).samples if one.cell == "a@small"]
    assert sample.status is Status.INVALID
    assert (sample.reason or "").startswith("client saw 3 connect; local ports of the client used")
    assert sample.extra["kernel"]["ports"]["client"]["held"] == 500


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
