"""Verb `tune validate`: a tuning script on trial in a disposable guest."""

from __future__ import annotations

import re
from pathlib import Path

import click

from iolab.console import emit_json, print_table
from iolab.executor import HostExecutor
from iolab.guest.parts import find_parts
from iolab.paths import find_house
from iolab.trial.judge import judge
from iolab.trial.show import finding_table, knob_table, summary
from iolab.trial.trial import Setting, Trial, load_recording, run_trials
from iolab.trial.verdict import Verdict

_SCHEMA = 1
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
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
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
    as_json: bool,
) -> None:
    """Run SCRIPT in a disposable guest and say, knob by knob, what it did. Exit 1 on a finding.

    The script runs as root on a machine of 4 CPUs in two NUMA nodes, whose NIC has four queues;
    nothing it does reaches this host. It runs twice, so that a second run that differs shows.
    """
    if recorded:
        recording = load_recording(script)
    else:
        if not _INTERFACE.fullmatch(interface):
            raise click.BadParameter(f"{interface!r} is no name of an interface")
        trial = Trial(script, undo, arguments)
        setting = Setting(interface, without, timeout_s, emulate)
        house = find_house()
        parts = find_parts(house.cache)
        with HostExecutor() as executor:
            (recording,) = run_trials(executor, parts, house.root / "harness", [trial], setting)
    if keep is not None:
        keep.write_text(recording.to_json(), encoding="utf-8")
    verdict = judge(recording)
    _show(script, recording.interface, verdict, as_json)
    raise SystemExit(0 if verdict.good else 1)


def _show(script: Path, interface: str, verdict: Verdict, as_json: bool) -> None:
    if as_json:
        head = {"schema_version": _SCHEMA, "script": str(script), "interface": interface}
        emit_json({**head, **verdict.to_json()})
        return
    if verdict.knobs:
        print_table(knob_table(verdict))
    if verdict.findings:
        print_table(finding_table(verdict))
    click.echo(summary(verdict))
