"""Verb `watch`: the transfers of a running relay or forwarder, live."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.live import Live

from iolab.console import emit_json, say
from iolab.params import json_option
from iolab.watch import ControlSource, Gone, Source, http_source, lines, parse, view

_HEAD_ROWS = 5  # of the view, beside its transfers


@click.command()
@click.option(
    "--control",
    type=click.Path(path_type=Path),
    metavar="PATH",
    help="The server's control socket: what its --control was given.",
)
@click.option("--url", metavar="http://HOST:PORT", help="A relay; asks GET /status.")
@click.option(
    "--interval",
    type=click.FloatRange(min=0.05),
    default=1.0,
    show_default=True,
    metavar="SECONDS",
    help="Time between two questions.",
)
@click.option("--once", is_flag=True, help="Show the transfers of now and end.")
@json_option(help="Print the document; one a line without --once.")
def watch(
    control: Path | None, url: str | None, interval: float, once: bool, as_json: bool
) -> None:
    """Show the transfers of a running server: bytes, rate, age, and which side is waited for.

    Role relay is asked by --control or --url, role forward by --control. On a terminal the view
    stays in place; otherwise each look prints its lines. Ends with Ctrl-C or with the server.
    """
    if (control is None) == (url is None):
        raise click.UsageError("give either --control PATH or --url http://HOST:PORT")
    source: Source = ControlSource(control) if control is not None else http_source(url or "")
    try:
        document = source.fetch()
        if once:
            _show_once(document, as_json)
            return
        _follow(source, document, interval, as_json)
    except KeyboardInterrupt:
        pass  # the ordinary end of watching
    finally:
        source.close()


def _show_once(document: dict[str, Any], as_json: bool) -> None:
    snapshot = parse(document)
    if as_json:
        emit_json(document)
        return
    console = Console()
    if console.is_terminal:
        console.print(view(snapshot))
    else:
        click.echo("\n".join(lines(snapshot)))


def _follow(source: Source, document: dict[str, Any], interval: float, as_json: bool) -> None:
    """Shows document after document until the server is gone."""
    console = Console()
    if as_json or not console.is_terminal:
        _repeat(source, document, interval, _print_json if as_json else _print_lines)
        return
    # Redrawn when there is news: a timer of its own would only cost.
    with Live(console=console, auto_refresh=False) as live:

        def draw(news: dict[str, Any]) -> None:
            live.update(view(parse(news), console.height - _HEAD_ROWS), refresh=True)

        _repeat(source, document, interval, draw)


def _repeat(
    source: Source,
    document: dict[str, Any],
    interval: float,
    show: Callable[[dict[str, Any]], None],
) -> None:
    while True:
        show(document)
        time.sleep(interval)
        try:
            document = source.fetch()
        except Gone as error:
            say(f"the server has ended ({error.message})")
            return


def _print_json(document: dict[str, Any]) -> None:
    parse(document)
    click.echo(json.dumps(document, separators=(",", ":"), ensure_ascii=False))


def _print_lines(document: dict[str, Any]) -> None:
    click.echo("\n".join(lines(parse(document))))
