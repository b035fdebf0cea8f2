"""The report of a relay bench: every figure with its target, memory over time, what is not in it.

Judged anew from the raw records each time, as all reports are.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2

from iolab import store
from iolab.relaybench.bench import PARTS, read_records
from iolab.relaybench.judge import good, judge, readings
from iolab.relaybench.model import KIND, MIB, Figure, Part, Record, Verdict
from iolab.report import context, draw, fmt, layout, palette
from iolab.report.chart import Cell, Chart, Panel, Tick, clean
from iolab.report.draw import TEMPLATES
from iolab.report.folder import INDEX, replace_folder
from iolab.report.run import ReportError
from iolab.report.view import Fact
from iolab.sizes import format_size

SCHEMA_VERSION = 1
_PANEL_HEIGHT = 150
_POINTS_MAX = 1500  # of a line; more would be narrower than a pixel

TITLES = {
    Part.MEMORY_ONE: "Memory of one large transfer",
    Part.MEMORY_FIFTY: "Memory of fifty transfers at once",
    Part.BACKPRESSURE: "Backpressure: a slow receiver",
    Part.WAITING: "Parties that wait",
    Part.ABORTS: "Clients that leave at any moment",
}


@dataclass(frozen=True)
class Section:
    """One part on the page."""

    part: Part
    title: str
    text: str
    figures: tuple[Figure, ...]
    chart: Chart | None


@dataclass(frozen=True)
class View:
    """All that the page shows."""

    run: str
    started: str
    state: str
    quick: bool
    sections: tuple[Section, ...]
    styles: dict[str, palette.Style]
    host: tuple[Fact, ...]
    missed: tuple[Figure, ...]
    met: int


def write(run_dir: Path) -> Path:
    """Writes `run_dir/report/` anew; ReportError for a run without a finished part."""
    records = _records(run_dir)
    view = build(store.read_manifest(run_dir), records)

    def fill(folder: Path) -> None:
        for section in view.sections:
            if section.chart is not None:
                draw.draw(section.chart, folder)
        store.write_json(folder / "summary.json", summary(run_dir, records))
        (folder / INDEX).write_text(html(view), encoding="utf-8")

    return replace_folder(run_dir, fill)


def summarise(run_dir: Path) -> dict[str, Any]:
    """The document of summary.json, without writing anything; raises as `write`."""
    return summary(run_dir, _records(run_dir))


def summary(run_dir: Path, records: Sequence[Record]) -> dict[str, Any]:
    """Every figure of a run as a JSON document: derived data."""
    figures = [figure for record in records for figure in judge(record)]
    return {
        "schema_version": SCHEMA_VERSION,
        "kind": KIND,
        "run": run_dir.resolve().name,
        "ok": good(figures),
        "figures": [dataclasses.asdict(figure) for figure in figures],
    }


def build(manifest: dict[str, Any], records: Sequence[Record]) -> View:
    """The page's data from the records of a run."""
    labels = list(dict.fromkeys(record.subject.label for record in records))
    styles = palette.styles(labels, baseline="")
    run = str(manifest.get("run", ""))
    scale = manifest.get("scale") or {}
    sections = tuple(
        _section(part, [r for r in records if r.part is part], scale, styles, run)
        for part in Part
        if any(record.part is part for record in records)
    )
    figures = [figure for section in sections for figure in section.figures]
    return View(
        run=run,
        started=next(iter(manifest.get("starts") or []), ""),
        state=str(manifest.get("state", "")),
        quick=scale.get("one_bytes", 0) < 10 << 30,
        sections=sections,
        styles=styles,
        host=context.host(manifest),
        missed=tuple(f for f in figures if f.verdict in (Verdict.MISSED, Verdict.FAILED)),
        met=sum(figure.verdict is Verdict.OK for figure in figures),
    )


def html(view: View) -> str:
    """The page: self-contained but for the chart files beside it; every value is escaped."""
    env = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        undefined=jinja2.StrictUndefined,
        autoescape=True,
    )
    css = (TEMPLATES / "report.css").read_text(encoding="utf-8")
    raw_files = (store.MANIFEST, PARTS)
    return env.get_template("relay.html.j2").render(
        view=view, css=css, fmt=fmt, raw_files=raw_files
    )


