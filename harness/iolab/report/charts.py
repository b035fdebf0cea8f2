"""From a `ReportView` to chart descriptions: data table, layout and gnuplot script. Pure.

Each chart is three files in the report folder: `NAME.svg`, `data/NAME.tsv` with the numbers drawn,
and `NAME.gp`, the script, so that a reader can redraw or restyle any of them. The scripts come
from the templates in `reports/`.
"""

from __future__ import annotations

import math
import re
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from iolab.model import Unit
from iolab.report import fmt, layout
from iolab.report.view import CellView, ReportView, WorkloadView
from iolab.wording import PER_SECOND

# Characters that would end a field, a line or a quoted string in gnuplot's reader.
_UNSAFE = re.compile(r'[\x00-\x1f\x7f"]+')

_ROW_HEIGHT = 21
_CHAR_WIDTH = 7.2
_MISSING = "NaN"
_NO_TEXT = "-"

Cell = str | float | int | None


@dataclass(frozen=True)
class Tick:
    """A tick at `at` in data coordinates."""

    at: float
    label: str


@dataclass(frozen=True)
class Panel:
    """One panel of a small-multiple chart."""

    box: layout.Box
    title: str
    below: str
    names: bool
    low: float = 0.0
    high: float = 1.0
    text_at: float = 0.0
    ticks: tuple[Tick, ...] = ()
    hatched: tuple[int, ...] = ()
    hatch_to: float = 0.0
    estimate: object = None
    colour: str = "#000000"


@dataclass(frozen=True)
class Place:
    """A rectangle of a map: where it stands, its colour, whether that is sure, what it says."""

    column: int
    row: int
    colour: str
    sure: bool
    lines: tuple[str, ...]


@dataclass(frozen=True)
class Chart:
    """All that a template needs to draw one chart, and what the page says about it."""

    name: str
    template: str
    title: str
    subtitle: str
    caption: str
    alt: str
    width: int
    height: int
    header: tuple[str, ...]
    table: tuple[tuple[Cell, ...], ...]
    panels: tuple[Panel, ...] = ()
    rows: tuple[str, ...] = ()
    log: bool = False
    mark: float | None = None
    bar_width: float = 2.2
    point_size: float = 0.6
    low: float = 0.0
    high: float = 1.0
    ticks: tuple[Tick, ...] = ()
    xticks: tuple[Tick, ...] = ()
    minutes: float = 1.0
    box: layout.Box | None = None
    keys: tuple[object, ...] = ()
    places: tuple[Place, ...] = ()

    @property
    def svg_name(self) -> str:
        """File name of the picture."""
        return f"{self.name}.svg"

    @property
    def data_name(self) -> str:
        """File name of the numbers, under `data/`."""
        return f"{self.name}.tsv"

    @property
    def script_name(self) -> str:
        """File name of the gnuplot script."""
        return f"{self.name}.gp"

    @property
    def subtitle_lines(self) -> list[str]:
        """The subtitle broken to the chart's width, at most two lines of 12 px type."""
        return textwrap.wrap(self.subtitle, round((self.width - 32) / 6.4))[:2]


def clean(text: str) -> str:
    """Text without what gnuplot's data reader would take for a separator or a quote."""
    return _UNSAFE.sub(" ", text)


def quote(text: object) -> str:
    """Text as a single-quoted gnuplot string, in which neither backquotes nor escapes are read.

    Apostrophes become typographic ones: gnuplot 5.4 does not read every doubled quote as one.
    """
    return "'" + clean(str(text)).replace("'", "\N{RIGHT SINGLE QUOTATION MARK}") + "'"


def tsv(chart: Chart) -> str:
    """The chart's numbers, tab separated with a header line; `NaN` where nothing was measured."""
    lines = ["\t".join(chart.header)]
    lines += ["\t".join(_field(value) for value in row) for row in chart.table]
    return "\n".join(lines) + "\n"


def _field(value: Cell) -> str:
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return _MISSING
    if isinstance(value, float):
        return f"{value:.9g}"
    return clean(str(value)).strip() or _NO_TEXT


