"""Verb `quick`: from a built tree to a ranked report in about four minutes."""

from __future__ import annotations

import click

from iolab.campaign import run_plan
from iolab.lab import open_lab
from iolab.outcome import show
from iolab.params import json_option


@click.command()
@json_option(help="Print the summary as JSON.")
def quick(as_json: bool) -> None:
    """Check every engine, run the quick matrix, print the ranking, write the report."""
    with open_lab() as lab:
        result = run_plan(lab, lab.plan("quick"))
    raise SystemExit(show(result, report=True, as_json=as_json))
