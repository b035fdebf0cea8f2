"""Samples -> verdicts. Pure: everything a report says is recomputed from the raw slices.

The unit of evidence is the block. Within a block all servers of a workload are driven within a few
seconds, so the noise of the machine is largely shared and cancels in
`x_b = log(rate of the cell / rate of the baseline)`, one number per block and cell. The estimate is
the median of the x_b, its interval is the wider one of

* order statistics of the x_b (distribution-free; exact for independent blocks: the number of values
  below the true median is binomial(n, 1/2)), and
* a circular block bootstrap of the median, whose resampling unit grows with the measured
  autocorrelation, because neighbouring blocks resemble each other on a wobbling machine.

Two cells of a workload are compared the same way through their own paired log ratios.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from iolab import limiter as limits
from iolab.model import Cell, Plan, Sample, Status, Workload

Floats = npt.NDArray[np.float64]

CONFIDENCE = 0.95
ALPHA = 0.05
_RESAMPLES = 2000
_MIN_PAIRS = 6  # below this no order-statistic interval reaches 95%


@dataclass(frozen=True)
class Estimate:
    """A ratio (1 = equal to the baseline) with its confidence interval.

    `blocks` pairs went in, worth `effective_blocks` independent ones. `p_value` is two-sided,
    against a ratio of 1. `coverage` is what the order-statistic interval really covers: with fewer
    than 6 blocks it is the whole range, and falls short of 95%.
    """

    ratio: float
    low: float
    high: float
    p_value: float
    blocks: int
    effective_blocks: float
    coverage: float

    @property
    def half_width(self) -> float:
        """Relative half-width of the interval: half of log(high / low)."""
        if self.low <= 0 or not math.isfinite(self.high):
            return math.inf
        return math.log(self.high / self.low) / 2


@dataclass(frozen=True)
class CellSummary:
    """What the slices of one cell say.

    Rates are medians over slices; CPU is process CPU time in microseconds a unit (the workload's: a
    request or a GiB); shares are of one CPU. `rank` is 1 for the fastest, equal for cells that are
    not distinguishable, None when the cell ranks nothing. `limiter` is a name of limiter.Limiter,
    with its evidence. Memory is the most that was seen: resident, that of the control group (the
    kernel's on the server's behalf included), and the capacity of its pipes. A `twin` is the
    baseline once more: it ranks nothing.
    """

    cell: str
    server: str
    workload: str
    status: Status
    reason: str | None
    slices: int = 0
    units_per_s: float | None = None
    bytes_per_s: float | None = None
    server_us_per_unit: float | None = None
    client_us_per_unit: float | None = None
    server_share: float | None = None
    client_share: float | None = None
    limiter: str | None = None
    limiter_evidence: str | None = None
    ratio: Estimate | None = None
    server_cpu_ratio: Estimate | None = None
    total_cpu_ratio: Estimate | None = None
    resident_peak_bytes: int | None = None
    group_peak_bytes: int | None = None
    pipe_peak_bytes: int | None = None
    rank: int | None = None
    tied: bool = False
    twin: bool = False

    @property
    def client_limited(self) -> bool:
        """True when the load generator set the rate: the number is a lower bound."""
        return self.limiter == "client"

    def to_json(self) -> dict[str, Any]:
        """Plain data for `--json`."""
        return asdict(self)


@dataclass(frozen=True)
class WorkloadSummary:
    """The cells of one workload in reading order: ranked first, then those without a rank."""

    workload: Workload
    baseline: str
    cells: tuple[CellSummary, ...]

    @property
    def best(self) -> CellSummary | None:
        """The highest-ranked cell, None when none has a rank."""
        return next((cell for cell in self.cells if cell.rank == 1), None)

    def to_json(self) -> dict[str, Any]:
        """Plain data for `--json`."""
        return {
            "workload": asdict(self.workload),
            "unit": self.workload.unit,
            "baseline": self.baseline,
            "cells": [cell.to_json() for cell in self.cells],
        }


# --- one slice ---------------------------------------------------------------------------------


def unit_rate(load: Mapping[str, Any], unit_bytes: int) -> float:
    """Units (requests, GiB or files) per second in the window of one slice; see `units`."""
    seconds = float(load["window"]["ns"]) / 1e9
    return units(load, unit_bytes) / seconds if seconds > 0 else 0.0


def units(load: Mapping[str, Any], unit_bytes: int) -> float:
    """Units (with fractions) in the window of one slice; `unit_bytes` as of Workload.

    Counted in payload received over that of a unit, because at 16 MiB a window of 200 ms ends in
    the middle of most responses; whole requests only where bodies are empty.
    """
    window = load["window"]
    if unit_bytes > 0:
        return float(window["body_bytes"]) / unit_bytes
    return float(window["requests"])


def server_cpu_ns(load: Mapping[str, Any]) -> float | None:
    """Process CPU time of the server in the window, None when it was not read."""
    value = load["cpu"].get("server_ns")
    return None if value is None else float(value)


def judge_slice(load: Mapping[str, Any], counters: Mapping[str, Any] | None) -> str | None:
    """Why a slice is no measurement, None when it is one.

    Any error or non-2xx disqualifies it, and so does a count that the server (when it counts) does
    not share: of requests and body bytes, or of bytes relayed. Of pairs, what was sent must have
    arrived. Counts are compared over the whole slice, drain included, when nothing is under way.
    """
    wrong = {key: nr for key, nr in load["errors"].items() if nr}
    if load.get("non_2xx"):
        wrong["non-2xx"] = load["non_2xx"]
    if wrong:
        who = "copier" if load.get("mode") == "copy" else "client"
        return f"{who} saw " + ", ".join(f"{nr} {key}" for key, nr in wrong.items())
    pairs = _moves_pairs(load)
    total = load["total"]
    idle = load.get("open_loop") is not None and load["open_loop"]["due"] == 0
    served = idle or total["body_bytes" if pairs else "requests"] > 0
    if load["window"]["ns"] <= 0 or not served:
        return "no byte arrived" if pairs else "no request was completed"
    if pairs and total["sent_bytes"] != total["body_bytes"]:
        return f"{total['sent_bytes']} bytes were sent, {total['body_bytes']} arrived"
    if counters is None:
        return None
    if pairs and counters.get("transfers_failed"):
        return f"the server counted {counters['transfers_failed']} failed transfers"
    wanted = [last_counted(load)] if pairs else [(k, total[k]) for k in ("requests", "body_bytes")]
    for key, client in wanted:
        server = counters.get(key)
        if server is not None and client != server:
            return f"{key}: client counted {client}, server {server}"
    return None


def last_counted(load: Mapping[str, Any]) -> tuple[str, int]:
    """The server's counter that shows whether it has counted all of a slice, and its value then.

    A forwarder moves, beside the payload, the bytes by which connections greet their upstream.
    """
    total = load["total"]
    if _moves_pairs(load):
        return "relayed_bytes", int(total["body_bytes"]) + int(total.get("greeting_bytes", 0))
    return "requests", int(total["requests"])


def _moves_pairs(load: Mapping[str, Any]) -> bool:
    return load.get("mode") in ("relay", "forward")


def overloaded(loads: Iterable[Mapping[str, Any]]) -> bool:
    """True when most open-loop slices ended in a backlog, each by its own account.

    One stall of the machine makes one such slice; a server that cannot keep up makes all so.
    """
    found = [bool(load["open_loop"]["overload"]) for load in loads if load.get("open_loop")]
    return 2 * sum(found) > len(found)


# --- series of log ratios ----------------------------------------------------------------------


def lag1(values: Floats) -> float:
    """Autocorrelation at lag 1, 0 for series too short or too constant to tell."""
    if len(values) < 8:
        return 0.0
    centred = values - values.mean()
    power = float(np.dot(centred, centred))
    return float(np.dot(centred[1:], centred[:-1])) / power if power > 1e-24 else 0.0


def correlation(values: Floats) -> float:
    """The lag-1 autocorrelation that corrections use, in [0, 0.95]; 0 below 8 values.

    What is measured in n values with their own mean comes out too small by (1 + 4 r) / n (Marriott
    and Pope 1954), which at the lengths of runs here would hide most of it; that is added again.
    """
    n = len(values)
    if n < 8:
        return 0.0
    rho = lag1(values)
    return min(max(0.0, rho + (1 + 4 * rho) / n), 0.95)


def effective_blocks(values: Floats) -> float:
    """How many independent blocks the series is worth: n (1 - r) / (1 + r), at least 1.

    The formula is that of a first-order autoregressive series with correlation r at lag 1.
    """
    rho = correlation(values)
    return max(1.0, len(values) * (1 - rho) / (1 + rho))


def order_interval(
    values: Floats, confidence: float = CONFIDENCE, effective: float | None = None
) -> tuple[float, float, float]:
    """Distribution-free interval of the median: (low, high, coverage).

    The k-th smallest and k-th largest of m independent values cover the median with probability
    1 - 2 P(Binomial(m, 1/2) < k); k is the largest that keeps `confidence`. When even the whole
    range does not reach it (m < 6 at 95%), the range is returned with its true coverage.
    `effective` says how many independent values these are worth (None: all of them): the interval
    then ends at the quantiles k / m of all, which are those of m independent ones.
    """
    from scipy.stats import binom

    ordered = np.sort(values)
    n = len(ordered)
    m = n if effective is None else max(1, min(n, math.floor(effective)))
    if n < 2:
        return float(ordered[0]), float(ordered[0]), 0.0
    ks = np.arange(1, max(1, m // 2) + 1)
    coverages = 1 - 2 * np.asarray(binom.cdf(ks - 1, m, 0.5), dtype=np.float64)
    good = np.nonzero(coverages >= confidence)[0]
    if len(good) == 0:
        return float(ordered[0]), float(ordered[-1]), max(0.0, float(coverages[0]))
    rank = int(ks[good[-1]]) * n // m
    return float(ordered[rank - 1]), float(ordered[n - rank]), float(coverages[good[-1]])


def resample_blocks(
    n: int, correlation_r: float, seed: int, resamples: int
) -> npt.NDArray[np.int64]:
    """`resamples` rows of `n` block numbers, as a circular block bootstrap draws them.

    Runs of `length` neighbouring blocks are drawn with replacement, wrapping around the end;
    `length` is n^(1/3) stretched by (1 + r) / (1 - r), so independent series get short runs.
    """
    rho = min(correlation_r, 0.9)
    length = int(min(max(1, round(n ** (1 / 3) * (1 + rho) / (1 - rho))), max(1, n // 3)))
    rng = np.random.default_rng(seed)
    starts = rng.integers(0, n, size=(resamples, math.ceil(n / length)))
    index = (starts[:, :, None] + np.arange(length)[None, None, :]) % n
    drawn: npt.NDArray[np.int64] = index.reshape(resamples, -1)[:, :n]
    return drawn


def bootstrap_interval(
    values: Floats, seed: int = 0, confidence: float = CONFIDENCE
) -> tuple[float, float]:
    """Percentile interval of the median by a circular block bootstrap: `resample_blocks`.

    Beyond 95% the tails of so many resamples say nothing: their quantiles are those of 95%, moved
    out as far as a normal's.
    """
    from scipy.stats import norm

    index = resample_blocks(len(values), correlation(values), seed, _RESAMPLES)
    medians = np.median(values[index], axis=1)
    known = min(confidence, CONFIDENCE)
    tail = (1 - known) / 2
    low, middle, high = np.quantile(medians, [tail, 0.5, 1 - tail])
    stretch = float(norm.isf((1 - confidence) / 2) / norm.isf(tail))
    return float(middle + (low - middle) * stretch), float(middle + (high - middle) * stretch)


def paired_p_value(values: Floats) -> float:
    """Two-sided p of the hypothesis that the log ratios are symmetric around 0.

    Wilcoxon's signed ranks, exact for few blocks. Autocorrelation inflates the variance of the sum
    of signed ranks by n / effective n, so the normal deviate that belongs to the exact p is
    divided by the root of that, and judged by Student's t of as few degrees of freedom as there
    are effective blocks: correlation can only weaken the evidence. Ranks do not show how far apart
    from 0 the values lie, which then weakens too much: so Student's t of the values, over their
    effective number, is asked as well, and the smaller p counts twofold (Bonferroni).
    """
    from scipy.stats import norm, rankdata, t, wilcoxon

    used = values[values != 0]
    if len(used) == 0:
        return 1.0
    exact = max(float(wilcoxon(used).pvalue), 1e-300)
    signed = np.asarray(np.sign(used) * rankdata(np.abs(used)), dtype=np.float64)
    effective = effective_blocks(signed)
    if effective >= len(signed):
        return min(1.0, exact)
    deviate = norm.isf(exact / 2) * math.sqrt(effective / len(signed))
    by_ranks = 2 * float(t.sf(deviate, max(1.0, effective - 1)))
    return min(1.0, max(exact, 2 * min(by_ranks, _t_test(values))))


def _t_test(values: Floats) -> float:
    """Two-sided p of the mean being 0, the values counted as the effective number of them."""
    from scipy.stats import t

    effective = effective_blocks(values)
    error = float(np.std(values, ddof=1)) / math.sqrt(effective)
    if error <= 0:
        return 0.0 if float(np.mean(values)) else 1.0
    return 2 * float(t.sf(abs(float(np.mean(values))) / error, max(1.0, effective - 1)))


def estimate(
    log_ratios: Sequence[float], seed: int = 0, confidence: float = CONFIDENCE
) -> Estimate | None:
    """What a series of log ratios says, None when it is empty.

    `confidence` is that of the interval. Too few blocks for it show in `coverage`.
    """
    values = np.asarray(log_ratios, dtype=np.float64)
    values = values[np.isfinite(values)]
    if len(values) == 0:
        return None
    low, high, coverage = order_interval(values, confidence, effective_blocks(values))
    if len(values) >= _MIN_PAIRS:
        other_low, other_high = bootstrap_interval(values, seed, confidence)
        low, high = min(low, other_low), max(high, other_high)
    return Estimate(
        ratio=math.exp(float(np.median(values))),
        low=math.exp(low),
        high=math.exp(high),
        p_value=paired_p_value(values),
        blocks=len(values),
        effective_blocks=effective_blocks(values),
        coverage=coverage,
    )


def required_blocks(current: Estimate, half_width: float) -> float:
    """How many blocks would bring the interval to +-`half_width` (relative), at the present noise.

    Widths shrink with the square root of the number of blocks. Infinite while the interval is
    unbounded.
    """
    if half_width <= 0:
        raise ValueError("half_width must be above 0")
    return max(float(_MIN_PAIRS), current.blocks * (current.half_width / half_width) ** 2)


def holm(p_values: Sequence[float]) -> list[float]:
    """P-values adjusted for a family of comparisons (Holm's step-down method), in given order."""
    order = sorted(range(len(p_values)), key=lambda at: p_values[at])
    adjusted = [0.0] * len(p_values)
    running = 0.0
    for step, at in enumerate(order):
        running = max(running, min(1.0, p_values[at] * (len(p_values) - step)))
        adjusted[at] = running
    return adjusted


# --- samples -> summaries ----------------------------------------------------------------------


def warmup_blocks(samples: Iterable[Sample], plan: Plan) -> int:
    """How many leading blocks are warm-up and take no part in the statistics.

    A block is warm-up while the median over cells of log(rate here / median rate of the later
    blocks) lies outside +-max(10%, 3 median absolute deviations of the later blocks' medians):
    all cells fast or slow together at the start and not afterwards. At most a quarter of the
    blocks is given up. Ratios within a block hardly mind warm-up; this guards the rates.
    """
    sizes = {cell.id: cell.workload.unit_bytes for cell in plan.cells}
    rates: dict[str, dict[int, float]] = {}
    for sample in samples:
        rate = _sample_rate(sample, sizes)
        if rate:
            rates.setdefault(sample.cell, {})[sample.block] = math.log(rate)
    blocks = sorted({block for series in rates.values() for block in series})
    skipped = 0
    while skipped < len(blocks) // 4:
        later = blocks[skipped + 1 :]
        levels = {block: _median_shift(rates, block, later) for block in blocks[skipped:]}
        spread = float(np.median([abs(levels[block]) for block in later]))
        if abs(levels[blocks[skipped]]) <= max(math.log(1.1), 3 * spread):
            break
        skipped += 1
    return skipped


def _median_shift(rates: dict[str, dict[int, float]], block: int, later: list[int]) -> float:
    """Median over cells of this block's log rate minus the cell's median over `later`."""
    shifts = []
    for series in rates.values():
        others = [series[b] for b in later if b in series]
        if block in series and others:
            shifts.append(series[block] - float(np.median(others)))
    return float(np.median(shifts)) if shifts else 0.0


def _sample_rate(sample: Sample, sizes: Mapping[str, int]) -> float:
    """The rate of an ok slice, 0 when it has none."""
    if sample.status is not Status.OK or sample.load is None or sample.cell not in sizes:
        return 0.0
    return unit_rate(sample.load, sizes[sample.cell])


def paired_logs(a: Mapping[int, float], b: Mapping[int, float]) -> list[float]:
    """log(a / b) of every block that both series have, in the order of blocks."""
    return [
        math.log(a[block] / b[block])
        for block in sorted(a.keys() & b.keys())
        if a[block] > 0 and b[block] > 0
    ]


def counted_samples(plan: Plan, samples: Sequence[Sample]) -> list[Sample]:
    """The samples without those of warm-up blocks, which take no part in the statistics."""
    blocks = sorted({sample.block for sample in samples})[warmup_blocks(samples, plan) :]
    return [sample for sample in samples if sample.block in set(blocks)]


def summarise(plan: Plan, samples: Sequence[Sample]) -> list[WorkloadSummary]:
    """One summary per workload of the plan (and reference; see Plan.groups), cells ranked."""
    skipped = warmup_blocks(samples, plan)
    blocks = sorted({sample.block for sample in samples})[skipped:]
    counted = set(blocks)
    by_cell: dict[str, list[Sample]] = {cell.id: [] for cell in plan.cells}
    for sample in samples:
        if sample.cell in by_cell and (sample.block in counted or sample.status is not Status.OK):
            by_cell[sample.cell].append(sample)
    return [
        _summarise_group(plan, workload, reference, cells, by_cell)
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
        if sample.status is not Status.OK or sample.load is None:
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
) -> WorkloadSummary:
    series = {cell.id: _series(by_cell[cell.id], workload.unit_bytes) for cell in cells}
    base_cell = next((cell for cell in cells if cell.server.label == reference), None)
    # What a baseline measured before it failed is no yardstick: then there are no ratios.
    sound = base_cell and cell_status(base_cell, by_cell[base_cell.id])[0] is Status.OK
    base = series[base_cell.id] if base_cell and sound else _Series({}, {}, {})
    summaries = [_summarise_cell(plan, c, by_cell[c.id], series[c.id], base) for c in cells]
    rates = {cell_id: one.rate for cell_id, one in series.items()}
    # In an open loop the rate is ours: who answers it says nothing, how late does (curve.py).
    ranked = summaries if workload.open_loop else rank(summaries, rates, plan.seed)
    return WorkloadSummary(workload, reference, tuple(ranked))


def cell_status(cell: Cell, samples: Iterable[Sample]) -> tuple[Status, str | None]:
    """The verdict on a cell: one slice that is not ok makes the cell so, never a number."""
    if cell.server.unsupported is not None:
        return Status.UNSUPPORTED, cell.server.unsupported
    nothing = True
    for sample in samples:
        if sample.status is not Status.OK:
            return sample.status, sample.reason
        nothing = False
    return (Status.FAILED, "no slice was measured") if nothing else (Status.OK, None)


def _summarise_cell(
    plan: Plan, cell: Cell, samples: Sequence[Sample], series: _Series, base: _Series
) -> CellSummary:
    status, reason = cell_status(cell, samples)
    bare = CellSummary(
        cell.id, cell.server.label, cell.workload.name, status, reason, twin=cell.server.twin
    )
    if status is not Status.OK or not series.rate:
        return bare
    unit_bytes = cell.workload.unit_bytes
    loads = [sample.load for sample in samples if sample.load is not None]
    server_shares = [ns / load["window"]["ns"] for load in loads if (ns := server_cpu_ns(load))]
    done = [(load, units(load, unit_bytes)) for load in loads]
    client_share = _median(load["cpu"]["client_share"] for load in loads)
    server_share = _median(server_shares)
    units_per_s = _median(series.rate.values())
    kernel = limits.pressure(s.extra["kernel"] for s in samples if "kernel" in s.extra)
    offered = cell.workload.open_loop and not overloaded(loads)
    found = limits.judge(client_share, server_share, kernel, offered)
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
        limiter_evidence=found.evidence if found else None,
        ratio=estimate(paired_logs(series.rate, base.rate), plan.seed),
        server_cpu_ratio=estimate(paired_logs(series.server_cpu, base.server_cpu), plan.seed),
        total_cpu_ratio=estimate(paired_logs(series.total_cpu, base.total_cpu), plan.seed),
    )


