"""Verb `export`: a run for other tools."""

from __future__ import annotations

from pathlib import Path

import click

from iolab import store
from iolab.console import say
from iolab.export import ExportError, to_csv, to_openmetrics, write_parquet
from iolab.paths import find_house
from iolab.report.run import Run, load


@click.command()
@click.argument("run", default="last")
@click.option(
    "--format",
    "form",
    type=click.Choice(["csv", "parquet", "openmetrics"]),
    default="csv",
    show_default=True,
)
@click.option(
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Where to write; stdout unless given.",
)
def export(run: str, form: str, output: Path | None) -> None:
    """Write RUN (a directory, a name under results/, or `last`) for other tools.

    csv and parquet hold a row for each slice, raw. openmetrics holds a gauge for each cell: ratios
    with intervals, rates, CPU time. parquet needs --output, and pyarrow.
    """
    found = load(store.find_run_dir(find_house().results, run))
    if found.dropped:
        say(found.dropped)
    if form == "parquet":
        if output is None:
            raise click.UsageError("--format parquet writes no text: give --output FILE")
        write_parquet(found, output)
        return
    text = _text(found, form)
    if output is None:
        click.echo(text, nl=False)
        return
    try:
        output.write_text(text, encoding="utf-8", newline="")
    except OSError as error:
        raise ExportError(f"{output}: cannot be written: {error.strerror}") from error


def _text(run: Run, form: str) -> str:
    return to_csv(run) if form == "csv" else to_openmetrics(run)
