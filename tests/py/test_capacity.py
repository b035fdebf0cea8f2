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
        rate = self.stage.fixed.get(self.server, rate)
        nr = rate * duration_ms // 1000
        return {
            "window": {"ns": duration_ms * 1_000_000, "requests": nr, "body_bytes": 0},
            "total": {"requests": max(1, nr), "body_bytes": 0},
            "errors": {"timeout": self.stage.timeouts or 3 * (self.server in self.stage.failing)},
        }

    def close(self) -> None:
        self.closed = True


@dataclass
class FakeStage:
    rates: list[int]
    timeouts: int = 0
    fixed: dict[str, int] = field(default_factory=dict)
    failing: tuple[str, ...] = ()
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
    slices = [500, 500, 1000, 1000, 2000, 2000] * 8
    stage = FakeStage([9000, 9000, *slices], fixed={"a": 1500})
    found = resolve(stage, plan())
    rates = {(c.server.label, c.workload.name): c.workload.rate_per_s for c in found.cells}
    for server in ("a", "b"):
        assert rates[server, "small"] == rates[server, "large"] == 0
        assert rates[server, "s5"] == 1000
        assert rates[server, "s12"] == 2400
        assert rates[server, "l1"] == 2000
        assert rates[server, "fixed"] == 77
    asked = [("b", 10), ("b", 1000)] * 25 + [("a", 10), ("a", 1000)] * 7
    assert stage.asked == asked
    assert all(session.closed for session in stage.sessions)
    # At 1,000 bytes, the load of 1 would saturate nobody.
    added = [cell.id for cell in found.cells if cell.workload.name == "l1-load1.2"]
    assert added == ["a@l1-load1.2", "b@l1-load1.2"]
    assert [cell.id for cell in found.cells if cell.id not in added] == [
        cell.id for cell in plan().cells
    ]


def loads_of(found: Plan) -> dict[str, list[float]]:
    """The rates of open loops by server, in the order of the plan, at 10 bytes."""
    return {
        name: [
            cell.workload.rate_per_s
            for cell in found.cells
            if cell.server.name == name and cell.workload.size_bytes == 10 and cell.workload.load
        ]
        for name in "ab"
    }


@pytest.mark.parametrize(
    ("fastest", "added"),
    [
        (500, []),  # slower than the baseline, which 1.2 saturates
        (1000, []),
        (1090, [1400.0]),
        (3100, [3800.0]),
    ],
)
def test_the_highest_load_saturates_the_fastest_server(fastest: int, added: list[float]) -> None:
    stage = FakeStage([1000], fixed={"a": fastest})
    assert loads_of(resolve(stage, plan())) == {
        "a": [500.0, 1200.0, *added],
        "b": [500.0, 1200.0, *added],
    }


def test_loads_that_saturate_nobody_on_purpose_stay_alone() -> None:
    low = replace(
        plan(), cells=tuple(cell for cell in plan().cells if cell.workload.name in ("small", "s5"))
    )
    found = resolve(FakeStage([1000], fixed={"a": 3000}), low)
    assert loads_of(found) == {"a": [500.0], "b": [500.0]}


def test_an_added_load_is_named_like_the_others_and_said(
    capsys: pytest.CaptureFixture[str],
) -> None:
    found = resolve(FakeStage([1000], fixed={"a": 3000}), plan())
    names = [load.name for load in found.workloads]
    assert names == ["small", "s5", "s12", "s12-load3.6", "large", "l1", "l1-load3.6", "fixed"]
    said = capsys.readouterr().err
    assert "a answers 3.00 times what the baseline does: a load of 3.6 is added" in said


def test_a_server_whose_capacity_cannot_be_read_ends_no_run(
    capsys: pytest.CaptureFixture[str],
) -> None:
    found = resolve(FakeStage([1000], failing=("a",)), plan())
    assert loads_of(found) == {"a": [500.0, 1200.0], "b": [500.0, 1200.0]}
    assert "capacity of a: not known: " in capsys.readouterr().err


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
    with pytest.raises(IolabError, match="capacity of b at s5: client saw 3 timeout"):
        resolve(FakeStage([1000], timeouts=3), plan())
    with pytest.raises(IolabError, match="larger slice_ms"):
        resolve(FakeStage([1]), plan())
