"""Verb `engines`: which servers this build and machine have."""

from __future__ import annotations

import click
from rich.table import Table

from iolab.console import emit_json, print_table
from iolab.describe import Technique
from iolab.lab import Lab, open_lab
from iolab.params import json_option


@click.command()
@json_option()
def engines(as_json: bool) -> None:
    """List engines, peers and techniques of copying: options, and whether they can run here."""
    with open_lab() as lab:
        if as_json:
            emit_json(
                {
                    "schema_version": 1,
                    "engines": lab.describe.model_dump(mode="json")["engines"],
                    "peers": _peers(lab),
                    "techniques": lab.copy_describe.model_dump(mode="json")["techniques"],
                }
            )
        else:
            print_table(_table(lab))


def _peers(lab: Lab) -> list[dict[str, object]]:
    return [
        {
            "name": name,
            "summary": lab.peers[name].summary,
            "roles": list(lab.peers[name].roles),
            "usable": offered.lacks is None,
            "reason": offered.lacks,
        }
        for name, offered in lab.offer.peers.items()
    ]


def _table(lab: Lab) -> Table:
    table = Table()
    for name in ("server", "usable", "what it does", "options"):
        table.add_column(name, overflow="fold")
    for engine in lab.describe.engines:
        table.add_row(f"engine:{engine.name}", *_entry(engine))
    for name, offered in lab.offer.peers.items():
        usable = "yes" if offered.lacks is None else f"no: {offered.lacks}"
        table.add_row(f"peer:{name}", usable, lab.peers[name].summary, "")
    for technique in lab.copy_describe.techniques:
        table.add_row(f"technique:{technique.name}", *_entry(technique))
    return table


def _entry(technique: Technique) -> tuple[str, str, str]:
    """The columns behind the name."""
    usable = "yes" if technique.verdict is None else f"no: {technique.verdict}"
    return usable, technique.summary, _options(technique)


def _options(technique: Technique) -> str:
    """`cache=none|memory`, `sndbuf=0`: allowed values, the default first, or the default."""
    parts = []
    for option in technique.options:
        values = [str(option.default), *(v for v in option.values if v != option.default)]
        parts.append(f"{option.name}={'|'.join(values)}")
    return ", ".join(parts)
