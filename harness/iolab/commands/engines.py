"""Verb `engines`: which servers this build and machine have."""

from __future__ import annotations

import click
from rich.table import Table

from iolab.console import emit_json, print_table
from iolab.describe import Engine
from iolab.lab import Lab, open_lab


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def engines(as_json: bool) -> None:
    """List engines and peers: options, and whether they can run here or why not."""
    with open_lab() as lab:
        if as_json:
            emit_json(
                {
                    "schema_version": 1,
                    "engines": lab.describe.model_dump(mode="json")["engines"],
                    "peers": _peers(lab),
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
        usable = "yes" if engine.usable else f"no: {engine.reason}"
        table.add_row(f"engine:{engine.name}", usable, engine.summary, _options(engine))
    for name, offered in lab.offer.peers.items():
        usable = "yes" if offered.lacks is None else f"no: {offered.lacks}"
        table.add_row(f"peer:{name}", usable, lab.peers[name].summary, "")
    return table


def _options(engine: Engine) -> str:
    """`cache=none|memory`, `sndbuf=0`: allowed values, the default first, or the default."""
    parts = []
    for option in engine.options:
        values = [str(option.default), *(v for v in option.values if v != option.default)]
        parts.append(f"{option.name}={'|'.join(values)}")
    return ", ".join(parts)
