"""Verb `run`: measure a matrix, or go on with a run that was interrupted."""

from __future__ import annotations

import click

from iolab import store
from iolab.campaign import override, resume_plan, run_plan
from iolab.errors import InputError
from iolab.lab import on_testbed, open_lab
from iolab.outcome import show


@click.command()
@click.argument("matrix", required=False)
@click.option("--resume", metavar="RUN", help="Go on with this run (directory, name or `last`).")
@click.option("--seed", type=int, help="Seed of the random order, instead of the matrix's.")
@click.option("--budget", type=float, metavar="SECONDS", help="Time for measuring.")
@click.option("--no-report", is_flag=True, help="Write no report.")
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON.")
def run(
    matrix: str | None,
    resume: str | None,
    seed: int | None,
    budget: float | None,
    no_report: bool,
    as_json: bool,
) -> None:
    """Measure MATRIX: a TOML file, or the name of one in workloads/."""
    if (matrix is None) == (resume is None):
        raise click.UsageError("give either MATRIX or --resume RUN")
    if seed is not None and resume is not None:
        raise click.UsageError("--seed: a resumed run keeps the seed it began with")
    if budget is not None and budget <= 0:
        raise InputError(f"--budget: {budget:g}: a time above 0 is required")
    with open_lab() as lab:
        run_dir = store.find_run_dir(lab.house.results, resume) if resume is not None else None
        plan = resume_plan(run_dir) if run_dir is not None else lab.plan(matrix or "")
        with on_testbed(lab, plan.testbed) as placed:
            result = run_plan(placed, override(plan, seed, budget), run_dir)
    raise SystemExit(show(result, report=not no_report, as_json=as_json))
