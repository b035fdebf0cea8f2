"""From a `ReportView` to the charts of a closed loop: what each shows, and in which words. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from iolab.model import Unit
from iolab.report import fmt, layout
from iolab.report.chart import Cell, Chart, Panel, Tick, caption, clean
from iolab.report.rows import Mark, RowSpec, row_chart
from iolab.report.view import CellView, ReportView, WorkloadView
from iolab.wording import PER_SECOND


def _ratio_marks(cell: CellView, _: WorkloadView) -> list[Mark]:
    if cell.place == "baseline":
        return [Mark("ratio", 1.0, text="1")]
    if cell.ratio is None:
        return []
    text = fmt.ratio(cell.ratio.value)
    return [Mark("ratio", cell.ratio.value, cell.ratio.low, cell.ratio.high, text=text)]


_RATE_NAMES: Mapping[Unit, str] = {
    "request": "Requests per second",
    "GiB": "GiB per second",
    "file": "Files per second",
}


def _rate_name(view: ReportView) -> str:
    units = {workload.unit for workload in view.workloads}
    return _RATE_NAMES[units.pop()] if len(units) == 1 else "Rate"


def ratio_chart(view: ReportView) -> Chart:
    """Ratio of rates to the baseline, with 95% intervals, log axis."""
    baseline = layout.shorten(view.baseline)
    return row_chart(
        view,
        RowSpec(
            name="ratio",
            title=f"{_rate_name(view)} as a ratio to {baseline}",
            subtitle="Right of the line at 1 is faster. Dot: median of paired blocks; bar: 95% "
            "interval; bold: the leader and all tied with it; hatched: client-limited, not ranked.",
            alt="Ratio to the baseline of every server, one panel per workload",
            log=True,
            mark=1.0,
            shared_axis=True,
            text_room=0.27,
            marks=_ratio_marks,
            below=lambda workload: workload.clients,
        ),
    )


_COST_OF_A_COPY = (
    "Of the copying process, all its threads, inside operations: what the kernel writes back later "
    "is not in it. Left is cheaper."
)
_COST_OF_BOTH_SIDES = (
    "\N{BLACK CIRCLE} server alone   \N{WHITE CIRCLE} server + client (catches work that a "
    "technique moves to its peer).  Left is cheaper. Hatched: client-limited."
)


def _cost_marks(cell: CellView, _: WorkloadView) -> list[Mark]:
    if cell.server_cpu is None and cell.total_cpu is None:
        return []
    marks = [Mark("span", None, cell.server_cpu, cell.total_cpu)]
    if cell.server_cpu is not None:
        marks.append(Mark("server", cell.server_cpu, shape=7))
    if cell.total_cpu is not None:
        marks.append(Mark("total", cell.total_cpu, shape=6))
    return marks


def cost_chart(view: ReportView) -> Chart:
    """Server CPU and server + client CPU per unit of work."""
    return row_chart(
        view,
        RowSpec(
            name="cost",
            title="CPU time per unit of work",
            subtitle=_COST_OF_A_COPY if view.role == "copy" else _COST_OF_BOTH_SIDES,
            alt="CPU cost per unit of work of every server, one panel per workload",
            log=False,
            mark=None,
            shared_axis=False,
            text_room=0.06,
            marks=_cost_marks,
            below=lambda workload: f"CPU {workload.cpu_unit}",
            bar_width=1.4,
        ),
    )


def _latency_marks(cell: CellView, _: WorkloadView) -> list[Mark]:
    late = cell.latency
    if late is None:
        return []
    return [
        Mark("span", None, late.p50, late.p999),
        Mark("p50", late.p50, shape=7),
        Mark("p90", late.p90, shape=9),
        Mark("p99", late.p99, shape=13),
        Mark("p99.9", late.p999, shape=6),
    ]


def latency_chart(view: ReportView) -> Chart:
    """Percentiles of the closed-loop service time; stored in ns, drawn in microseconds."""
    return row_chart(
        view,
        RowSpec(
            name="latency",
            title="Latency: closed loop, service time",
            subtitle="\N{BLACK CIRCLE} p50   \N{BLACK UP-POINTING TRIANGLE} p90   "
            "\N{BLACK DIAMOND} p99   \N{WHITE CIRCLE} p99.9, \N{MICRO SIGN}s, log axis. The client "
            "waits for each answer, so queueing under a fixed arrival rate is not in here.",
            alt="Latency percentiles of every server, one panel per workload",
            log=True,
            mark=None,
            shared_axis=False,
            text_room=0.04,
            marks=lambda cell, workload: [_scaled(m) for m in _latency_marks(cell, workload)],
            below=lambda workload: f"\N{MICRO SIGN}s; {workload.clients}",
            bar_width=1.4,
            point_size=0.65,
        ),
    )


def _scaled(mark: Mark) -> Mark:
    """A mark in ns moved to microseconds."""

    def down(value: float | None) -> float | None:
        return None if value is None else value / 1000

    return Mark(mark.series, down(mark.value), down(mark.low), down(mark.high), mark.shape)


def _rate_marks(cell: CellView, _: WorkloadView) -> list[Mark]:
    rate = cell.rate
    if rate is None:
        return []
    text = layout.short_number(rate.median)
    return [Mark("rate", rate.median, rate.q1, rate.q3, text=text)]


def throughput_chart(view: ReportView) -> Chart:
    """Median rate and quartiles, a log axis of its own for every workload.

    One axis over all sizes would span three decades and press every difference between servers
    into the width of a dot.
    """
    return row_chart(
        view,
        RowSpec(
            name="throughput",
            title=_rate_name(view),
            subtitle="Dot: median of all slices; bar: quartiles, the spread that pairing removes "
            "(compare servers in the ratio chart). Log axis, one per workload. "
            "Hatched: client-limited.",
            alt=f"{_rate_name(view)} of every server, one panel per workload",
            log=True,
            mark=None,
            shared_axis=False,
            text_room=0.25,
            marks=_rate_marks,
            below=lambda workload: f"{PER_SECOND[workload.unit]}; {workload.clients}",
        ),
    )


def drift_chart(view: ReportView) -> Chart | None:
    """Ratio of each block over the time of the run, for the best of each workload.

    That is its leader, or the runner-up where the baseline leads. None when there is none.
    """
    best = [(w, next((c for c in w.cells if c.place == "ranked"), None)) for w in view.workloads]
    shown = [(w, cell) for w, cell in best if cell is not None and cell.trail]
    if not shown:
        return None
    margins = layout.Margins(left=60, right=18, top=116, bottom=72)
    grid = layout.grid(len(shown), 190, margins)
    ratios = [point.ratio for _, leader in shown for point in leader.trail]
    last = max(point.t_s for _, leader in shown for point in leader.trail) / 60
    low, high = layout.log_span(ratios, include=1.0)
    table: list[tuple[Cell, ...]] = []
    panels = []
    for place, (workload, leader) in enumerate(shown):
        style = view.styles[leader.server]
        for point in leader.trail:
            row = (place, workload.name, leader.server, point.t_s / 60, point.ratio)
            table.append((*row, style.rgb, style.filled))
        panels.append(
            Panel(
                box=grid.boxes[place],
                title=layout.shorten(workload.name, 22),
                below=layout.shorten(clean(leader.server), 30),
                names=place % grid.per_row == 0,
                estimate=leader.ratio,
                colour=style.colour,
            )
        )
    minutes = max(last * 1.03, 0.05)
    ticks = layout.log_ticks(low, high, 190, 22)
    return Chart(
        name="drift",
        template="drift.gp.j2",
        title=f"The best server's ratio to {layout.shorten(view.baseline)}, block by block",
        subtitle="x: minutes since the run began. Line and band: median and 95% interval. A slope "
        "or a step here means the run cannot be read as one number.",
        caption=caption(view),
        alt="Ratio of each block over time for the best server of each workload",
        width=grid.width,
        height=grid.height,
        header=("panel", "workload", "server", "minutes", "ratio", "colour", "marker"),
        table=tuple(table),
        panels=tuple(panels),
        low=low,
        high=high,
        ticks=tuple(Tick(at, layout.tick_label(at)) for at in ticks),
        xticks=tuple(Tick(at, layout.tick_label(at)) for at in layout.linear_ticks(minutes, 4)),
        minutes=minutes,
    )


def all_charts(view: ReportView) -> list[Chart]:
    """The report's charts in reading order; none without a closed loop."""
    if not view.workloads:
        return []
    charts = [
        ratio_chart(view),
        throughput_chart(view),
        cost_chart(view),
        drift_chart(view),
        latency_chart(view),
    ]
    return [chart for chart in charts if chart is not None]
