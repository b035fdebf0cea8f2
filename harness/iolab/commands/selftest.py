"""Verb `selftest`: how often is a gate wrong on this machine?"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import click
from click.core import ParameterSource
from rich.table import Table

from iolab import store
from iolab.console import emit_json, print_table, say
from iolab.errors import IolabError
from iolab.gate_pairs import BASE, CANDIDATE
from iolab.lab import open_lab
from iolab.params import json_option, percent_option
from iolab.paths import find_house
from iolab.report import write_report
from iolab.selftest.evaluate import evaluate
from iolab.selftest.model import Settings
from iolab.selftest.record import record
from iolab.selftest.resume import settings_of

QUICK = Settings(
    sessions=2, blocks=16, repetitions=1, gates=((0, 5.0), (20, 5.0)), draws=40, slice_ms=60
)
"""A trial of the whole path in about a minute."""


@click.command()
@click.option("--engine", default=Settings.engine, show_default=True, metavar="SPEC")
@click.option(
    "--sessions",
    type=click.IntRange(2, 200),
    default=Settings.sessions,
    show_default=True,
    help="Recordings, each with processes of its own.",
)
@click.option(
    "--blocks",
    type=click.IntRange(8, 10_000),
    default=Settings.blocks,
    show_default=True,
    help="Blocks of a recording: the longest gate drawn from a single one.",
)
@click.option(
    "--repetitions",
    type=click.IntRange(0, 1000),
    default=Settings.repetitions,
    show_default=True,
    help="Whole gates of each kind, as a check on the drawing.",
)
@percent_option("--threshold", default="5%", help="The slowdown that gates are to find.")
@click.option("--seed", type=int, default=Settings.seed, show_default=True)
@click.option("--quick", is_flag=True, help="A trial of the path in about a minute; no evidence.")
@click.option(
    "--resume",
    metavar="RUN",
    help="Record what this self-test lacks (directory, name or `last`), with its own settings.",
)
@json_option(help="Print selftest.json.")
@click.pass_context
def selftest(
    context: click.Context,
    engine: str,
    sessions: int,
    blocks: int,
    repetitions: int,
    threshold: float,
    seed: int,
    quick: bool,
    resume: str | None,
    as_json: bool,
) -> None:
    """Measure the instrument: false alarms, and what planted slowdowns it finds.

    Records equal servers and ones with a slowdown planted (iolab-server --handicap), draws gates
    from the recordings, and runs whole gates as a check. Writes results/RUN/selftest.json and a
    page with power curves. Takes one to three hours unless --quick. Exit status 1 when a target is
    missed.

    Interrupted at any place, it loses at most the session or the gate that is open. --resume
    records that anew and goes on; no other option but --json goes with it.
    """
    settings = Settings(
        engine=engine,
        sessions=sessions,
        blocks=blocks,
        repetitions=repetitions,
        threshold=threshold,
        seed=seed,
    )
    if quick:
        settings = replace(QUICK, engine=engine, threshold=threshold, seed=seed)
    house = find_house()
    run_dir: Path | None = None
    if resume is not None:
        _refuse_settings(context)
        run_dir = store.find_run_dir(house.results, resume)
        settings = settings_of(run_dir)
    binary = house.server_binary
    with open_lab({BASE: binary, CANDIDATE: binary}) as lab:
        run_dir = record(lab, settings, run_dir)
    say("drawing gates from the recordings")
    document = evaluate(run_dir)
    try:
        page = str(write_report(run_dir, document))
    except IolabError as error:
        say(f"no report: {error}")
    else:
        say(f"report: {page}")
    if as_json:
        emit_json(document)
    else:
        print_table(_table(document["targets"], settings.short))
    raise SystemExit(int(any(target["met"] is False for target in document["targets"])))


def _refuse_settings(context: click.Context) -> None:
    """UsageError for an option that a resumed self-test has from its manifest."""
    for parameter in context.command.params:
        name = parameter.name or ""
        given = context.get_parameter_source(name) is ParameterSource.COMMANDLINE
        if given and name not in ("resume", "as_json"):
            raise click.UsageError(
                f"--resume and {parameter.opts[0]}: a resumed self-test keeps the settings that "
                "its manifest holds; leave one of them out"
            )


def _table(targets: list[dict[str, object]], short: bool) -> Table:
    title = "a short trial: it proves nothing" if short else None
    table = Table(title=title, title_justify="left")
    for name in ("target", "wanted", "found", "met"):
        table.add_column(name, overflow="fold")
    words = {True: "yes", False: "NO", None: "too few to say"}
    for one in targets:
        met = one["met"]
        answer = words[met if isinstance(met, bool) else None]
        table.add_row(str(one["name"]), str(one["wanted"]), str(one["found"]), answer)
    return table
