"""Whole runs on a fake stage: plans of two workloads, and the runner around them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from fakestage import FakeServer, FakeStage

from iolab.model import Cell, Plan, Server, Workload
from iolab.runner import Outcome, Retired, Runner
from iolab.store import SampleWriter
from iolab.troupe import Troupe

SMALL, LARGE = Workload("small", 100, 2), Workload("large", 1000, 2)


def plan(*names: str, unsupported: str = "", **changes: Any) -> Plan:
    """Servers of these names on both workloads; `changes` are of the plan's fields."""
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
    """The runner of a plan on a stage, its servers and clients up."""
    with (
        Troupe(chosen, stage) as troupe,
        Runner(
            chosen, troupe, retired or {}, stage.clock, cpu_clock=FakeServer.cpu_clock
        ) as runner,
    ):
        yield runner


def measure(stage: FakeStage, chosen: Plan, run_dir: Path) -> Outcome:
    """A whole run into `run_dir`."""
    with running(stage, chosen) as runner, SampleWriter(run_dir) as writer:
        return runner.measure(writer)
