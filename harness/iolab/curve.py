"""Open-loop slices -> curves of latency against load. Pure.

A percentile is that of all requests that were due in a cell's windows: histograms are merged, never
percentiles averaged. A request that was never sent has a latency above every other: with a share a
of such, percentiles above 1 - a are infinite. Intervals come from a circular block bootstrap
(`stats.resample_blocks`): whole blocks are drawn, for requests of a slice are anything but
independent. Resamples of few blocks spread less than what the blocks came from, so that intervals
end further out than at the plain percentiles (`_tail`). The maximum of a sample says nothing about
larger ones to come, and has no interval.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from iolab import stats
from iolab.histogram import Counts, gather
from iolab.model import Plan, Sample, Status, Workload
from iolab.plain import plain
from iolab.stats import CellSummary, Floats, WorkloadSummary

QUANTILES = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "p99.9": 0.999}
MAX = "max"
_RESAMPLES = 1000
_MIN_BLOCKS = 8  # fewer say too little about each other for an interval
_LATE_SHARE = 0.5
_GROWTH_ERRORS = 3.0  # standard errors by which a backlog's mean growth is told from chance


@dataclass(frozen=True)
class Quantile:
    """A percentile in ns and its 95% interval; infinite where it falls on requests never sent.

    `low` and `high` are None for the maximum and with fewer than 8 blocks.
    """

    ns: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Point:
    """A server at one rate.

    `offered_per_s` is what was due in the windows, `achieved_per_s` what was answered in them; the
    server is saturated (`overload`) when its slices mostly end in a backlog. `quantiles` has the
    keys of QUANTILES and `max`. `lateness` is the generator's own part of the latency, at the
    percentiles of QUANTILES; that it receives late is in no lateness.
    `client_limited`: the generator's CPU was used up, or its lateness is half of the median.
    `late` are the percentiles at which its lateness is half of the latency: those may be its own.
    `unsettled`: the backlog grew from begin to end of the windows, on average, though the rate was
    met: latency depends on their length, and a longer one would have more of it.
    """

    cell: str
    workload: str
    load: float
    rate_per_s: float
    offered_per_s: float
    achieved_per_s: float
    overload: bool
    slices: int
    requests: int
    abandoned: int
    quantiles: Mapping[str, Quantile]
    lateness: Mapping[str, float]
    limiter: str | None
    client_limited: bool
    late: tuple[str, ...] = ()
    unsettled: bool = False


@dataclass(frozen=True)
class Curve:
    """A server's points by rising rate, and what it answers per second in a closed loop."""

    server: str
    capacity_per_s: float | None
    points: tuple[Point, ...]

    @property
    def kept_up(self) -> tuple[Point, ...]:
        """The points below saturation: up to the first that was overloaded."""
        first = next((at for at, point in enumerate(self.points) if point.overload), None)
        return self.points[:first]

    @property
    def ended_by_grid(self) -> bool:
        """Whether the highest rate tried was met, so that saturation lies beyond all of them."""
        return len(self.kept_up) == len(self.points)


@dataclass(frozen=True)
class CurveSet:
    """The curves of one shape of workload: a size, its connections and their depth."""

    name: str
    workload: Workload
    curves: tuple[Curve, ...]


def to_json(found: CurveSet) -> dict[str, Any]:
    """Curves as JSON, in which infinity is null: percentiles that fall on requests never sent."""
    document: dict[str, Any] = plain(asdict(found))
    for one, curve in zip(document["curves"], found.curves, strict=True):
        one["ended_by_grid"] = curve.ended_by_grid
    return document


def curve_sets(
    plan: Plan, samples: Sequence[Sample], summaries: Iterable[WorkloadSummary]
) -> tuple[CurveSet, ...]:
    """Every shape of the plan that is driven in open loops; `samples` are those that count."""
    cells = {cell.cell: cell for summary in summaries for cell in summary.cells}
    by_cell: dict[str, list[Sample]] = {}
    for sample in samples:
        if sample.status is Status.OK and sample.load is not None:
            by_cell.setdefault(sample.cell, []).append(sample)
    shapes: dict[tuple[int, int, int, str], list[Workload]] = {}
    for workload in plan.workloads:
        shapes.setdefault(_shape(workload), []).append(workload)
    return tuple(
        _curve_set(plan, workloads, cells, by_cell)
        for workloads in shapes.values()
        if any(workload.open_loop for workload in workloads)
    )


def _shape(workload: Workload) -> tuple[int, int, int, str]:
    return workload.size_bytes, workload.connections, workload.pipeline, workload.arrivals


def _curve_set(
    plan: Plan,
    workloads: Sequence[Workload],
    cells: Mapping[str, CellSummary],
    by_cell: Mapping[str, Sequence[Sample]],
) -> CurveSet:
    closed = next((workload for workload in workloads if not workload.open_loop), None)
    offered = sorted((w for w in workloads if w.open_loop), key=lambda w: (w.rate_per_s, w.load))
    curves = []
    for server in plan.servers:
        mine = {c.workload: c.id for c in plan.cells if c.server == server}
        points = [
            point(cells[mine[load]], load, by_cell[mine[load]], plan.seed)
            for load in offered
            if load in mine and mine[load] in by_cell and cells[mine[load]].status is Status.OK
        ]
        capacity = cells[mine[closed]].units_per_s if closed in mine else None
        if points:
            curves.append(Curve(server.label, capacity, tuple(points)))
    name = closed.name if closed else offered[0].name.partition("-load")[0]
    return CurveSet(name, closed or offered[0], tuple(curves))


