"""Verb `run`: measure a matrix, or go on with a run that was interrupted."""

from __future__ import annotations

from dataclasses import replace

import click

from iolab import forecast, store
from iolab.campaign import given_profiles, override, resume_plan, run_plan
from iolab.console import emit_json, say
from iolab.lab import open_lab
from iolab.model import Plan
from iolab.outcome import show
from iolab.params import budget_option, json_option, percent_option


@click.command()
@click.argument("matrix", required=False)
@click.option("--resume", metavar="RUN", help="Go on with this run (directory, name or `last`).")
@click.option("--seed", type=int, help="Seed of the random order, instead of the matrix's.")
@percent_option("--precision", help="Stop once every ratio is known to within this, as 2%.")
@budget_option(help="Stop measuring after this time, as 10m.")
@click.option("--no-report", is_flag=True, help="Write no report.")
@click.option(
    "--dry-run", is_flag=True, help="Say what would be measured and how long, and change nothing."
)
@json_option(help="Print the summary as JSON.")
def run(
    matrix: str | None,
    resume: str | None,
    seed: int | None,
    precision: float | None,
    budget_s: float | None,
    no_report: bool,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Measure MATRIX: a TOML file, or the name of one in workloads/.

    It ends with the precision, the budget or the matrix's number of blocks, whichever comes first,
    and says with which. A budget that is given here does not wait for the matrix's least number of
    blocks.
    """
    if (matrix is None) == (resume is None):
        raise click.UsageError("give either MATRIX or --resume RUN")
    if seed is not None and resume is not None:
        raise click.UsageError("--seed: a resumed run keeps the seed it began with")
    if dry_run and resume is not None:
        raise click.UsageError("--dry-run: a resumed run measures what it began with")
    with open_lab() as lab:
        run_dir = store.find_run_dir(lab.house.results, resume) if resume is not None else None
        if run_dir is not None:
            lab = replace(lab, given=given_profiles(run_dir))
        plan = resume_plan(run_dir) if run_dir is not None else lab.plan(matrix or "")
        plan = override(plan, seed, budget_s, precision)
        if dry_run:
            _forecast(plan, as_json)
            return
        result = run_plan(lab, plan, run_dir)
    raise SystemExit(show(result, report=not no_report, as_json=as_json))


def _forecast(plan: Plan, as_json: bool) -> None:
    """The cells to stdout, the words around them to stderr."""
    if as_json:
        emit_json(forecast.to_json(plan))
        return
    for line in forecast.lines(plan):
        say(line)
    for cell in forecast.to_json(plan)["cells"]:
        click.echo(cell)
