"""A chart's description, and its texts as gnuplot reads them. Pure.

Each chart is three files in the report folder: `NAME.svg`, `data/NAME.tsv` with the numbers drawn,
and `NAME.gp`, the script, so that a reader can redraw or restyle any of them. The scripts come
from the templates in `reports/`.
"""

from __future__ import annotations

import math
import re
import textwrap
from dataclasses import dataclass

from iolab.report import layout
from iolab.report.view import ReportView

# Characters that would end a field, a line or a quoted string in gnuplot's reader.
_UNSAFE = re.compile(r'[\x00-\x1f\x7f"]+')
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


def caption(view: ReportView) -> str:
    """What stands below a chart: run, blocks, host."""
    blocks = sorted({w.blocks for w in view.workloads} or {view.blocks})
    span = str(blocks[0]) if len(blocks) == 1 else f"{blocks[0]} to {blocks[-1]}"
    host = "; ".join(fact.text for fact in view.host[:3])
    return layout.shorten(f"iolab run {view.run}; {span} blocks; {host}", 170)
