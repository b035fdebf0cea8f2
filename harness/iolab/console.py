"""What people see: messages and progress on stderr, tables on stdout."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import click
from rich import box
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn
from rich.table import Table

from iolab.curve import MAX, CurveSet, Point
from iolab.model import Unit, Workload
from iolab.runner import Tick
from iolab.sizes import format_size
from iolab.stats import CONFIDENCE, CellSummary, Estimate, WorkloadSummary, blind
from iolab.verdict import Verdict
from iolab.wording import PER_SECOND, clients, limited_by

_FIGURES: Mapping[Unit, tuple[str, ...]] = {
    "request": ("req/s", "bytes/s", "us/req"),
    "GiB": ("GiB/s", "CPU s", "CPU ratio", "peak"),
    "file": ("files/s", "bytes/s", "us/file"),
}
_CAPTIONS: Mapping[Unit, str] = {
    "request": "us/req: server CPU time per request",
    "GiB": "CPU: server CPU time per GiB; peak: resident memory",
    "file": "us/file: CPU time per file",
}
_ENDLESS = 10_000  # columns: more than any table has


def say(text: str) -> None:
    """A message to stderr."""
    click.echo(text, err=True)


def emit_json(document: Any) -> None:
    """Data to stdout as JSON."""
    click.echo(as_text(document), nl=False)


def as_text(document: Any) -> str:
    """A document as JSON, with the line's end."""
    return json.dumps(document, indent=1, ensure_ascii=False, default=str) + "\n"


def print_table(table: Table) -> None:
    """A table to stdout; into a file or a pipe as wide as it is, neither cut nor wrapped."""
    console = Console()
    if console.is_terminal:
        console.print(table)
        return
    console = Console(width=_ENDLESS)
    console = Console(width=console.measure(table).maximum)
    with console.capture() as capture:
        console.print(table)
    click.echo("\n".join(line.rstrip() for line in capture.get().splitlines()))


@contextmanager
def measuring(title: str) -> Iterator[Callable[[Tick], None]]:
    """A progress display with time left; gives the function that a runner reports to.

    It is redrawn twice a second: the harness must not eat the CPU it measures. Without a terminal
    it prints a line every 20 s instead.
    """
    console = Console(stderr=True)
    if not console.is_terminal:
        yield _line_printer(title)
        return
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[left]}"),
        TextColumn("[dim]{task.fields[detail]}"),
    )
    with Progress(*columns, console=console, refresh_per_second=2, transient=True) as progress:
        task = progress.add_task(title, total=1.0, left="", detail="")

        def show(tick: Tick) -> None:
            progress.update(
                task,
                completed=min(1.0, tick.spent_s / tick.budget_s),
                left=time_left(tick),
                detail=f"block {tick.block + 1}: {tick.cell}",
            )

        yield show


def time_left(tick: Tick) -> str:
    """The rest of the budget as `m:ss left`; runs may go on until their smallest block count."""
    left = round(tick.budget_s - tick.spent_s)
    return f"{left // 60}:{left % 60:02d} left" if left > 0 else "finishing"


def _line_printer(title: str) -> Callable[[Tick], None]:
    last = [0.0]

    def show(tick: Tick) -> None:
        if tick.spent_s - last[0] >= 20:
            last[0] = tick.spent_s
            say(f"{title}: block {tick.block + 1}, {time_left(tick)}")

    return show


def ranking_table(summary: WorkloadSummary) -> Table:
    """The ranked cells of one workload, 80 columns wide. `=` marks ranks that are tied."""
    workload = summary.workload
    unit = workload.unit
    table = Table(
        title=f"{workload.name}: {clients(workload)}, "
        f"ratio of {PER_SECOND[workload.unit]} to {summary.baseline}",
        title_justify="left",
        caption=_caption(summary),
        caption_justify="left",
        box=box.SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
        padding=(0, 1, 0, 0),
    )
    for name in ("rank", "server", "ratio", "95% interval", *_FIGURES[unit]):
        table.add_column(name, justify="left" if name == "server" else "right", no_wrap=True)
    table.add_column("limiter", overflow="fold")
    for cell in summary.cells:
        table.add_row(*_row(cell, workload))
    return table


def curve_table(curves: CurveSet) -> Table:
    """Latency percentiles of every server at every rate.

    `saturated` where it did not keep up, `unsettled` where the backlog still grew; `~` before a
    percentile that may be the load generator's.
    """
    table = Table(
        title=f"{curves.name}: latency from the intended send time, {clients(curves.workload)}",
        title_justify="left",
        box=box.SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
        padding=(0, 1, 0, 0),
    )
    for name in ("server", "offered/s", "answered/s", "p50", "p99", "p99.9", "max"):
        table.add_column(name, justify="left" if name == "server" else "right", no_wrap=True)
    table.add_column("limiter", overflow="fold")
    for curve in curves.curves:
        for point in curve.points:
            note = ", saturated" if point.overload else ""
            note += ", unsettled" if point.unsettled else ""
            note += ", client-limited" if point.client_limited else ""
            if point is curve.points[-1] and curve.ended_by_grid:
                note += ", not yet saturated"
            table.add_row(
                curve.server,
                f"{point.offered_per_s:,.0f}",
                f"{point.achieved_per_s:,.0f}",
                *(_percentile(point, q) for q in ("p50", "p99", "p99.9", MAX)),
                f"{point.limiter or '?'}{note}",
            )
    return table