def point(cell: CellSummary, workload: Workload, samples: Sequence[Sample], seed: int) -> Point:
    """What the slices of one cell say."""
    loads = [sample.load for sample in samples if sample.load is not None]
    opens = [load["open_loop"] for load in loads]
    seconds = sum(load["window"]["ns"] for load in loads) / 1e9
    abandoned = [int(one["abandoned"]) for one in opens]
    counts = gather((load["latency"] for load in loads), abandoned)
    found = quantiles(counts, seed) if counts else {}
    lateness = _lateness(opens)
    late = tuple(q for q, ns in lateness.items() if q in found and ns > _LATE_SHARE * found[q].ns)
    overload = stats.overloaded(loads)
    return Point(
        cell=cell.cell,
        workload=workload.name,
        load=workload.load,
        rate_per_s=workload.rate_per_s,
        offered_per_s=sum(one["due"] for one in opens) / seconds,
        achieved_per_s=sum(load["window"]["requests"] for load in loads) / seconds,
        overload=overload,
        slices=len(loads),
        requests=int(counts.table.sum()) - sum(abandoned) if counts else 0,
        abandoned=sum(abandoned),
        quantiles=found,
        lateness=lateness,
        limiter=cell.limiter,
        client_limited=cell.client_limited or "p50" in late,
        late=late,
        unsettled=not overload and _grows(opens),
    )


def _grows(opens: Sequence[Mapping[str, Any]]) -> bool:
    """Whether the backlog grew over the windows by more than chance; False of earlier versions.

    Slices begin without a backlog; near saturation the warm-up is too short for it to settle.
    """
    growth = [one["backlog_end"] - one["backlog_begin"] for one in opens if "backlog_end" in one]
    if len(growth) < _MIN_BLOCKS:
        return False
    error = float(np.std(growth, ddof=1)) / math.sqrt(len(growth))
    return float(np.mean(growth)) > max(_GROWTH_ERRORS * error, 1.0)


def _lateness(opens: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    counts = gather(one["lateness"] for one in opens)
    if counts is None:
        return {}
    whole = counts.table.sum(axis=0, keepdims=True)
    return {name: float(at_share(whole, counts.values, q)[0]) for name, q in QUANTILES.items()}


def quantiles(counts: Counts, seed: int) -> dict[str, Quantile]:
    """The percentiles over all blocks, with intervals, and the maximum."""
    whole = counts.table.sum(axis=0, keepdims=True)
    nr = len(counts.table)
    correlation = _correlation(counts)
    drawn = _resampled(counts, correlation, seed) if nr >= _MIN_BLOCKS else None
    length = stats.resample_length(nr, correlation)
    found = {}
    for name, share in QUANTILES.items():
        value = float(at_share(whole, counts.values, share)[0])
        if drawn is None:
            found[name] = Quantile(value)
            continue
        several = np.sort(at_share(drawn, counts.values, share))
        # Order statistics, for between a finite value and infinity nothing can be interpolated.
        tail = int(_tail(nr, length) * len(several))
        found[name] = Quantile(value, float(several[tail]), float(several[-1 - tail]))
    found[MAX] = Quantile(counts.most)
    return found


def _tail(nr: int, length: int) -> float:
    """The share of resamples beyond each end of an interval: of `nr` blocks, `length` together.

    Plain percentiles take the spread of the resamples for known and as large as it should be. It is
    too small by the root of 1 - length / nr, and rests on nr / length pieces: both are mended as in
    Hesterberg's expanded percentile interval (2015), for pieces instead of single values.
    """
    from scipy.stats import norm, t

    freedom = max(1.0, nr / length - 1)
    deviate = float(t.isf((1 - stats.CONFIDENCE) / 2, freedom)) / math.sqrt(1 - length / nr)
    return float(norm.sf(deviate))


def _correlation(counts: Counts) -> float:
    """How much neighbouring blocks resemble each other, by their medians."""
    medians = np.log(np.maximum(at_share(counts.table, counts.values, 0.5), 1.0))
    return stats.correlation(medians[np.isfinite(medians)])


def _resampled(counts: Counts, correlation: float, seed: int) -> Floats:
    """A row of counts for each resample of the blocks."""
    nr = len(counts.table)
    index = stats.resample_blocks(nr, correlation, seed, _RESAMPLES)
    weights = np.zeros((_RESAMPLES, nr))
    np.add.at(weights, (np.arange(_RESAMPLES)[:, None], index), 1.0)
    drawn: Floats = weights @ counts.table
    return drawn


def at_share(table: Floats, values: Floats, share: float) -> Floats:
    """For each row of counts, the value that at least `share` of them do not exceed; 0 if none."""
    running = np.cumsum(table, axis=1)
    ranks = np.maximum(1.0, np.ceil(share * running[:, -1]))
    found = np.argmax(running >= ranks[:, None], axis=1)
    return np.where(running[:, -1] > 0, values[found], 0.0)
