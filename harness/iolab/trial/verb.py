"""Verb `tune validate`: a tuning script on trial in a disposable guest."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from iolab.console import emit_json, print_table, say, verdict_table
from iolab.errors import InputError
from iolab.executor import HostExecutor
from iolab.gate import Final
from iolab.guest.parts import find_parts
from iolab.lab import open_lab
from iolab.params import budget_option, json_option, percent_option
from iolab.paths import find_house
from iolab.startup import refuse_leftovers
from iolab.testbed.netns import open_netns
from iolab.trial.judge import judge
from iolab.trial.measure import LABEL, Asked, Measurement, measure, script_plan
from iolab.trial.recording import Recording
from iolab.trial.show import finding_table, knob_table, part_table, summary
from iolab.trial.trial import Setting, Trial, load_recording, run_trials
from iolab.trial.verdict import Verdict
from iolab.units import format_duration
from iolab.verdict import THRESHOLD

_SCHEMA = 1
_MATRIX = "script"
"""What --measure measures unless told otherwise."""
_WORDS = {Final.PASS: "no finding", Final.REGRESSION: "finding", Final.UNCLEAR: "unclear"}
_INTERFACE = re.compile(r"[^\s/]{1,15}")  # dev_valid_name(), net/core/dev.c


@click.command(context_settings={"allow_interspersed_args": True})
@click.argument("script", type=click.Path(path_type=Path))
@click.argument("arguments", nargs=-1, metavar="[-- ARGUMENT...]")
@click.option(
    "--interface",
    default="eth0",
    show_default=True,
    metavar="IF",
    help="What the guest's NIC is called: the name that the script is meant for.",
)
@click.option("--undo", type=click.Path(path_type=Path), metavar="FILE", help="Its undo script.")
@click.option(
    "--without",
    multiple=True,
    metavar="MODULE",
    help="Kernel module that cannot be loaded, such as tcp_bbr; may be repeated.",
)
@click.option(
    "--timeout",
    "timeout_s",
    type=click.FloatRange(min=1),
    default=300.0,
    show_default=True,
    metavar="SECONDS",
    help="Bound for the whole trial.",
)
@click.option("--emulate", is_flag=True, help="Software emulation even where KVM works.")
@click.option(
    "--keep",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Keep the recording: snapshots and traces, as JSON.",
)
@click.option("--recorded", is_flag=True, help="SCRIPT is a kept recording: judge it again.")
@click.option(
    "--measure",
    "matrix",
    is_flag=False,
    flag_value=_MATRIX,
    metavar="[MATRIX]",
    help="Also measure the cells of MATRIX with and without what the script sets. Without a value, "
    f"which takes another option or nothing after it, `{_MATRIX}`: a small one.",
)
@percent_option("--threshold", help="With --measure: the difference that matters. [default: 5%]")
@percent_option(
    "--precision",
    help="With --measure: stop once every ratio is known to within this. [default: half of it]",
)
@budget_option(
    help="With --measure: time for measuring, at most. [default: 3m for each comparison]"
)
@click.option(
    "--dry-run", is_flag=True, help="With --measure: say what would be measured, and do not."
)
@json_option()
def validate(
    script: Path,
    arguments: tuple[str, ...],
    interface: str,
    undo: Path | None,
    without: tuple[str, ...],
    timeout_s: float,
    emulate: bool,
    keep: Path | None,
    recorded: bool,
    matrix: str | None,
    threshold: float | None,
    precision: float | None,
    budget_s: float | None,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Run SCRIPT in a disposable guest and say, knob by knob, what it did. Exit 1 on a finding.

    The script runs as root on a machine of 4 CPUs in two NUMA nodes, whose NIC has four queues;
    nothing it does reaches this host. It runs twice, so that a second run that differs shows.

    With --measure, what it set there and a network namespace here has is set in one of two pairs of
    namespaces, and the cells of MATRIX are measured on both in the same blocks. A cell that is
    slower with it, twice, is a finding as well.
    """
    if matrix is None and (dry_run or {threshold, precision, budget_s} != {None}):
        raise click.UsageError("--threshold, --precision, --budget and --dry-run need --measure")
    if not recorded and not _INTERFACE.fullmatch(interface):
        raise click.BadParameter(f"{interface!r} is no name of an interface")
    if keep is not None:
        _require_writable(keep)
    limit = THRESHOLD if threshold is None else threshold
    asked = None if matrix is None else Asked(matrix, limit, budget_s, precision, dry_run)
    with _measuring(asked) as measure_it:
        if recorded:
            recording = load_recording(script)
        else:
            trial = Trial(script, undo, arguments)
            recording = _try(trial, Setting(interface, without, timeout_s, emulate))
        if keep is not None:
            keep.write_text(recording.to_json(), encoding="utf-8")
        verdict = judge(recording)
        measured = measure_it(recording, verdict)
    _show(script, recording.interface, verdict, measured, as_json)
    slower = measured is not None and bool(measured.findings)
    raise SystemExit(0 if verdict.good and not slower else 1)