def row_order(view: ReportView) -> list[str]:
    """Servers from best to worst on the first workload that ranks; the rest as planned."""
    for workload in view.workloads:
        known = [c for c in workload.cells if c.ratio is not None]
        if any(c.rank is not None for c in known):
            known.sort(key=lambda c: -(c.ratio.value if c.ratio else 0.0))
            first = [c.server for c in known]
            return first + [server for server in view.servers if server not in first]
    return list(view.servers)


def _workload_title(workload: WorkloadView) -> tuple[str, str]:
    return layout.shorten(workload.name, 22), workload.clients


def caption(view: ReportView) -> str:
    """What stands below a chart: run, blocks, host."""
    blocks = sorted({w.blocks for w in view.workloads} or {view.blocks})
    span = str(blocks[0]) if len(blocks) == 1 else f"{blocks[0]} to {blocks[-1]}"
    host = "; ".join(fact.text for fact in view.host[:3])
    return layout.shorten(f"iolab run {view.run}; {span} blocks; {host}", 170)


_ROW_HEADER = (
    "panel",
    "row",
    "workload",
    "server",
    "series",
    "value",
    "low",
    "high",
    "colour",
    "marker",
    "state",
    "text",
)


@dataclass(frozen=True)
class _Mark:
    """A point or a bar of a cell in a row chart."""

    series: str
    value: float | None = None
    low: float | None = None
    high: float | None = None
    shape: int | None = None
    text: str = ""


@dataclass(frozen=True)
class _RowSpec:
    """What differs between the row charts."""

    name: str
    title: str
    subtitle: str
    alt: str
    log: bool
    mark: float | None
    shared_axis: bool
    text_room: float
    marks: Callable[[CellView, WorkloadView], list[_Mark]]
    below: Callable[[WorkloadView], str]
    bar_width: float = 2.2
    point_size: float = 0.6


def _out_text(cell: CellView) -> str:
    return cell.status if cell.status != "ok" else "no ratio"


def _row_chart(view: ReportView, spec: _RowSpec) -> Chart:
    rows = row_order(view)
    names = [layout.shorten(clean(server)) for server in rows]
    left = 24 + math.ceil(max(len(name) for name in names) * _CHAR_WIDTH)
    margins = layout.Margins(left=max(left, 110), right=18, top=116, bottom=58)
    grid = layout.grid(len(view.workloads), len(rows) * _ROW_HEIGHT + 6, margins)
    table: list[tuple[Cell, ...]] = []
    marks: dict[tuple[int, str], list[_Mark]] = {}
    for place, workload in enumerate(view.workloads):
        for row, server in enumerate(rows):
            cell = workload.cell(server)
            if cell is None:
                continue
            drawn = spec.marks(cell, workload) if cell.place != "out" else []
            marks[place, server] = drawn or [_Mark("none", text=_out_text(cell))]
            table += _row_lines(view, place, row, cell, marks[place, server])
    panels = []
    for place, workload in enumerate(view.workloads):
        scope = [m for (p, _), ms in marks.items() if spec.shared_axis or p == place for m in ms]
        panels.append(_row_panel(spec, grid, place, workload, rows, scope))
    return Chart(
        name=spec.name,
        template="rows.gp.j2",
        title=spec.title,
        subtitle=spec.subtitle,
        caption=caption(view),
        alt=spec.alt,
        width=grid.width,
        height=grid.height,
        header=_ROW_HEADER,
        table=tuple(table),
        panels=tuple(panels),
        rows=tuple(names),
        log=spec.log,
        mark=spec.mark,
        bar_width=spec.bar_width,
        point_size=spec.point_size,
    )


def _row_lines(
    view: ReportView, place: int, row: int, cell: CellView, marks: Sequence[_Mark]
) -> list[tuple[Cell, ...]]:
    style = view.styles[cell.server]
    state = "lead" if cell.rank == 1 else cell.place
    default = style.hollow if cell.client_limited else style.filled
    return [
        (
            place,
            row,
            cell.workload,
            cell.server,
            mark.series,
            mark.value,
            mark.low,
            mark.high,
            style.rgb,
            mark.shape or default,
            state,
            mark.text,
        )
        for mark in marks
    ]