def _percentile(point: Point, name: str) -> str:
    """A percentile; `~` where the load generator's own lateness may be what it shows."""
    if name not in point.quantiles:
        return "-"
    return f"{'~' if name in point.late else ''}{_us(point.quantiles[name].ns)}"


def _us(ns: float) -> str:
    """A latency in microseconds; infinite where the requests were never sent."""
    return f"{ns / 1000:,.0f} us" if math.isfinite(ns) else "never"


def _caption(summary: WorkloadSummary) -> str:
    """What the columns need to be read right."""
    coverages = [cell.ratio.coverage for cell in summary.cells if cell.ratio is not None]
    text = _CAPTIONS[summary.workload.unit]
    if summary.workload.copy is not None:
        text = text.removesuffix("; peak: resident memory").replace("server CPU", "CPU")
    if coverages and min(coverages) < CONFIDENCE:
        text += f"; few blocks: intervals cover {min(coverages):.0%} only"
    ranked = [cell.ratio.blocks for cell in summary.cells if cell.rank and cell.ratio]
    if ranked and (why := blind(max(ranked), len(ranked))):
        text += f"; {why}"
    return text


def _row(cell: CellSummary, workload: Workload) -> tuple[str, ...]:
    unit = workload.unit
    if cell.ratio is None:
        dashes = ("-",) * (2 + len(_FIGURES[unit]))
        reason = cell.reason or "no block in which the baseline was measured too"
        return ("-", cell.server, *dashes, f"{cell.status}: {reason}")
    place = "-" if cell.rank is None else f"{cell.rank}{'=' if cell.tied else ''}"
    limiter = limited_by(cell.limiter, workload) or "?"
    if cell.client_limited:
        limiter = f"{'client' if cell.limiter == 'both' else cell.limiter} (lower bound)"
    if cell.twin:
        limiter = "A/A pair"
    return (
        place,
        cell.server,
        f"{cell.ratio.ratio:.2f}",
        interval(cell.ratio),
        *(_pair_figures(cell) if unit == "GiB" else _request_figures(cell)),
        limiter,
    )


def _request_figures(cell: CellSummary) -> tuple[str, ...]:
    rate, cost = cell.units_per_s or 0, cell.server_us_per_unit
    return (
        f"{rate:,.0f}" if rate >= 100 else f"{rate:.1f}",
        format_size(cell.bytes_per_s or 0),
        "-" if cost is None else f"{cost:,.1f}",
    )


def _pair_figures(cell: CellSummary) -> tuple[str, ...]:
    cost, peak = cell.server_us_per_unit, cell.resident_peak_bytes
    return (
        f"{cell.units_per_s or 0:.2f}",
        "-" if cost is None else f"{cost / 1e6:.3f}",
        "-" if cell.server_cpu_ratio is None else f"{cell.server_cpu_ratio.ratio:.2f}",
        "-" if peak is None else format_size(peak),
    )


def verdict_table(title: str, verdicts: Sequence[Verdict]) -> Table:
    """Verdicts of a family: ratio, interval, adjusted p, effect, and why one is unclear."""
    table = Table(
        title=title, title_justify="left", caption=_families(verdicts), caption_justify="left",
        box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0),
    )  # fmt: skip
    for name in ("cell", "ratio", "interval", "p", "blocks", "verdict"):
        table.add_column(name, justify="left" if name in ("cell", "verdict") else "right")
    table.add_column("because", overflow="fold")
    for one in verdicts:
        found = one.estimate
        figures = ("-",) * 4
        if found is not None:
            p = "-" if one.adjusted_p is None else f"{one.adjusted_p:.2g}"
            ends = f"{found.low:.3f} to {found.high:.3f}"
            figures = (f"{found.ratio:.3f}", ends, p, str(found.blocks))
        table.add_row(one.name, *figures, str(one.effect), one.reason or "")
    return table


def _families(verdicts: Sequence[Verdict]) -> str:
    """How the columns of a family are to be read."""
    if not verdicts:
        return ""
    return (
        f"p: Holm over {len(verdicts)}; intervals of {verdicts[0].confidence:.4g} each, so that "
        "all hold at once in 99%"
    )


def interval(estimate: Estimate) -> str:
    """The interval of a ratio."""
    return f"{estimate.low:.2f} to {estimate.high:.2f}"
