"""Latency against load: one row of panels for each shape of workload, one panel a percentile.

A curve ends where its server no longer keeps up with the rate: from there on latency grows with
the length of the slice, and says nothing about the server. The table has those points, too.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from iolab.curve import CurveSet, Point
from iolab.report import layout
from iolab.report.chart import Cell, Chart, Panel, Tick, caption, clean
from iolab.report.palette import Style
from iolab.report.view import ReportView

_SHOWN = ("p50", "p99", "p99.9")
_PANEL_HEIGHT = 240
_NAMED = 3
_LEGEND_ROW, _LEGEND_WIDTH = 18, 240
_MARGINS = layout.Margins(left=64, right=22, top=116, bottom=0, gap_x=62)
_HEADER = (
    "panel", "line", "workload", "server", "percentile", "offered_per_s", "achieved_per_s",
    "us", "low_us", "high_us", "colour", "marker",
)  # fmt: skip


@dataclass(frozen=True)
class Key:
    """An entry of the legend, at pixels from the top left corner."""

    x: float
    y: float
    text: str
    colour: str
    marker: int


def curve_chart(view: ReportView, nr: int) -> Chart | None:
    """The chart of curve set `nr` of the view, None when no server kept up with any rate."""
    found = view.curves[nr]
    shown = [curve for curve in found.curves if curve.kept_up]
    if not shown:
        return None
    grid = layout.grid(len(_SHOWN), _PANEL_HEIGHT, _MARGINS)
    names = [curve.server for curve in shown]
    keys = _legend(names, view, grid)
    offered = [point.offered_per_s for curve in shown for point in curve.kept_up]
    table, panels = [], []
    for place, percentile in enumerate(_SHOWN):
        rows = _rows(view, found, place, percentile)
        table += rows
        panels.append(_panel(rows, grid.boxes[place], percentile, place == 0))
    high = max(offered) * 1.04
    return Chart(
        name=chart_name(nr),
        template="curve.gp.j2",
        title=f"Latency against load at {layout.shorten(found.name)}",
        subtitle="x: requests per second offered, the same for all servers; y: latency from the "
        "intended send time, \N{MICRO SIGN}s, log axis; bars: 95% intervals. A curve ends where "
        "its server no longer keeps up. Hollow: limited by the client, or by half its lateness."
        + _unsaturated(found),
        caption=caption(view),
        alt=f"Latency percentiles of every server at rising rates, {found.name}",
        width=grid.width,
        height=math.ceil(max(key.y for key in keys) + 40),
        header=_HEADER,
        table=tuple(table),
        panels=tuple(panels),
        xticks=tuple(Tick(at, layout.tick_label(at)) for at in layout.linear_ticks(high, 4)),
        high=high,
        rows=tuple(str(line) for line in range(1 + max(int(str(row[1])) for row in table))),
        keys=keys,
    )


def _unsaturated(found: CurveSet) -> str:
    """Which curves end at the highest rate that was tried, so that more was possible."""
    names = [clean(curve.server) for curve in found.curves if curve.ended_by_grid]
    if not names:
        return ""
    if len(names) > _NAMED:
        return f" Not saturated by the highest rate: {len(names)} servers."
    return " Not saturated by the highest rate: " + "; ".join(names) + "."


def chart_name(nr: int) -> str:
    """The file name of the chart of curve set `nr`, without its ending."""
    return f"curve-{nr + 1}"


def _rows(view: ReportView, found: CurveSet, panel: int, percentile: str) -> list[tuple[Cell, ...]]:
    """The points of a panel, those of a line behind each other.

    A curve is one line, or several: it is broken where the percentile falls on requests that were
    never sent.
    """
    rows: list[tuple[Cell, ...]] = []
    line = 0
    for curve in found.curves:
        style = view.styles[curve.server]
        for point in curve.kept_up:
            us, low, high = _us(point, percentile)
            row = (panel, line, found.name, curve.server, percentile)
            rows.append((*row, point.offered_per_s, point.achieved_per_s,
                         us, low, high, style.rgb, _marker(style, point, percentile)))  # fmt: skip
            line += us is None or not math.isfinite(us)
        line += 1
    return rows


def _us(point: Point, percentile: str) -> tuple[float | None, float | None, float | None]:
    quantile = point.quantiles.get(percentile)
    if quantile is None:
        return None, None, None
    low, high = quantile.low, quantile.high
    return (
        quantile.ns / 1000,
        None if low is None else low / 1000,
        None if high is None else high / 1000,
    )


def _marker(style: Style, point: Point, percentile: str) -> int:
    return style.hollow if point.client_limited or percentile in point.late else style.filled


def _panel(rows: Sequence[tuple[Cell, ...]], box: layout.Box, title: str, names: bool) -> Panel:
    values = [v for row in rows for v in row[7:10] if isinstance(v, float) and math.isfinite(v)]
    low, high = layout.log_span(values)
    ticks = layout.log_ticks(low, high, _PANEL_HEIGHT, 22)
    return Panel(
        box=box,
        title=title,
        below="\N{MICRO SIGN}s",
        names=names,
        low=low,
        high=high,
        ticks=tuple(Tick(at, layout.tick_label(at)) for at in ticks),
    )


def _legend(names: Sequence[str], view: ReportView, grid: layout.Grid) -> tuple[Key, ...]:
    """Names below the panels, in as many columns as fit."""
    columns = max(1, (grid.width - _MARGINS.left) // _LEGEND_WIDTH)
    top = grid.boxes[-1].bottom + 46
    return tuple(
        Key(
            x=_MARGINS.left + at % columns * _LEGEND_WIDTH,
            y=top + at // columns * _LEGEND_ROW,
            text=layout.shorten(clean(name)),
            colour=view.styles[name].colour,
            marker=view.styles[name].filled,
        )
        for at, name in enumerate(names)
    )


def curve_charts(view: ReportView) -> list[Chart]:
    """The charts of all curve sets."""
    found = (curve_chart(view, nr) for nr in range(len(view.curves)))
    return [chart for chart in found if chart is not None]
