"""Verb `relay-bench`: memory, backpressure, waiting and aborts of the relay, engine by engine."""

from __future__ import annotations

from collections.abc import Sequence

import click
from rich import box
from rich.markup import escape
from rich.table import Table

from iolab.console import emit_json, print_table, say
from iolab.lab import open_lab
from iolab.params import json_option
from iolab.relaybench.bench import Order, choose, read_records, run_bench
from iolab.relaybench.judge import good, judge
from iolab.relaybench.model import FULL, QUICK, Figure, Part, Verdict
from iolab.report import fmt, summarise_run, try_report

_COLOURS = {Verdict.OK: "green", Verdict.MISSED: "red", Verdict.FAILED: "red"}


@click.command("relay-bench")
@click.option(
    "--engine",
    "specs",
    multiple=True,
    metavar="SPEC",
    help="NAME[,option=value...]; repeat for several. Default: every engine with role relay, and "
    "one that buffers to compare with.",
)
@click.option(
    "--only",
    "only",
    multiple=True,
    type=click.Choice([str(part) for part in Part]),
    help="Run this part; repeat for several. Default: all.",
)
@click.option("--quick", is_flag=True, help="Small sizes and counts: does it work at all?")
@click.option("--seed", type=int, default=1, show_default=True, help="Of the random aborts.")
@json_option(help="Print the figures as JSON.")
def relay_bench(
    specs: tuple[str, ...], only: tuple[str, ...], quick: bool, seed: int, as_json: bool
) -> None:
    """Show that the relay streams in constant memory, holds back a sender, and leaks nothing.

    Part after part, each on a server of its own: the memory of one 10 GiB transfer and of fifty
    2 GiB transfers at once, a receiver at 1 MiB/s, 1,000 waiting pairs, 10,000 clients that leave
    at random moments. Stores the raw readings, writes a report, prints figures and targets. Ends
    with 0 when all targets are met, with 1 when one is missed or something failed.
    """
    with open_lab() as lab:
        order = Order(
            choose(specs, lab.offer),
            tuple(part for part in Part if not only or str(part) in only),
            QUICK if quick else FULL,
            seed,
        )
        run_dir = run_bench(lab, order, say)
    figures = [figure for record in read_records(run_dir) for figure in judge(record)]
    page = try_report(run_dir)
    if as_json:
        emit_json({**summarise_run(run_dir), "report": page})
    else:
        print_table(table(figures))
    if page is not None:
        say(f"report: {page}")
    raise SystemExit(0 if good(figures) else 1)


def table(figures: Sequence[Figure]) -> Table:
    """The figures as people read them, a line between parts."""
    found = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    for name in ("part", "server", "figure", "value", "target", "verdict"):
        found.add_column(name, justify="right" if name == "value" else "left", overflow="fold")
    for place, one in enumerate(figures):
        colour = _COLOURS.get(one.verdict, "")
        told = one.verdict in (Verdict.FAILED, Verdict.UNSUPPORTED) and one.note
        found.add_row(
            one.part,
            one.server,
            one.name,
            fmt.quantity(one.value, one.unit),
            one.target or "",
            f"[{colour}]{one.verdict}[/]" if colour else str(one.verdict),
            end_section=place + 1 < len(figures) and figures[place + 1].part is not one.part,
        )
        if told:
            found.add_row("", "", "", "", "", escape(one.note or ""))
    return found
