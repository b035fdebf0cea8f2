"""Loads into rates: how much the baseline serves in a closed loop, measured before the run.

A workload with a load of 0.5 is driven at half of that, the same rate for every server, so that
their latencies compare. A resumed run keeps the rates that its plan holds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from statistics import quantiles

from iolab import stats
from iolab.console import say
from iolab.errors import IolabError
from iolab.load import LoadSession
from iolab.model import Cell, Plan, Workload
from iolab.troupe import Troupe

_ROUNDS = 24  # after one that warms up: 5 s a shape at the usual length of slices


@dataclass(frozen=True)
class Capacity:
    """What a server answered in a closed loop of this shape, per second, slice by slice."""

    server: str
    size_bytes: int
    connections: int
    pipeline: int
    requests_per_s: tuple[float, ...]

    @property
    def per_s(self) -> float:
        """The upper quartile over slices.

        Neighbours on a shared machine only ever slow a slice down, and often many in a row: the
        median of a few seconds then reads two or three times too low.
        """
        return quantiles(self.requests_per_s, n=4, method="inclusive")[2]


def with_rates(plan: Plan, troupe: Troupe) -> tuple[Plan, tuple[Capacity, ...]]:
    """`plan` with a rate for every load, and what was measured for it.

    IolabError when the baseline cannot be measured.
    """
    shapes: dict[Workload, Cell] = {}
    for cell in plan.cells:
        load = cell.workload
        if load.load and not load.rate_per_s and plan.label(cell) == plan.reference(cell):
            shapes.setdefault(_closed(load), cell)
    found = _measure(plan, troupe, shapes)

    def rated(cell: Cell) -> Cell:
        load = cell.workload
        if not load.load or load.rate_per_s:
            return cell
        rate = round(load.load * found[_closed(load)].per_s, 3)
        return replace(cell, workload=replace(load, rate_per_s=rate))

    return replace(plan, cells=tuple(map(rated, plan.cells))), tuple(found.values())


def _closed(workload: Workload) -> Workload:
    """The closed loop of the same shape."""
    shape = f"{workload.size_bytes}/{workload.connections}/{workload.pipeline}"
    return Workload(shape, workload.size_bytes, workload.connections, workload.pipeline)


def _measure(
    plan: Plan, troupe: Troupe, shapes: Mapping[Workload, Cell]
) -> dict[Workload, Capacity]:
    """The capacities of the baseline; shapes take turns, so that all see the same weather."""
    rates: dict[Workload, list[float]] = {shape: [] for shape in shapes}
    with ExitStack() as stack:
        sessions = {}
        for shape, cell in shapes.items():
            server = troupe.servers[plan.instance(cell)]
            troupe.around.enter(troupe.around.phase(cell))
            sessions[shape] = troupe.around.stage(cell).open_load(server, [shape], plan.seed)
            stack.callback(sessions[shape].close)
        for number in range(1 + _ROUNDS if shapes else 0):
            for shape, session in sessions.items():
                troupe.around.enter(troupe.around.phase(shapes[shape]))
                rate = _slice(plan, session, shape, shapes[shape])
                if number > 0:
                    rates[shape].append(rate)
    return {shape: _capacity(plan, shape, shapes[shape], rates[shape]) for shape in shapes}


def _slice(plan: Plan, session: LoadSession, shape: Workload, cell: Cell) -> float:
    document = session.slice(shape, plan.warmup_ms, plan.slice_ms)
    reason = stats.judge_slice(document, None)
    if reason is not None:
        raise IolabError(f"the baseline's capacity at {cell.workload.name}: {reason}")
    return round(stats.unit_rate(document, 0), 3)


def _capacity(plan: Plan, shape: Workload, cell: Cell, rates: Sequence[float]) -> Capacity:
    capacity = Capacity(
        plan.baseline, shape.size_bytes, shape.connections, shape.pipeline, tuple(rates)
    )
    name = cell.workload.name.partition("-load")[0]
    if capacity.per_s <= 0:
        raise IolabError(
            f"the baseline's capacity at {name}: no response within a slice of "
            f"{plan.slice_ms} ms; give a larger slice_ms"
        )
    say(f"capacity of {plan.baseline} at {name}: {capacity.per_s:,.0f} requests/s")
    return capacity
