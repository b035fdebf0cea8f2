"""Loads become rates: of what the baseline answers, once a shape, and the same for all servers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, cast

import pytest

from iolab.capacity import with_rates
from iolab.errors import IolabError
from iolab.load import LoadSession
from iolab.model import Cell, Plan, Role, Server, Workload
from iolab.servers import RunningServer
from iolab.troupe import Stage, Troupe


@dataclass
class FakeServer:
    name: str

    def stop(self) -> None:
        pass


@dataclass
class FakeSession:
    stage: FakeStage
    server: str
    closed: bool = False
    pids: tuple[int, ...] = (1,)

    def slice(self, workload: Workload, warmup_ms: int, duration_ms: int) -> dict[str, Any]:
        assert not workload.open_loop
        self.stage.asked.append((self.server, workload.size_bytes))
        rate = self.stage.rates[(len(self.stage.asked) - 1) % len(self.stage.rates)]
        nr = rate * duration_ms // 1000
        return {
            "window": {"ns": duration_ms * 1_000_000, "requests": nr, "body_bytes": 0},
            "total": {"requests": max(1, nr), "body_bytes": 0},
            "errors": {"timeout": self.stage.timeouts},
        }

    def close(self) -> None:
        self.closed = True


@dataclass
class FakeStage:
    rates: list[int]
    timeouts: int = 0
    asked: list[tuple[str, int]] = field(default_factory=list)
    sessions: list[FakeSession] = field(default_factory=list)

    def start_server(
        self, server: Server, role: Role, memory_limit_bytes: int | None = None
    ) -> RunningServer:
        return cast(RunningServer, FakeServer(server.label))

    def open_load(
        self, server: RunningServer, workloads: Sequence[Workload], seed: int
    ) -> LoadSession:
        self.sessions.append(FakeSession(self, cast(FakeServer, server).name))
        return self.sessions[-1]


def plan() -> Plan:
    small, large = Workload("small", 10, 5), Workload("large", 1000, 5)
    loads = [
        small, replace(small, name="s5", load=0.5), replace(small, name="s12", load=1.2),
        large, replace(large, name="l1", load=1.0), replace(small, name="fixed", rate_per_s=77.0),
    ]  # fmt: skip
    servers = [Server("engine", "a"), Server("engine", "b")]
    cells = tuple(Cell(server, load) for load in loads for server in servers)
    return Plan("p", "", "b", cells, slice_ms=100)


def resolve(stage: FakeStage, chosen: Plan) -> Plan:
    with Troupe(chosen, cast(Stage, stage)) as troupe:
        return with_rates(chosen, troupe)[0]


def test_every_server_meets_the_baselines_share() -> None:
    # The first slice of each shape warms up; of the others one in three is not disturbed.
    stage = FakeStage([9000, 9000, *[500, 500, 1000, 1000, 2000, 2000] * 8])
    found = resolve(stage, plan())
    rates = {(c.server.label, c.workload.name): c.workload.rate_per_s for c in found.cells}
    for server in ("a", "b"):
        assert rates[server, "small"] == rates[server, "large"] == 0
        assert rates[server, "s5"] == 1000
        assert rates[server, "s12"] == 2400
        assert rates[server, "l1"] == 2000
        assert rates[server, "fixed"] == 77
    assert stage.asked == [("b", 10), ("b", 1000)] * 25
    assert all(session.closed for session in stage.sessions)
    assert [cell.id for cell in found.cells] == [cell.id for cell in plan().cells]


def test_a_resumed_plan_keeps_its_rates() -> None:
    stage = FakeStage([1000])
    once = resolve(stage, plan())
    nr = len(stage.asked)
    assert resolve(stage, once) == once
    assert len(stage.asked) == nr


def test_a_plan_without_loads_measures_nothing() -> None:
    stage = FakeStage([1000])
    closed = replace(plan(), cells=plan().cells[:2])
    assert resolve(stage, closed) == closed
    assert stage.asked == []


def test_a_baseline_that_fails_has_no_capacity() -> None:
    with pytest.raises(IolabError, match="capacity at s5: client saw 3 timeout"):
        resolve(FakeStage([1000], timeouts=3), plan())
    with pytest.raises(IolabError, match="larger slice_ms"):
        resolve(FakeStage([1]), plan())
