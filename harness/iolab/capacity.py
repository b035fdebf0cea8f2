"""Loads into rates: how much servers answer in a closed loop, measured before the run.

A workload with a load of 0.5 is driven at half of what the baseline answers, the same rate for
every server, so that their latencies compare. The other servers are asked in fewer slices, for one
thing alone: where the highest load would not saturate the fastest of them, one that should is
added. A resumed run keeps the rates that its plan holds.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from statistics import quantiles

from iolab import stats
from iolab.console import say
from iolab.errors import IolabError
from iolab.executor import ProcessError
from iolab.load import LoadSession
from iolab.model import Cell, Plan, Workload
from iolab.troupe import Troupe

_ROUNDS = 24  # after one that warms up: 5 s a shape at the usual length of slices
_PROBES = 6  # of the others: a quarter of that for each server and shape
_BEYOND = 1.2
"""A rate above the fastest server's capacity by this is beyond what it can answer: the capacity is
that of a closed loop, and was read in a few slices."""


@dataclass(frozen=True)
class Capacity:
    """What a server answered in a closed loop of this shape, per second, slice by slice."""

    server: str
    size_bytes: int
    connections: int
    pipeline: int
    requests_per_s: tuple[float, ...]

    @property
    def shape(self) -> tuple[int, int, int]:
        """What it was asked for: bytes, connections, and requests outstanding on each."""
        return self.size_bytes, self.connections, self.pipeline

    @property
    def per_s(self) -> float:
        """The upper quartile over slices.

        Neighbours on a shared machine only ever slow a slice down, and often many in a row: the
        median of a few seconds then reads two or three times too low.
        """
        return quantiles(self.requests_per_s, n=4, method="inclusive")[2]


def with_rates(plan: Plan, troupe: Troupe) -> tuple[Plan, tuple[Capacity, ...]]:
    """`plan` with a rate for every load, and what was measured for it.

    It has a load more for each shape whose fastest server would have met all of them. IolabError
    when the baseline cannot be measured; another server that cannot is left out here.
    """
    shapes: dict[Workload, Cell] = {}
    for cell in plan.cells:
        load = cell.workload
        if load.load and not load.rate_per_s and plan.label(cell) == plan.reference(cell):
            shapes.setdefault(_closed(load), cell)
    found = _measure(plan, troupe, shapes, _ROUNDS)
    for shape, capacity in found.items():
        name = _stem(shapes[shape].workload)
        say(f"capacity of {capacity.server} at {name}: {capacity.per_s:,.0f} requests/s")
    others = list(_probe_others(plan, troupe, shapes))
    plan = replace(plan, cells=tuple(_saturating(plan, found, others)))

    def rated(cell: Cell) -> Cell:
        load = cell.workload
        if not load.load or load.rate_per_s:
            return cell
        rate = round(load.load * found[_closed(load)].per_s, 3)
        return replace(cell, workload=replace(load, rate_per_s=rate))

    return replace(plan, cells=tuple(map(rated, plan.cells))), (*found.values(), *others)


def _closed(workload: Workload) -> Workload:
    """The closed loop of the same shape."""
    shape = f"{workload.size_bytes}/{workload.connections}/{workload.pipeline}"
    return Workload(shape, workload.size_bytes, workload.connections, workload.pipeline)


def _stem(workload: Workload) -> str:
    """The name of the workload that has these loads."""
    return workload.name.partition("-load")[0]


# --- the highest load ----------------------------------------------------------------------------


def _saturating(
    plan: Plan, found: Mapping[Workload, Capacity], others: Sequence[Capacity]
) -> Iterator[Cell]:
    """The cells of `plan`; those at the highest load of a shape again, at one beyond the fastest's.

    Unless that load is beyond it already, or below 1: who stays below what the baseline answers
    looks for no saturation.
    """
    highest = {shape: max(_loads(plan, shape)) for shape in found}
    most = {shape: load for shape, load in highest.items() if load >= 1}
    beyond = {shape: _beyond(found[shape], others) for shape in most}
    for shape, (load, fastest) in beyond.items():
        if load > most[shape]:
            say(
                f"{fastest.server} answers {fastest.per_s / found[shape].per_s:.2f} times what the "
                f"baseline does: a load of {load:g} is added, for {most[shape]:g} would not "
                "saturate it"
            )
    for cell in plan.cells:
        yield cell
        driven, shape = cell.workload, _closed(cell.workload)
        if shape not in most or driven.rate_per_s or driven.load != most[shape]:
            continue
        more, _ = beyond[shape]
        if more > most[shape]:
            name = f"{_stem(driven)}-load{more:g}"
            yield replace(cell, workload=replace(driven, name=name, load=more))


def _loads(plan: Plan, shape: Workload) -> Iterator[float]:
    """The loads of a shape that are no rates yet."""
    for load in plan.workloads:
        if load.load and not load.rate_per_s and _closed(load) == shape:
            yield load.load


def _beyond(base: Capacity, others: Sequence[Capacity]) -> tuple[float, Capacity]:
    """A load that saturates the fastest server of a shape, to a decimal place, and that server."""
    mine = [base, *(one for one in others if one.shape == base.shape)]
    fastest = max(mine, key=lambda one: one.per_s)
    return math.ceil(10 * _BEYOND * fastest.per_s / base.per_s) / 10, fastest


# --- measuring -----------------------------------------------------------------------------------


def _probe_others(
    plan: Plan, troupe: Troupe, shapes: Mapping[Workload, Cell]
) -> Iterator[Capacity]:
    """The capacities of every other server that runs, one after another.

    Of each shape under the condition of the baseline's.
    """
    for server in plan.servers:
        cells = {
            shape: replace(base, server=server)
            for shape, base in shapes.items()
            if server != base.server and not server.twin
        }
        wanted = {
            shape: cell
            for shape, cell in cells.items()
            if cell in plan.cells and plan.instance(cell) in troupe.servers
        }
        try:
            yield from _measure(plan, troupe, wanted, _PROBES).values()
        except (IolabError, ProcessError) as error:
            say(f"capacity of {server.label}: not known: {error}")


def _measure(
    plan: Plan, troupe: Troupe, shapes: Mapping[Workload, Cell], rounds: int
) -> dict[Workload, Capacity]:
    """The capacities of cells' servers; shapes take turns, so that all see the same weather."""
    rates: dict[Workload, list[float]] = {shape: [] for shape in shapes}
    with ExitStack() as stack:
        sessions = {}
        for shape, cell in shapes.items():
            server = troupe.servers[plan.instance(cell)]
            troupe.around.enter(troupe.around.phase(cell))
            sessions[shape] = troupe.around.stage(cell).open_load(server, [shape], plan.seed)
            stack.callback(sessions[shape].close)
        for number in range(1 + rounds if shapes else 0):
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
        raise IolabError(f"the capacity of {plan.label(cell)} at {cell.workload.name}: {reason}")
    return round(stats.unit_rate(document, 0), 3)


def _capacity(plan: Plan, shape: Workload, cell: Cell, rates: Sequence[float]) -> Capacity:
    capacity = Capacity(
        plan.label(cell), shape.size_bytes, shape.connections, shape.pipeline, tuple(rates)
    )
    if capacity.per_s <= 0:
        raise IolabError(
            f"the capacity of {capacity.server} at {_stem(cell.workload)}: no response within a "
            f"slice of {plan.slice_ms} ms; give a larger slice_ms"
        )
    return capacity
