"""Writes charts into the report folder: data, script, picture."""

from __future__ import annotations

from pathlib import Path

import jinja2

from iolab.report import gnuplot, svg
from iolab.report.chart import Chart, quote, tsv

TEMPLATES = Path(__file__).resolve().parents[3] / "reports"


def _environment() -> jinja2.Environment:
    """Templates of gnuplot scripts: no HTML escaping, every string through the `gp` filter."""
    env = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        undefined=jinja2.StrictUndefined,
        trim_blocks=False,
        keep_trailing_newline=True,
        autoescape=False,
    )
    env.filters["gp"] = quote
    return env


def script(chart: Chart) -> str:
    """The gnuplot script of a chart."""
    template = _environment().get_template(chart.template)
    return template.render(chart=chart, ink=svg.INK, font=svg.FONT)


def draw(chart: Chart, folder: Path) -> Path:
    """Writes `data/NAME.tsv`, `NAME.gp` and `NAME.svg` under `folder`; returns the SVG's path.

    Raises gnuplot.GnuplotError when gnuplot is missing or fails, OSError when writing fails.
    """
    (folder / "data").mkdir(parents=True, exist_ok=True)
    (folder / "data" / chart.data_name).write_text(tsv(chart), encoding="utf-8")
    script_path = folder / chart.script_name
    script_path.write_text(script(chart), encoding="utf-8")
    gnuplot.run(script_path)
    picture = folder / chart.svg_name
    raw = picture.read_text(encoding="utf-8")
    picture.write_text(svg.finish(raw, chart.title, chart.alt), encoding="utf-8")
    return picture