def _row_panel(
    spec: _RowSpec,
    grid: layout.Grid,
    place: int,
    workload: WorkloadView,
    rows: Sequence[str],
    marks: Iterable[_Mark],
) -> Panel:
    values = [v for m in marks for v in (m.value, m.low, m.high) if v is not None]
    box = grid.boxes[place]
    if spec.log:
        low, top = layout.log_span(values, include=spec.mark)
        ticks = layout.log_ticks(low, top, (box.right - box.left) * (1 - spec.text_room), 27)
        high = low * (top / low) ** (1 / (1 - spec.text_room))
        text_at = high / (high / low) ** 0.01
    else:
        low, top = 0.0, max(values, default=1.0) * 1.06
        ticks = layout.linear_ticks(top, 4)
        high = top / (1 - spec.text_room)
        text_at = high * 0.99
    title, _ = _workload_title(workload)
    hatched = [
        nr
        for nr, server in enumerate(rows)
        if (cell := workload.cell(server)) is not None and cell.client_limited
    ]
    return Panel(
        box=box,
        title=title,
        below=spec.below(workload),
        names=place % grid.per_row == 0,
        low=low,
        high=high,
        text_at=text_at,
        ticks=tuple(Tick(at, layout.tick_label(at)) for at in ticks),
        hatched=tuple(hatched),
        hatch_to=top,
    )


def _ratio_marks(cell: CellView, _: WorkloadView) -> list[_Mark]:
    if cell.place == "baseline":
        return [_Mark("ratio", 1.0, text="1")]
    if cell.ratio is None:
        return []
    text = fmt.ratio(cell.ratio.value)
    return [_Mark("ratio", cell.ratio.value, cell.ratio.low, cell.ratio.high, text=text)]


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
    return _row_chart(
        view,
        _RowSpec(
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
            below=lambda workload: _workload_title(workload)[1],
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


def _cost_marks(cell: CellView, _: WorkloadView) -> list[_Mark]:
    if cell.server_cpu is None and cell.total_cpu is None:
        return []
    marks = [_Mark("span", None, cell.server_cpu, cell.total_cpu)]
    if cell.server_cpu is not None:
        marks.append(_Mark("server", cell.server_cpu, shape=7))
    if cell.total_cpu is not None:
        marks.append(_Mark("total", cell.total_cpu, shape=6))
    return marks


def cost_chart(view: ReportView) -> Chart:
    """Server CPU and server + client CPU per unit of work."""
    return _row_chart(
        view,
        _RowSpec(
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


def _latency_marks(cell: CellView, _: WorkloadView) -> list[_Mark]:
    late = cell.latency
    if late is None:
        return []
    return [
        _Mark("span", None, late.p50, late.p999),
        _Mark("p50", late.p50, shape=7),
        _Mark("p90", late.p90, shape=9),
        _Mark("p99", late.p99, shape=13),
        _Mark("p99.9", late.p999, shape=6),
    ]


def latency_chart(view: ReportView) -> Chart:
    """Percentiles of the closed-loop service time; stored in ns, drawn in microseconds."""
    return _row_chart(
        view,
        _RowSpec(
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
            below=lambda workload: f"\N{MICRO SIGN}s; {_workload_title(workload)[1]}",
            bar_width=1.4,
            point_size=0.65,
        ),
    )


def _scaled(mark: _Mark) -> _Mark:
    """A mark in ns moved to microseconds."""

    def down(value: float | None) -> float | None:
        return None if value is None else value / 1000

    return _Mark(mark.series, down(mark.value), down(mark.low), down(mark.high), mark.shape)


def _rate_marks(cell: CellView, _: WorkloadView) -> list[_Mark]:
    rate = cell.rate
    if rate is None:
        return []
    text = layout.short_number(rate.median)
    return [_Mark("rate", rate.median, rate.q1, rate.q3, text=text)]


def throughput_chart(view: ReportView) -> Chart:
    """Median rate and quartiles, a log axis of its own for every workload.

    One axis over all sizes would span three decades and press every difference between servers
    into the width of a dot.
    """
    return _row_chart(
        view,
        _RowSpec(
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
            below=lambda workload: f"{PER_SECOND[workload.unit]}; {_workload_title(workload)[1]}",
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