def _peak(samples: Iterable[Sample], key: str) -> int | None:
    """The largest figure of that name that was stored with the slices, None for none."""
    found = [sample.extra.get("memory", {}).get(key) for sample in samples]
    return max((int(value) for value in found if value is not None), default=None)


def rank(
    cells: Sequence[CellSummary], rates: Mapping[str, Mapping[int, float]], seed: int = 0
) -> list[CellSummary]:
    """`cells` in reading order with ranks; cells that are not distinguishable share one.

    Going down by median ratio, a cell shares the rank of the group's first member unless their
    own paired ratios differ: p below 0.05 after Holm's correction over all pairs of the workload,
    and an interval that excludes 1. Comparing with the first member keeps groups from chaining.
    Client-limited cells, twins and those without numbers come last and rank nothing.
    """
    able = [c for c in cells if c.ratio is not None and not c.client_limited and not c.twin]
    able.sort(key=lambda cell: -(cell.ratio.ratio if cell.ratio else 0.0))
    others = [cell for cell in cells if cell not in able]
    others.sort(key=lambda cell: (cell.ratio is None, -(cell.ratio.ratio if cell.ratio else 0.0)))
    different = _different_pairs(able, rates, seed)
    ranks: list[int] = []
    leader = 0
    for at, cell in enumerate(able):
        if at > 0 and (able[leader].cell, cell.cell) in different:
            leader = at
        ranks.append(leader + 1)
    placed = [
        replace(cell, rank=ranks[at], tied=ranks.count(ranks[at]) > 1)
        for at, cell in enumerate(able)
    ]
    return placed + others


