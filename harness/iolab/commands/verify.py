"""Verb `verify`: check that every server sends the right bytes."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import click
from rich.table import Table

from iolab.console import emit_json, print_table
from iolab.executor import ProcessError
from iolab.lab import Lab, open_lab
from iolab.model import Server
from iolab.params import json_option
from iolab.specs import parse_server
from iolab.verify import Verification, verify_server


@dataclass(frozen=True)
class Answer:
    """One line: `state` is ok, wrong, failed, unsupported or skipped; `detail` says why."""

    server: str
    state: str
    detail: str
    verification: Verification | None = None


@click.command()
@click.argument("specs", metavar="[SERVER]...", nargs=-1)
@json_option()
def verify(specs: tuple[str, ...], as_json: bool) -> None:
    """Check servers byte for byte against their files (default: all that serve files).

    SERVER is `engine:NAME[,option=value...]` or `peer:NAME`; NAME may be `*`.
    """
    with open_lab() as lab:
        lab.prepare_files(())
        peers = (f"peer:{name}" for name, peer in lab.peers.items() if "file" in peer.roles)
        chosen = specs or ("engine:*", *peers)
        servers = [one for spec in chosen for one in parse_server(spec, lab.offer, "file")]
        answers = [check(lab, server) for server in dict.fromkeys(servers)]
    if as_json:
        emit_json({"schema_version": 1, "servers": [asdict(answer) for answer in answers]})
    else:
        print_table(_table(answers))
    raise SystemExit(int(any(answer.state in ("wrong", "failed") for answer in answers)))


def check(lab: Lab, server: Server) -> Answer:
    """Starts one server, checks it, stops it."""
    if server.unsupported is not None:
        return Answer(server.label, "unsupported", server.unsupported)
    engine = lab.describe.engine(server.name) if server.kind == "engine" else None
    if engine is not None and not engine.serves_files:
        return Answer(server.label, "skipped", "serves no files: there is nothing to compare with")
    try:
        running = lab.start_server(server, "file")
    except ProcessError as error:
        return Answer(server.label, "failed", str(error))
    try:
        result = verify_server(server.label, running.host, running.port, lab.files)
        died = running.failure()
    finally:
        running.stop()
    if died:
        return Answer(server.label, "failed", died, result)
    if not result.ok:
        return Answer(server.label, "wrong", "; ".join(result.failures), result)
    return Answer(
        server.label, "ok", f"{result.checks} checks, SHA-256 {result.digest[:12]}", result
    )


def _table(answers: list[Answer]) -> Table:
    table = Table()
    for name in ("server", "state", "detail"):
        table.add_column(name, overflow="fold")
    for answer in answers:
        table.add_row(answer.server, answer.state, answer.detail)
    return table
