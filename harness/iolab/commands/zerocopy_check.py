"""Verb `zerocopy-check`: whether sends leave an interface without a copy, as the kernel says."""

from __future__ import annotations

import json
from typing import Any

import click
from rich.table import Table

from iolab.console import emit_json, print_table, say
from iolab.errors import IolabError
from iolab.executor import HostExecutor
from iolab.params import json_option
from iolab.paths import find_house

_PATIENCE_S = 600.0
_METHOD_FAILED = 1
_USAGE = 2


@click.command("zerocopy-check")
@click.option("--connect", metavar="HOST:PORT", help="Send to this sink; default: one on loopback.")
@click.option("--interface", metavar="NAME", help="Send by this interface only; needs --connect.")
@click.option("--sends", type=click.IntRange(1, 10**9), default=2000, help="Sends of each method.")
@click.option("--bytes", "size", type=click.IntRange(1, 1 << 24), default=16384, help="Of a send.")
@json_option()
def zerocopy_check(
    connect: str | None, interface: str | None, sends: int, size: int, as_json: bool
) -> None:
    """Send by MSG_ZEROCOPY and SEND_ZC, and say from the notifications what was copied.

    Over a real interface the other side runs `build/iolab-zerocopy-check --sink ADDRESS:PORT`, on
    another host, in a guest, or in a network namespace: addresses of this host are reached over
    loopback, whatever interface has them. Exit 1 when a method could not be tried.
    """
    house = find_house()
    argv = [str(house.need(house.zerocopy_binary)), "--json", f"--sends={sends}", f"--bytes={size}"]
    argv += [f"--connect={connect}"] if connect else []
    argv += [f"--interface={interface}"] if interface else []
    with HostExecutor() as executor:
        done = executor.run(argv, timeout_s=_PATIENCE_S)
    if done.code == _USAGE:
        raise click.UsageError(done.stderr.strip())
    document = read_answer(done.stdout, done.stderr)
    if as_json:
        emit_json(document)
    else:
        say(f"interface {document['interface'] or 'unknown'}")
        print_table(_table(document))
    raise SystemExit(_METHOD_FAILED if done.code else 0)


def read_answer(stdout: str, stderr: str) -> dict[str, Any]:
    """The checker's document. IolabError when it has none."""
    try:
        document: dict[str, Any] = json.loads(stdout)
    except ValueError as error:
        words = stderr.strip() or "no answer"
        raise IolabError(f"the check did not come to an end: {words}") from error
    return document


def _table(document: dict[str, Any]) -> Table:
    table = Table(box=None, pad_edge=False)
    for title in ("method", "sent", "notified", "copied", "verdict", "reason"):
        right = title in ("sent", "notified", "copied")
        table.add_column(title, justify="right" if right else "left", overflow="fold")
    for one in document["methods"]:
        numbers = (f"{one[key]:,}" for key in ("sent", "notified", "copied"))
        table.add_row(one["method"], *numbers, one["verdict"], one["reason"])
    return table