def _different_pairs(
    cells: Sequence[CellSummary], rates: Mapping[str, Mapping[int, float]], seed: int
) -> set[tuple[str, str]]:
    """The pairs (faster, slower) whose paired ratios are distinguishable."""
    pairs: list[tuple[str, str]] = []
    estimates: list[Estimate] = []
    for at, upper in enumerate(cells):
        for lower in cells[at + 1 :]:
            result = estimate(paired_logs(rates[upper.cell], rates[lower.cell]), seed)
            if result is not None:
                pairs.append((upper.cell, lower.cell))
                estimates.append(result)
    adjusted = holm([result.p_value for result in estimates])
    return {
        pair
        for pair, result, p in zip(pairs, estimates, adjusted, strict=True)
        if p < ALPHA and (result.low > 1 or result.high < 1)
    }


def cell_logs(
    plan: Plan, samples: Iterable[Sample], pairs: Iterable[tuple[Cell, Cell]]
) -> list[list[float]]:
    """The log ratios of the second cell to the first, for each pair, in the order of blocks.

    Empty where one of the two has no number. No block is left out as warm-up: ratios hardly mind.
    """
    mine: dict[str, list[Sample]] = {}
    for sample in samples:
        mine.setdefault(sample.cell, []).append(sample)
    rates: dict[str, dict[int, float]] = {}
    for cell in plan.cells:
        found = mine.get(cell.id, [])
        sound = cell_status(cell, found)[0] is Status.OK
        rates[cell.id] = _rates(found, cell.workload.unit_bytes) if sound else {}
    return [paired_logs(rates[new.id], rates[base.id]) for base, new in pairs]


