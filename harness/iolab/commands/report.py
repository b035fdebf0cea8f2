"""Verb `report`: write the report of a run anew from its raw samples."""

from __future__ import annotations

import click

from iolab import store
from iolab.console import emit_json, say
from iolab.params import json_option
from iolab.paths import find_house
from iolab.report import summarise_run, write_report


@click.command()
@click.argument("run", default="last")
@json_option(help="Print the summary as JSON as well.")
def report(run: str, as_json: bool) -> None:
    """Write the report of RUN: a directory, a name under results/, or `last` (the default).

    Prints the path of its page; with --json the summary instead.
    """
    run_dir = store.find_run_dir(find_house().results, run)
    page = write_report(run_dir)
    if as_json:
        emit_json(summarise_run(run_dir))
        say(f"report: {page}")
    else:
        click.echo(page)
