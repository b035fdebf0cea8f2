"""The page of a self-test: error rates, power curves, and what they rest upon."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jinja2

from iolab import store
from iolab.report import context, draw, fmt, layout
from iolab.report.chart import Cell, Chart, Panel, Tick, clean
from iolab.report.draw import TEMPLATES
from iolab.report.folder import INDEX, replace_folder
from iolab.selftest.model import DOCUMENT, GATES

_COLOURS = {2: "#56b4e9", 5: "#0072b2", 10: "#e69f00", 20: "#d55e00"}
_PANEL_HEIGHT = 220


def write(run_dir: Path, document: dict[str, Any]) -> Path:
    """Writes selftest.json and `run_dir/report/` from an evaluated self-test; its index.html."""
    store.write_json(run_dir / DOCUMENT, document)
    manifest = store.read_manifest(run_dir)
    chart = power_chart(document)

    def fill(folder: Path) -> None:
        if chart is not None:
            draw.draw(chart, folder)
        (folder / INDEX).write_text(html(document, manifest, chart), encoding="utf-8")

    return replace_folder(run_dir, fill)


def html(document: dict[str, Any], manifest: dict[str, Any], chart: Chart | None) -> str:
    """The page: self-contained but for the chart beside it; every value is escaped."""
    env = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        undefined=jinja2.StrictUndefined,
        autoescape=True,
    )
    return env.get_template("selftest.html.j2").render(
        it=document,
        host=context.host(manifest),
        started=next(iter(manifest.get("starts") or []), ""),
        state=manifest.get("state", ""),
        chart=chart,
        css=(TEMPLATES / "report.css").read_text(encoding="utf-8"),
        fmt=fmt,
        raw_files=(store.MANIFEST, DOCUMENT, GATES),
    )


def power_chart(document: dict[str, Any]) -> Chart | None:
    """Share of gates that find a planted slowdown, over the time of measuring; None without any."""
    planted = [curve for curve in document["curves"] if curve["percent"]]
    curves = [curve for curve in planted if curve["comparisons"] == 1]
    family = {
        (curve["percent"], curve["blocks"]): curve["found"]["share"]
        for curve in planted
        if curve["comparisons"] > 1
    }
    if not curves:
        return None
    shown = sorted({int(curve["percent"]) for curve in curves})
    margins = layout.Margins(left=60, right=18, top=116, bottom=72)
    grid = layout.grid(len(shown), _PANEL_HEIGHT, margins)
    low, high = layout.log_span(float(curve["seconds"]) for curve in curves)
    table: list[tuple[Cell, ...]] = []
    panels = []
    for place, percent in enumerate(shown):
        mine = [curve for curve in curves if curve["percent"] == percent]
        table += [_row(place, curve, family) for curve in mine]
        box = grid.boxes[place]
        ticks = layout.log_ticks(low, high, box.right - box.left, 40)
        panels.append(
            Panel(
                box=box,
                title=f"planted {percent}%",
                below=f"threshold {mine[0]['threshold']:.0%}; seconds of measuring",
                names=place % grid.per_row == 0,
                low=low,
                high=high,
                ticks=tuple(Tick(at, layout.tick_label(at)) for at in ticks),
                colour=_COLOURS.get(percent, "#85858f"),
            )
        )
    return Chart(
        name="power",
        template="power.gp.j2",
        title="How often a gate finds a planted slowdown",
        subtitle="Share of gates that end with a regression, by the time of their first "
        "measurement of a cell (log axis), with 95% intervals; dashed: share that cannot tell; "
        f"dotted: one slow cell of {document['family']}. The line is 95%.",
        caption=clean(_caption(document)),
        alt="Power curves: share of gates that find slowdowns of " + _listed(shown),
        width=grid.width,
        height=grid.height,
        header=(
            "panel",
            "percent",
            "seconds",
            "found",
            "low",
            "high",
            "unclear",
            "blocks",
            "family",
        ),
        table=tuple(table),
        panels=tuple(panels),
        # gnuplot reads a tick's label as a format
        ticks=tuple(Tick(at / 4, f"{at * 25}%%") for at in range(5)),
        mark=0.95,
    )


def _row(
    place: int, curve: dict[str, Any], family: dict[tuple[int, int], float]
) -> tuple[Cell, ...]:
    found = curve["found"]
    return (
        place, curve["percent"], curve["seconds"], found["share"], found["low"], found["high"],
        curve["unclear"]["share"], curve["blocks"],
        family.get((curve["percent"], curve["blocks"])),
    )  # fmt: skip


def _listed(percents: Sequence[int]) -> str:
    return fmt.listing([f"{percent}%" for percent in percents])


def _caption(document: dict[str, Any]) -> str:
    settings = document["settings"]
    return (
        f"iolab selftest {document['run']}; {document['sessions']} sessions of up to "
        f"{max(document['blocks'])} blocks, {settings['draws']} draws a point"
    )