def _rates(samples: Iterable[Sample], unit_bytes: int) -> dict[int, float]:
    """Units per second by block, of usable slices."""
    return {
        sample.block: unit_rate(sample.load, unit_bytes)
        for sample in samples
        if sample.status is Status.OK and sample.load is not None
    }


def against_reference(plan: Plan) -> list[tuple[Cell, Cell]]:
    """The comparisons of a plan: (reference, cell), in the plan's order.

    Twins and open loops are left out: chance alone sets the ones apart, nothing the others' rates.
    """
    pairs = []
    for (_, reference), cells in plan.groups().items():
        base = next((cell for cell in cells if cell.server.label == reference), None)
        if base is not None and not base.workload.open_loop:
            pairs += [(base, cell) for cell in cells if cell is not base and not cell.server.twin]
    return pairs


def widest_interval(plan: Plan, samples: Sequence[Sample], enough: float | None = None) -> float:
    """The largest relative half-width of a ratio to the reference among cells that are still ok.

    Infinite while one has too few blocks for an interval of the plan's confidence, or while
    nothing is measured. Who only asks whether it is at most `enough` gets a lower bound as soon as
    that exceeds it: order statistics are a thousand times cheaper than the bootstrap, and asked
    before every block.
    """
    bad = {sample.cell for sample in samples if sample.status is not Status.OK}
    pairs = [
        (base, cell)
        for base, cell in against_reference(plan)
        if not {base.id, cell.id} & bad and cell.server.unsupported is None
    ]
    series = cell_logs(plan, samples, pairs)
    if enough is not None:
        least = max((_least_half_width(logs, plan.confidence) for logs in series), default=math.inf)
        if least > enough:
            return least
    widths: list[float] = []
    for logs in series:
        result = estimate(logs, plan.seed, plan.confidence)
        enough = result is not None and result.coverage >= plan.confidence
        widths.append(result.half_width if result is not None and enough else math.inf)
    return max(widths, default=math.inf)


def _least_half_width(logs: Sequence[float], confidence: float) -> float:
    """What the half-width of an estimate's interval is at least; infinite with too few blocks."""
    values = np.asarray(logs, dtype=np.float64)
    if len(values) == 0:
        return math.inf
    low, high, coverage = order_interval(values, confidence, effective_blocks(values))
    return (high - low) / 2 if coverage >= confidence else math.inf


def _median(values: Iterable[float]) -> float | None:
    found = list(values)
    return float(np.median(found)) if found else None


def _scaled(value: float | None, factor: float) -> float | None:
    return None if value is None else value * factor
