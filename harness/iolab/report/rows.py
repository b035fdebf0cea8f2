"""Charts with a row for each server and a panel for each workload. Pure.

What differs between them is a `RowSpec`: texts, axis, and what is drawn of a cell.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from iolab.report import layout
from iolab.report.chart import Cell, Chart, Panel, Tick, caption, clean
from iolab.report.view import CellView, ReportView, WorkloadView

_ROW_HEIGHT = 21
_CHAR_WIDTH = 7.2
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
class Mark:
    """A point or a bar of a cell in a row chart."""

    series: str
    value: float | None = None
    low: float | None = None
    high: float | None = None
    shape: int | None = None
    text: str = ""


@dataclass(frozen=True)
class RowSpec:
    """What differs between the row charts."""

    name: str
    title: str
    subtitle: str
    alt: str
    log: bool
    mark: float | None
    shared_axis: bool
    text_room: float
    marks: Callable[[CellView, WorkloadView], list[Mark]]
    below: Callable[[WorkloadView], str]
    bar_width: float = 2.2
    point_size: float = 0.6


def _row_order(view: ReportView) -> list[str]:
    """Servers from best to worst on the first workload that ranks; the rest as planned."""
    for workload in view.workloads:
        known = [c for c in workload.cells if c.ratio is not None]
        if any(c.rank is not None for c in known):
            known.sort(key=lambda c: -(c.ratio.value if c.ratio else 0.0))
            first = [c.server for c in known]
            return first + [server for server in view.servers if server not in first]
    return list(view.servers)


def row_chart(view: ReportView, spec: RowSpec) -> Chart:
    """The chart that `spec` asks for: servers down, workloads across."""
    rows = _row_order(view)
    names = [layout.shorten(clean(server)) for server in rows]
    left = 24 + math.ceil(max(len(name) for name in names) * _CHAR_WIDTH)
    margins = layout.Margins(left=max(left, 110), right=18, top=116, bottom=58)
    grid = layout.grid(len(view.workloads), len(rows) * _ROW_HEIGHT + 6, margins)
    table: list[tuple[Cell, ...]] = []
    marks: dict[tuple[int, str], list[Mark]] = {}
    for place, workload in enumerate(view.workloads):
        for row, server in enumerate(rows):
            cell = workload.cell(server)
            if cell is None:
                continue
            drawn = spec.marks(cell, workload) if cell.place != "out" else []
            marks[place, server] = drawn or [Mark("none", text=_out_text(cell))]
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


def _out_text(cell: CellView) -> str:
    return cell.status if cell.status != "ok" else "no ratio"


def _row_lines(
    view: ReportView, place: int, row: int, cell: CellView, marks: Sequence[Mark]
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
    spec: RowSpec,
    grid: layout.Grid,
    place: int,
    workload: WorkloadView,
    rows: Sequence[str],
    marks: Iterable[Mark],
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
    hatched = [
        nr
        for nr, server in enumerate(rows)
        if (cell := workload.cell(server)) is not None and cell.client_limited
    ]
    return Panel(
        box=box,
        title=layout.shorten(workload.name, 22),
        below=spec.below(workload),
        names=place % grid.per_row == 0,
        low=low,
        high=high,
        text_at=text_at,
        ticks=tuple(Tick(at, layout.tick_label(at)) for at in ticks),
        hatched=tuple(hatched),
        hatch_to=top,
    )
