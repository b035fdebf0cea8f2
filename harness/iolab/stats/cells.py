"""The samples of a run -> its summaries, workload by workload."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from iolab import bystanders
from iolab import limiter as limits
from iolab.model import Cell, Plan, Sample, Status, Workload
from iolab.stats.pairing import cell_status, paired_logs, rate_logs
from iolab.stats.ranking import rank
from iolab.stats.ratio import estimate
from iolab.stats.slices import overloaded, server_cpu_ns, unit_rate, units, usable
from iolab.stats.summary import CellSummary, WorkloadSummary
from iolab.stats.warmup import warmup_blocks


def summarise(
    plan: Plan, samples: Sequence[Sample], futexes: Mapping[str, float] | None = None
) -> list[WorkloadSummary]:
    """One summary per workload of the plan (and reference; see Plan.groups), cells ranked.

    `futexes` are futex calls per sleep by cell, where a pass has counted them (limiter.judge).
    """
    skipped = warmup_blocks(samples, plan)
    blocks = sorted({sample.block for sample in samples})[skipped:]
    counted = set(blocks)
    by_cell: dict[str, list[Sample]] = {cell.id: [] for cell in plan.cells}
    for sample in samples:
        if sample.cell in by_cell and (sample.block in counted or sample.status is not Status.OK):
            by_cell[sample.cell].append(sample)
    return [
        _summarise_group(plan, workload, reference, cells, by_cell, futexes or {})
        for (workload, reference), cells in plan.groups().items()
    ]


@dataclass(frozen=True)
class _Series:
    """Per-block figures of one cell."""

    rate: dict[int, float]
    server_cpu: dict[int, float]
    total_cpu: dict[int, float]


def _series(samples: Sequence[Sample], unit_bytes: int) -> _Series:
    rate: dict[int, float] = {}
    server_cpu: dict[int, float] = {}
    total_cpu: dict[int, float] = {}
    for sample in samples:
        if sample.load is None or not usable(sample):
            continue
        load, block = sample.load, sample.block
        done = units(load, unit_bytes)
        rate[block] = unit_rate(load, unit_bytes)
        server = server_cpu_ns(load)
        if server is not None and done > 0:
            server_cpu[block] = server / done
            total_cpu[block] = (server + load["cpu"]["client_ns"]) / done
    return _Series(rate, server_cpu, total_cpu)


def _summarise_group(
    plan: Plan,
    workload: Workload,
    reference: str,
    cells: Sequence[Cell],
    by_cell: Mapping[str, Sequence[Sample]],
    futexes: Mapping[str, float],
) -> WorkloadSummary:
    series = {cell.id: _series(by_cell[cell.id], workload.unit_bytes) for cell in cells}
    base_cell = next((cell for cell in cells if plan.label(cell) == reference), None)
    # What a baseline measured before it failed is no yardstick: then there are no ratios.
    sound = base_cell and cell_status(base_cell, by_cell[base_cell.id])[0] is Status.OK
    base = series[base_cell.id] if base_cell and sound else _Series({}, {}, {})
    summaries = [
        _summarise_cell(plan, c, by_cell[c.id], series[c.id], base, futexes.get(c.id))
        for c in cells
    ]
    rates = {cell_id: one.rate for cell_id, one in series.items()}
    # In an open loop the rate is ours: who answers it says nothing, how late does (curve.py).
    ranked = summaries if workload.open_loop else rank(summaries, rates, plan.seed)
    return WorkloadSummary(workload, reference, tuple(ranked))


def _summarise_cell(
    plan: Plan,
    cell: Cell,
    samples: Sequence[Sample],
    series: _Series,
    base: _Series,
    futexes: float | None,
) -> CellSummary:
    status, reason = cell_status(cell, samples)
    bare = CellSummary(
        cell.id, plan.label(cell), cell.workload.name, status, reason, twin=cell.server.twin
    )
    if status is not Status.OK or not series.rate:
        return bare
    unit_bytes = cell.workload.unit_bytes
    disturbance = bystanders.evidence(samples)
    samples = bystanders.undisturbed(samples)
    loads = [sample.load for sample in samples if sample.load is not None]
    done = [(load, units(load, unit_bytes)) for load in loads]
    client_share = _median(load["cpu"]["client_share"] for load in loads)
    server_share = _median(_server_shares(loads))
    units_per_s = _median(series.rate.values())
    found = _limiter(cell, samples, futexes)
    return replace(
        bare,
        slices=len(series.rate),
        units_per_s=units_per_s,
        bytes_per_s=None if units_per_s is None else units_per_s * unit_bytes,
        resident_peak_bytes=_peak(samples, "resident_peak_bytes"),
        group_peak_bytes=_peak(samples, "group_peak_bytes"),
        pipe_peak_bytes=_peak(samples, "pipe_bytes"),
        server_us_per_unit=_scaled(_median(series.server_cpu.values()), 1e-3),
        client_us_per_unit=_scaled(
            _median(load["cpu"]["client_ns"] / nr for load, nr in done if nr > 0), 1e-3
        ),
        server_share=server_share,
        client_share=client_share,
        limiter=found.name if found else None,
        limiter_evidence="; ".join(
            text for text in (found.evidence if found else None, disturbance) if text
        )
        or None,
        ratio=estimate(rate_logs(series.rate, base.rate), plan.seed),
        server_cpu_ratio=estimate(paired_logs(series.server_cpu, base.server_cpu), plan.seed),
        total_cpu_ratio=estimate(paired_logs(series.total_cpu, base.total_cpu), plan.seed),
    )


def limiter_of(cell: Cell, samples: Iterable[Sample]) -> limits.Limiter | None:
    """What set the rate of `cell` in those of `samples` that are its own and count."""
    return _limiter(cell, [s for s in samples if s.cell == cell.id and usable(s)], None)


def _limiter(cell: Cell, samples: Sequence[Sample], futexes: float | None) -> limits.Limiter | None:
    loads = [sample.load for sample in samples if sample.load is not None]
    return limits.judge(
        _median(load["cpu"]["client_share"] for load in loads),
        _median(_server_shares(loads)),
        limits.pressure(s.extra["kernel"] for s in samples if "kernel" in s.extra),
        cell.workload.open_loop and not overloaded(loads),
        futexes,
    )


def _server_shares(loads: Iterable[Mapping[str, Any]]) -> list[float]:
    found = ((server_cpu_ns(load), load["window"]["ns"]) for load in loads)
    return [used_ns / ns for used_ns, ns in found if used_ns is not None and ns > 0]


def _peak(samples: Iterable[Sample], key: str) -> int | None:
    """The largest figure of that name that was stored with the slices, None for none."""
    found = [sample.extra.get("memory", {}).get(key) for sample in samples]
    return max((int(value) for value in found if value is not None), default=None)


def _median(values: Iterable[float]) -> float | None:
    found = list(values)
    return float(np.median(found)) if found else None


def _scaled(value: float | None, factor: float) -> float | None:
    return None if value is None else value * factor
