"""From a stored run to a `ReportView`. Every verdict comes from `iolab.stats`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from iolab import ablation, control, curve, stats
from iolab.model import GIB, Plan, Sample, Status, Workload
from iolab.report import context, crosscheck, crossover, fmt, latency, palette, syscalls, zerocopy
from iolab.report.run import Run
from iolab.report.view import (
    CellView,
    Crossing,
    Estimate,
    Headline,
    Point,
    ReportView,
    Spread,
    WorkloadView,
)
from iolab.syscallcheck import futexes_per_sleep
from iolab.wording import PER_SECOND, clients, payload

MIB = 1 << 20


@dataclass(frozen=True)
class _Slices:
    """The slices of a run that count: without warm-up blocks, by cell."""

    by_cell: Mapping[str, tuple[Sample, ...]]
    started_ns: int

    @property
    def all(self) -> list[Sample]:
        """Those of all cells."""
        return [sample for found in self.by_cell.values() for sample in found]

    def ok(self, cell: str) -> tuple[Sample, ...]:
        """The usable slices of a cell, in the order of blocks."""
        return self.by_cell.get(cell, ())


def build(run: Run) -> ReportView:
    """Everything the report of `run` shows."""
    futexes = futexes_per_sleep(run.syscalls)
    summaries = stats.summarise(run.plan, run.samples, futexes)
    slices = _counted(run)
    counted = [*slices.all, *(s for s in run.samples if s.status is not Status.OK)]
    checks = context.control_servers(run.manifest, run.plan)
    closed = [summary for summary in summaries if not summary.workload.open_loop]
    built = [_workload(s, slices, run.plan, checks) for s in closed]
    workloads = tuple(workload for workload, _ in built)
    places = {place.workload: place for _, place in built}
    labels = [run.plan.label(cell) for cell in run.plan.cells]
    return ReportView(
        run=run.name,
        matrix=run.plan.name,
        summary=run.plan.summary,
        started=context.started(run),
        baseline=_baseline(run.plan),
        role=run.plan.role,
        per_second=" or ".join(dict.fromkeys(PER_SECOND[w.unit] for w in run.plan.workloads)),
        host=context.host(run.manifest),
        trust=context.trust(run, workloads, stats.warmup_blocks(run.samples, run.plan)),
        controls=context.controls(run, workloads),
        limitations=context.limitations(run, workloads),
        workloads=workloads,
        wrk=crosscheck.rows(run.wrk, run.plan.baseline, workloads),
        styles=palette.styles(labels, run.plan.reference(run.plan.cells[0])),
        manifest=run.manifest,
        raw_files=run.raw_files,
        crossings=crossover.crossings(run.plan, places),
        syscalls=syscalls.rows(run.syscalls),
        curves=curve.curve_sets(run.plan, slices.all, summaries),
        blocks=len({sample.block for sample in slices.all}),
        ablations=tuple(ablation.steps(run.plan, counted)),
        profiles=context.profiles(run.manifest),
        untrusted=control.untrusted(control.read(run.plan, run.samples)),
    )


def _baseline(plan: Plan) -> str:
    """What ratios are to, in words."""
    if plan.baseline_profile is None:
        return plan.baseline
    return f"profile {plan.baseline_profile}"


def _counted(run: Run) -> _Slices:
    blocks = sorted({sample.block for sample in run.samples})
    counted = set(blocks[stats.warmup_blocks(run.samples, run.plan) :])
    by_cell: dict[str, list[Sample]] = {}
    for sample in sorted(run.samples, key=lambda sample: sample.block):
        if stats.usable(sample) and sample.block in counted:
            by_cell.setdefault(sample.cell, []).append(sample)
    return _Slices(
        {cell: tuple(found) for cell, found in by_cell.items()},
        min(sample.started_unix_ns for sample in run.samples),
    )


# --- one workload --------------------------------------------------------------------------------


def _workload(
    summary: stats.WorkloadSummary, slices: _Slices, plan: Plan, controls: frozenset[str]
) -> tuple[WorkloadView, Crossing]:
    workload, seed = summary.workload, plan.seed
    rates = {cell.cell: _rates(slices.ok(cell.cell), workload) for cell in summary.cells}
    ranked = list(summary.cells)
    if any(cell.server in controls for cell in ranked):
        apart = [replace(c, rank=None, tied=False) for c in ranked if c.server in controls]
        ranked = stats.rank([c for c in ranked if c.server not in controls], rates, seed) + apart
    base = next((c.cell for c in ranked if c.server == summary.baseline), "")
    if not any(c.cell == base and c.status is Status.OK for c in ranked):
        # Slices from before it went wrong are no yardstick either.
        rates[base] = {}
        ranked = [_without_yardstick(c) for c in ranked]
    cells = tuple(
        _cell(c, workload, slices, rates.get(base, {}), _place(c, summary.baseline, controls))
        for c in ranked
    )
    order = {"ranked": 0, "baseline": 0, "unranked": 0, "client-limited": 1, "control": 2, "out": 3}
    cells = tuple(sorted(cells, key=lambda cell: order[cell.place]))
    view = WorkloadView(
        name=plan.title(workload, summary.baseline),
        size_bytes=workload.size_bytes,
        connections=workload.connections,
        pipeline=workload.pipeline,
        pairs=workload.pairs,
        unit=workload.unit,
        payload=payload(workload),
        clients=clients(workload),
        cpu_unit=cpu_unit(workload),
        blocks=max((len(series) for series in rates.values()), default=0),
        cells=cells,
        headline=headline(cells, summary.baseline),
    )
    return view, crossover.crossing(summary, ranked, rates, seed)


def cpu_unit(workload: Workload) -> str:
    """The unit CPU cost is shown in: per request or file for small ones, per GiB from 1 MiB up."""
    return "s per GiB" if workload.unit_bytes >= MIB else f"\N{MICRO SIGN}s per {workload.unit}"


def _cpu_scale(unit_bytes: int) -> float:
    """What turns CPU ns per unit into `cpu_unit`."""
    return GIB / unit_bytes / 1e9 if unit_bytes >= MIB else 1e-3


def _place(cell: stats.CellSummary, baseline: str, controls: frozenset[str]) -> str:
    if cell.status is not Status.OK or cell.units_per_s is None:
        return "out"
    if cell.server == baseline:
        return "baseline"
    if cell.server in controls:
        return "control"
    if cell.client_limited:
        return "client-limited"
    return "ranked" if cell.rank is not None else "unranked"


def _without_yardstick(cell: stats.CellSummary) -> stats.CellSummary:
    """A cell of a workload whose baseline has no number: rates remain, ratios and rank go."""
    return replace(
        cell, ratio=None, server_cpu_ratio=None, total_cpu_ratio=None, rank=None, tied=False
    )


def headline(cells: Sequence[CellView], baseline: str) -> Headline:
    """The verdict over cells in reading order."""
    leader = next((cell for cell in cells if cell.rank == 1), None)
    if leader is None or leader.ratio is None:
        return Headline(None, (), _why_no_leader(cells, baseline), ())
    tied = tuple(cell.server for cell in cells if cell.rank == 1 and cell is not leader)
    best = leader.ratio.value
    faster = tuple(
        f"{cell.server} ({fmt.ratio(cell.ratio.value)}, {cell.place})"
        for cell in cells
        if cell.rank is None and cell.ratio is not None and cell.ratio.value > best
    )
    return Headline(leader, tied, _sure(leader, cells), faster)


def _why_no_leader(cells: Sequence[CellView], baseline: str) -> str:
    base = next((cell for cell in cells if cell.server == baseline), None)
    if base is None or base.place == "out":
        reason = "not in the plan" if base is None else f"{base.status}: {base.reason}"
        return f"no ranking: the baseline {baseline} has no number ({reason})"
    return "no ranking: no cell that the server limits has a number"


def _sure(leader: CellView, cells: Sequence[CellView]) -> str:
    """How sure the lead over the baseline is, its p corrected for all cells it was chosen from."""
    if leader.place == "baseline":
        return "nothing ranked measured faster"
    family = [cell for cell in cells if cell.p_value is not None and cell.place != "baseline"]
    adjusted = stats.holm([cell.p_value for cell in family if cell.p_value is not None])
    p = next((p for c, p in zip(family, adjusted, strict=True) if c is leader), leader.p_value)
    ahead = f"ahead in {leader.ahead} of {leader.blocks} blocks, p {_p(p)}"
    if len(family) > 1:
        ahead += f" (Holm, {len(family)} cells)"
    if leader.ratio is not None and leader.ratio.low <= 1 <= leader.ratio.high:
        return f"not shown to differ from the baseline ({ahead})"
    return ahead


def _p(value: float | None) -> str:
    text = fmt.probability(value)
    return text if text.startswith("<") else f"= {text}"


# --- one cell ------------------------------------------------------------------------------------


def _cell(
    cell: stats.CellSummary,
    workload: Workload,
    slices: _Slices,
    base: Mapping[int, float],
    place: str,
) -> CellView:
    reason = cell.reason
    if place == "unranked" and reason is None:
        reason = "no block in which the baseline was measured too"
    bare = CellView(
        cell.cell, cell.server, cell.workload, str(cell.status), reason, place, cell.rank, cell.tied
    )
    if place == "out":
        return bare
    samples = slices.ok(cell.cell)
    rates = _rates(samples, workload)
    trail = _trail(samples, rates, base, slices.started_ns)
    calls, mix = _syscalls(samples, workload)
    return replace(
        bare,
        blocks=len(trail),
        ratio=_estimate(cell.ratio),
        ahead=sum(point.ratio > 1 for point in trail),
        p_value=cell.ratio.p_value if cell.ratio else None,
        effective_blocks=cell.ratio.effective_blocks if cell.ratio else None,
        rate=_spread(list(rates.values())),
        gib_per_s=cell.bytes_per_s / GIB if cell.bytes_per_s is not None else None,
        server_cpu=_cpu(samples, workload, total=False),
        total_cpu=_cpu(samples, workload, total=True),
        server_cpu_ratio=_estimate(cell.server_cpu_ratio),
        total_cpu_ratio=_estimate(cell.total_cpu_ratio),
        syscalls=calls,
        syscall_mix=mix,
        zero_copy=zerocopy.tally(samples),
        resident_peak_bytes=cell.resident_peak_bytes,
        group_peak_bytes=cell.group_peak_bytes,
        pipe_peak_bytes=cell.pipe_peak_bytes,
        limiter=cell.limiter,
        limiter_shares=_shares(cell),
        limiter_evidence=cell.limiter_evidence,
        latency=latency.merge(s.load["latency"] for s in samples if s.load and "latency" in s.load),
        trail=trail,
    )


def _estimate(found: stats.Estimate | None) -> Estimate | None:
    if found is None or not all(math.isfinite(v) for v in (found.ratio, found.low, found.high)):
        return None
    return Estimate(found.ratio, found.low, found.high, found.coverage)


def _rates(samples: Sequence[Sample], workload: Workload) -> dict[int, float]:
    """Units per second by block."""
    return {
        sample.block: stats.unit_rate(sample.load, workload.unit_bytes)
        for sample in samples
        if sample.load is not None
    }


def _trail(
    samples: Sequence[Sample],
    rates: Mapping[int, float],
    base: Mapping[int, float],
    started_ns: int,
) -> tuple[Point, ...]:
    """The block ratios that `stats.paired_logs` pairs, each with its time."""
    return tuple(
        Point((sample.started_unix_ns - started_ns) / 1e9, math.exp(logs[0]))
        for sample in samples
        if (b := sample.block) in rates and b in base
        if (logs := stats.paired_logs({b: rates[b]}, {b: base[b]}))
    )


def _spread(values: Sequence[float]) -> Spread | None:
    if not values:
        return None
    q1, median, q3 = np.quantile(np.asarray(values), [0.25, 0.5, 0.75])
    return Spread(float(median), float(q1), float(q3))


def _cpu(samples: Sequence[Sample], workload: Workload, total: bool) -> float | None:
    """Median CPU cost over slices in `cpu_unit`, of the server or of server and client."""
    costs = []
    for sample in samples:
        if sample.load is None or (server := stats.server_cpu_ns(sample.load)) is None:
            continue
        done = stats.units(sample.load, workload.unit_bytes)
        if done > 0:
            spent = server + (sample.load["cpu"]["client_ns"] if total else 0)
            costs.append(spent / done)
    scale = _cpu_scale(workload.unit_bytes)
    return float(np.median(costs)) * scale if costs else None


def _syscalls(
    samples: Sequence[Sample], workload: Workload
) -> tuple[float | None, tuple[tuple[str, float], ...]]:
    """System calls per unit and their mix, most frequent first, from the server's counters."""
    key, one = ("relayed_bytes", workload.unit_bytes) if workload.pairs else ("requests", 1)
    done, calls = 0.0, dict[str, int]()
    for sample in samples:
        counters: Mapping[str, Any] = sample.server_counters or {}
        table = counters.get("syscalls")
        if not isinstance(table, dict) or not counters.get(key):
            continue
        done += int(counters[key]) / one
        for name, nr in table.items():
            calls[name] = calls.get(name, 0) + int(nr)
    if done == 0:
        return None, ()
    mix = sorted(((name, nr / done) for name, nr in calls.items() if nr), key=lambda m: -m[1])
    return sum(calls.values()) / done, tuple(mix)


def _shares(cell: stats.CellSummary) -> str | None:
    """The shares of one CPU that the limiter was judged by."""
    if cell.server_share is None or cell.client_share is None:
        return None
    return f"{fmt.percent(cell.server_share)} / {fmt.percent(cell.client_share)}"
