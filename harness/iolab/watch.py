"""Transfers of a running relay or forwarder: asked from the server, shown to people.

Two ways lead to the same document: the line `status` on the control socket, and `GET /status` of
a relay. Names come from clients, so whatever is no printable character is shown as a mark.
"""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, ValidationError
from rich import box
from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from iolab.errors import InputError, IolabError
from iolab.executor import ProcessError
from iolab.servers.iolab_server import Control
from iolab.sizes import format_size

_TIMEOUT_S = 5.0
_BAR_COLUMNS = 20
_MARK = "\N{REPLACEMENT CHARACTER}"


class Transfer(BaseModel):
    """One entry of the document; a direction of a connection in role forward."""

    model_config = ConfigDict(frozen=True)
    name: str
    state: Literal["waiting", "running"]
    waits_for: Literal["sender", "receiver"] | None = None
    receivers: int = 1
    receivers_here: int = 0
    bytes: int = 0
    total_bytes: int | None = None
    rate_bytes_per_s: int = 0
    age_ns: int = 0
    running_ns: int | None = None

    @property
    def share(self) -> float | None:
        """What has been moved of all there is, None while that is not known."""
        if self.total_bytes is None:
            return None
        return min(1.0, self.bytes / self.total_bytes) if self.total_bytes else 1.0


class Snapshot(BaseModel):
    """The document `status`, schema version 1."""

    model_config = ConfigDict(frozen=True)
    schema_version: Literal[1]
    engine: str = "?"
    uptime_ns: int = 0
    transfers: tuple[Transfer, ...] = ()


class Gone(IolabError):
    """Nobody answers (any more); the message says where."""


class Source(Protocol):
    """Where the document comes from."""

    def fetch(self) -> dict[str, Any]:
        """The document of now; Gone when the server does not answer, IolabError when it refuses."""

    def close(self) -> None:
        """Ends the connection, if there is one."""


class ControlSource:
    """The control socket of a server; connected once."""

    def __init__(self, path: Path) -> None:
        """Connects; Gone with a remedy when nobody listens there."""
        self._path = path
        try:
            self._control = Control(path)
        except OSError as error:
            raise Gone(
                f"{path}: {error.strerror or error}",
                "start the server with --control and give the same path here",
            ) from error

    def fetch(self) -> dict[str, Any]:
        """See Source."""
        try:
            return self._control.ask("status")
        except ProcessError as error:
            raise Gone(f"{self._path}: {error.message}") from error

    def close(self) -> None:
        """See Source."""
        self._control.close()


@dataclass(frozen=True)
class HttpSource:
    """`GET /status` of a relay, a connection for each question."""

    host: str
    port: int

    def fetch(self) -> dict[str, Any]:
        """See Source."""
        place = f"http://{self.host}:{self.port}/status"
        connection = http.client.HTTPConnection(self.host, self.port, timeout=_TIMEOUT_S)
        try:
            connection.request("GET", "/status")
            answer = connection.getresponse()
            body = answer.read()
        except (OSError, http.client.HTTPException) as error:
            raise Gone(f"{place}: {error or type(error).__name__}") from error
        finally:
            connection.close()
        if answer.status != 200:
            raise IolabError(
                f"{place}: answered {answer.status}",
                "only role relay answers there; watch another role by --control PATH",
            )
        return decode(body, place)

    def close(self) -> None:
        """See Source."""


def http_source(url: str) -> HttpSource:
    """The source that `url` names; InputError when it is not `http://HOST:PORT`."""
    wrong = InputError(f"--url: {url!r}: expected http://HOST:PORT")
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise wrong from error
    if parts.scheme != "http" or not host or parts.path not in ("", "/", "/status"):
        raise wrong
    return HttpSource(host, port or 80)


def decode(body: bytes, place: str) -> dict[str, Any]:
    """A JSON object out of bytes; names may hold bytes that are no UTF-8."""
    try:
        document = json.loads(body.decode(errors="replace"))
    except ValueError as error:
        raise IolabError(f"{place}: not JSON: {error}") from error
    if not isinstance(document, dict):
        raise IolabError(f"{place}: not a JSON object")
    return document


