"""The report of a run: verdict, evidence and doubts on one page that works without a network.

`build.py` turns the stored slices into a `ReportView` (statistics by `iolab.stats`), `charts.py`
and `page.py` turn that into chart descriptions (`chart.py`) and HTML, `draw.py` runs gnuplot.
Everything is recomputed from raw samples each time.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from iolab import store
from iolab.console import say
from iolab.errors import IolabError
from iolab.relaybench.model import KIND as RELAY_BENCH
from iolab.report import ablations, charts, crossover, curves, draw, hdrlog, page, relay, selftest
from iolab.report.build import build
from iolab.report.folder import INDEX, replace_folder
from iolab.report.run import ReportError, load
from iolab.selftest.evaluate import evaluate
from iolab.selftest.model import KIND as SELFTEST

__all__ = ["ReportError", "summarise_run", "try_report", "write_readme_picture", "write_report"]


def write_report(run_dir: Path, document: dict[str, Any] | None = None) -> Path:
    """Writes `run_dir/report/` anew and returns the path of its index.html.

    The folder holds the page, the charts (SVG), the numbers they show (data/NAME.tsv), their
    scripts, latency.hlog (HdrHistogram) and summary.json; it is built beside the old one and takes
    its place when complete.
    Raises store.StoreError for a missing or damaged run, ReportError for one without a finished
    block, gnuplot.GnuplotError when gnuplot is missing or fails. `document` is what a caller has
    evaluated already of a self-test.
    """
    kind = _kind(run_dir)
    if kind == RELAY_BENCH:
        return relay.write(run_dir)
    if kind == SELFTEST:
        return selftest.write(run_dir, document or evaluate(run_dir))
    run = load(run_dir)
    view = build(run)
    latencies = hdrlog.log(run.plan, run.samples)
    drawn = [*charts.all_charts(view), *curves.curve_charts(view)]
    drawn += ablations.ablation_charts(view)
    if (crossover_map := crossover.crossover_chart(view)) is not None:
        drawn.append(crossover_map)

    def fill(folder: Path) -> None:
        for chart in drawn:
            draw.draw(chart, folder)
        store.write_json(folder / "summary.json", page.summary(view))
        if latencies is not None:
            (folder / hdrlog.FILE).write_text(latencies, encoding="utf-8")
        (folder / INDEX).write_text(page.html(view, drawn), encoding="utf-8")

    return replace_folder(run_dir, fill)


def try_report(run_dir: Path) -> str | None:
    """The path of the report that write_report() has written, or None after saying why not.

    For callers that have just measured: what cannot be drawn must not cost the measurement.
    """
    try:
        return str(write_report(run_dir))
    except IolabError as error:
        say(f"no report: {error}")
        return None


def summarise_run(run_dir: Path) -> dict[str, Any]:
    """The document of summary.json, without writing anything; raises as `write_report`."""
    kind = _kind(run_dir)
    if kind == RELAY_BENCH:
        return relay.summarise(run_dir)
    if kind == SELFTEST:
        return evaluate(run_dir)
    return page.summary(build(load(run_dir)))


def _kind(run_dir: Path) -> str | None:
    """What kind of run it is; None for one of a matrix."""
    kind = store.read_manifest(run_dir).get("kind")
    return None if kind is None else str(kind)


def write_readme_picture(run_dir: Path, out_svg: Path) -> Path:
    """Writes the ratio chart as one picture that explains itself; returns `out_svg`.

    Raises as `write_report`.
    """
    chart = charts.ratio_chart(build(load(run_dir)))
    with tempfile.TemporaryDirectory(prefix="iolab-picture-") as folder:
        drawn = draw.draw(chart, Path(folder))
        out_svg.write_text(drawn.read_text(encoding="utf-8"), encoding="utf-8")
    return out_svg