def _require_writable(keep: Path) -> None:
    """InputError for a file that could not be made: before the trial, which would be lost."""
    place = keep if keep.exists() else keep.parent
    if not place.exists() or not os.access(place, os.W_OK):
        lack = "is not writable" if place.exists() else "is not there"
        raise InputError(f"--keep {keep}: {place} {lack}", "name a file that can be written")


def _try(trial: Trial, setting: Setting) -> Recording:
    """Runs a script in the guest."""
    house = find_house()
    parts = find_parts(house.cache)
    with HostExecutor() as executor:
        (recording,) = run_trials(executor, parts, house.root / "harness", [trial], setting)
    return recording


@contextmanager
def _measuring(
    asked: Asked | None,
) -> Iterator[Callable[[Recording, Verdict], Measurement | None]]:
    """What measures a trial, or does nothing.

    A matrix that cannot be meant, a user who can make no namespaces, and a host that a killed run
    left tuned end it before the guest has cost any time.
    """
    if asked is None:
        yield lambda recording, verdict: None
        return
    if not asked.dry_run:
        refuse_leftovers("tune validate --measure")
    with open_lab() as lab:
        plan = script_plan(lab.plan(asked.matrix), asked)
        with open_netns(lab.executor):
            pass
        yield lambda recording, verdict: measure(lab, plan, recording, verdict, asked)


def _show(
    script: Path, interface: str, verdict: Verdict, measured: Measurement | None, as_json: bool
) -> None:
    if as_json:
        head = {"schema_version": _SCHEMA, "script": str(script), "interface": interface}
        more = {} if measured is None else {"measured": measured.to_json()}
        emit_json({**head, **verdict.to_json(), **more})
        return
    if verdict.knobs:
        print_table(knob_table(verdict))
    if verdict.findings:
        print_table(finding_table(verdict))
    click.echo(summary(verdict))
    if measured is not None:
        _show_measured(measured)


def _show_measured(measured: Measurement) -> None:
    if measured.parts:
        print_table(part_table(measured.parts))
    if not measured.rounds:
        click.echo(f"not measured: {measured.why_not}")
        if any(one.key for one in measured.parts):
            cells = ", ".join(measured.cells)
            click.echo(f"would measure for {format_duration(measured.budget_s)} at most: {cells}")
        return
    for one in measured.rounds:
        if one.untrusted is not None:
            click.echo(f"untrusted: {one.run}: {one.untrusted}")
    titles = ("with the script's knobs to without", "again, with fresh processes")
    for title, one in zip(titles, measured.rounds, strict=False):
        print_table(verdict_table(f"{title} ({one.run}): {one.stop_reason}", one.verdicts))
    for outcome in measured.outcomes:
        if outcome.reason:
            click.echo(f"{_WORDS[outcome.final]}: {outcome.name}: {outcome.reason}")
    click.echo(LABEL)
    for note in measured.left_out:
        say(f"left out: {note}")
    if measured.report is not None:
        say(f"report: {measured.report}")