def parse(document: dict[str, Any]) -> Snapshot:
    """The document as data; IolabError says what is wrong with it."""
    try:
        return Snapshot.model_validate(document)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "document"
        raise IolabError(
            f"status: {where}: {first['msg']}", "server and harness are of different versions?"
        ) from error


def lines(snapshot: Snapshot) -> list[str]:
    """Plain text: a line of the whole, then one line a transfer."""
    found = [_headline(snapshot)]
    for one in ordered(snapshot.transfers):
        share = "" if one.share is None else f" ({one.share:.0%})"
        parts = [printable(one.name), one.state, f"{_moved(one)}{share}"]
        parts.append(f"{format_size(one.rate_bytes_per_s)}/s" if one.state == "running" else "-")
        parts.append(f"age {clock(one.age_ns)}")
        if one.waits_for is not None:
            parts.append(f"waits for {_waits_for(one)}")
        found.append("  " + "  ".join(parts))
    return found


def view(snapshot: Snapshot, rows: int | None = None) -> RenderableType:
    """The table for a terminal; at most `rows` transfers, and how many more there are."""
    shown = ordered(snapshot.transfers)
    cut = len(shown) if rows is None else max(1, rows)
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("name", overflow="ellipsis", no_wrap=True, ratio=1)
    for name in ("state", "moved", "", "", "rate", "age", "waits for"):
        justify: Literal["left", "right"] = "right" if name in ("moved", "rate", "age") else "left"
        table.add_column(name, justify=justify, no_wrap=True)
    for one in shown[:cut]:
        table.add_row(*_row(one))
    parts: list[RenderableType] = [Text(_headline(snapshot)), table]
    if len(shown) > cut:
        parts.append(Text(f"and {len(shown) - cut} more"))
    return Group(*parts)


def ordered(transfers: Iterable[Transfer]) -> list[Transfer]:
    """Those that run before those that wait, the oldest first, so that rows stay where they are."""
    return sorted(transfers, key=lambda one: (one.state != "running", -one.age_ns, one.name))


def printable(name: str) -> str:
    """A name without what would move a terminal's cursor or change its colours."""
    return "".join(char if char.isprintable() else _MARK for char in name)


def clock(ns: int) -> str:
    """A duration as `m:ss` or `h:mm:ss`."""
    minutes, seconds = divmod(ns // 10**9, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"


def _headline(snapshot: Snapshot) -> str:
    running = [one for one in snapshot.transfers if one.state == "running"]
    rate = format_size(sum(one.rate_bytes_per_s for one in running))
    return (
        f"{snapshot.engine}, up {clock(snapshot.uptime_ns)}: {len(running)} running at {rate}/s, "
        f"{len(snapshot.transfers) - len(running)} waiting"
    )


def _moved(one: Transfer) -> str:
    total = "" if one.total_bytes is None else f" of {format_size(one.total_bytes)}"
    return format_size(one.bytes) + total


def _waits_for(one: Transfer) -> str:
    """The missing side; with several receivers, how many of them are here."""
    if one.waits_for == "receiver" and one.receivers > 1:
        return f"receiver ({one.receivers_here} of {one.receivers} here)"
    return one.waits_for or ""


def _row(one: Transfer) -> tuple[RenderableType, ...]:
    running = one.state == "running"
    share = one.share if running else None
    # Without a known total there is nothing to fill, and a pulse would move without the bytes.
    bar = ProgressBar(total=1.0, completed=share, width=_BAR_COLUMNS) if share is not None else ""
    return (
        Text(printable(one.name)),
        Text(one.state, style="green" if running else "yellow"),
        _moved(one),
        "" if share is None else f"{share:4.0%}",
        bar,
        f"{format_size(one.rate_bytes_per_s)}/s" if running else "",
        clock(one.age_ns),
        _waits_for(one),
    )
