"""Loads into rates: how much the baseline serves in a closed loop, measured before the run.

A workload with a load of 0.5 is driven at half of that, the same rate for every server, so that
their latencies compare. A resumed run keeps the rates that its plan holds.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from statistics import median

from iolab import stats
from iolab.console import say
from iolab.errors import IolabError
from iolab.model import Cell, Plan, Workload
from iolab.runner import Stage, Troupe

# Odd, so that the median is a slice; one more goes first and is not counted.
_SLICES = 9


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
        """The median over slices."""
        return median(self.requests_per_s)


def with_rates(plan: Plan, stage: Stage, troupe: Troupe) -> tuple[Plan, tuple[Capacity, ...]]:
    """`plan` with a rate for every load, and what was measured for it.

    IolabError when the baseline cannot be measured.
    """
    shapes: dict[Workload, Workload] = {}
    for load in plan.workloads:
        if load.load and not load.rate_per_s:
            shapes.setdefault(_closed(load), load)
    found = {shape: _measure(plan, stage, troupe, load) for shape, load in shapes.items()}

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


def _measure(plan: Plan, stage: Stage, troupe: Troupe, workload: Workload) -> Capacity:
    cell = next(c for c in plan.cells if c.workload == workload and c.server.label == plan.baseline)
    closed = _closed(workload)
    session = stage.open_load(troupe.servers[plan.instance(cell)], [closed], plan.seed)
    try:
        slices = [session.slice(closed, plan.warmup_ms, plan.slice_ms) for _ in range(_SLICES + 1)]
    finally:
        session.close()
    for document in slices:
        reason = stats.judge_slice(document, None)
        if reason is not None:
            raise IolabError(f"the baseline's capacity at {workload.name}: {reason}")
    rates = (stats.unit_rate(document, 0) for document in slices[1:])
    capacity = Capacity(
        plan.baseline, closed.size_bytes, closed.connections, closed.pipeline, _rounded(rates)
    )
    if capacity.per_s <= 0:
        raise IolabError(
            f"the baseline's capacity at {workload.name}: no response within a slice of "
            f"{plan.slice_ms} ms; give a larger slice_ms"
        )
    say(f"capacity of {plan.baseline} at {workload.name.partition('-load')[0]}: "
        f"{capacity.per_s:,.0f} requests/s")  # fmt: skip
    return capacity


def _rounded(rates: Iterable[float]) -> tuple[float, ...]:
    return tuple(round(rate, 3) for rate in rates)