def _records(run_dir: Path) -> list[Record]:
    found = list(read_records(run_dir))
    if not found:
        raise ReportError(f"{run_dir}: no finished part in {PARTS}, so there is nothing to report")
    return found


def _section(
    part: Part,
    records: Sequence[Record],
    scale: dict[str, Any],
    styles: dict[str, palette.Style],
    run: str,
) -> Section:
    figures = tuple(figure for record in records for figure in judge(record))
    chart = None
    if part in (Part.MEMORY_ONE, Part.BACKPRESSURE):
        chart = memory_chart(part, records, styles, run)
    return Section(part, TITLES[part], _text(part, scale), figures, chart)


def _text(part: Part, scale: dict[str, Any]) -> str:
    """What was done, with the sizes of this run."""

    def size(key: str) -> str:
        return format_size(scale.get(key, 0))

    return {
        Part.MEMORY_ONE: f"One transfer of {size('one_bytes')}. Growth is from the last look "
        "before the first byte to the highest of all later ones.",
        Part.MEMORY_FIFTY: f"{scale.get('fifty_pairs')} transfers of {size('fifty_bytes')} at "
        "once. The highest resident memory of the whole server, and the capacity of all pipes by "
        "transfer.",
        Part.BACKPRESSURE: f"A sender at full speed, a receiver that reads "
        f"{size('pressure_bytes_per_s')}/s, for {scale.get('pressure_s')} s. The sender is ahead "
        "by what was taken off it and has not reached the receiver: mostly socket buffers.",
        Part.WAITING: f"{scale.get('waiting_pairs')} senders and as many receivers of other names, "
        "against the server before the first of them came. Then all leave.",
        Part.ABORTS: f"{scale.get('aborts')} transfers of which one client leaves at a random "
        f"moment, and {scale.get('kills')} of which one client is a process killed with SIGKILL. "
        "Then what is left is counted.",
    }[part]


def memory_chart(
    part: Part, records: Sequence[Record], styles: dict[str, palette.Style], run: str
) -> Chart | None:
    """Resident memory over time, one panel a server, one scale for all; None without a number."""
    shown = [record for record in records if record.status == "ok"]
    if not shown:
        return None
    grid = layout.grid(
        len(shown), _PANEL_HEIGHT, layout.Margins(left=60, right=18, top=116, bottom=72)
    )
    table: list[tuple[Cell, ...]] = []
    panels = []
    for place, record in enumerate(shown):
        label = record.subject.label
        line = [(one.t_ns / 1e9, one.resident_bytes / MIB) for one in readings(record.raw)]
        step = max(1, len(line) // _POINTS_MAX)
        table += [(place, label, t, mib, styles[label].rgb) for t, mib in line[::step]]
        end = max(t for t, _ in line) or 1.0
        panels.append(
            Panel(
                box=grid.boxes[place],
                title=layout.shorten(label, 26),
                below="MiB over seconds",
                names=place % grid.per_row == 0,
                low=0.0,
                high=end,
                ticks=tuple(Tick(at, layout.tick_label(at)) for at in layout.linear_ticks(end, 4)),
                colour=styles[label].colour,
            )
        )
    low, high = layout.log_span(float(str(row[3])) for row in table)
    ticks = layout.log_ticks(low, high, _PANEL_HEIGHT, 22)
    return Chart(
        name=str(part),
        template="memory.gp.j2",
        title=f"Resident memory of the server: {TITLES[part].lower()}",
        subtitle="MiB on a log axis, the same for all; program and libraries included, socket "
        "buffers and pipes not.",
        caption=clean(f"iolab run {run}; read every 20 ms"),
        alt=f"Resident memory over time of every server, {TITLES[part].lower()}",
        width=grid.width,
        height=grid.height,
        header=("panel", "server", "seconds", "mib", "colour"),
        table=tuple(table),
        panels=tuple(panels),
        low=low,
        high=high,
        ticks=tuple(Tick(at, layout.tick_label(at)) for at in ticks),
    )
