"""Verb `doctor`: what this machine has and lacks for measuring, and what to do about it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict

import click
from rich.markup import escape
from rich.table import Table

from iolab.console import emit_json, print_table
from iolab.doctor.examine import examine, worst
from iolab.doctor.look import look_at
from iolab.doctor.machine import Finding, Level
from iolab.params import json_option
from iolab.paths import find_house


def _table(findings: Iterable[Finding]) -> Table:
    colours = {Level.OK: "green", Level.WARN: "yellow", Level.FAIL: "red"}
    table = Table(box=None, pad_edge=False)
    for title in ("check", "level", "found", "remedy"):
        table.add_column(title, overflow="fold")
    for finding in findings:
        level = f"[{colours[finding.level]}]{finding.level}[/]"
        table.add_row(finding.check, level, escape(finding.found), escape(finding.remedy))
    return table


@click.command()
@json_option(help="Print the findings as JSON.")
def doctor(as_json: bool) -> None:
    """Say what this machine has and lacks for measuring. Changes nothing; exit 1 on a `fail`."""
    findings = examine(look_at(find_house()))
    level = worst(findings)
    if as_json:
        document = {
            "schema_version": 1,
            "level": level,
            "findings": [asdict(finding) for finding in findings],
        }
        emit_json(document)
    else:
        print_table(_table(findings))
    raise SystemExit(1 if level is Level.FAIL else 0)
