"""The two sides of a relay on raw sockets: senders with their text, receivers with their body."""

from __future__ import annotations

import hashlib
import json
import random
import re
import socket
import struct
import threading
import time
from collections.abc import Callable
from typing import Any

from client import DEADLINE_S, Connection, ProtocolError, Server
from stillness import LOOK_S, Stillness

Fields = list[tuple[str, str]]


def payload(size: int, seed: int = 1) -> bytes:
    """Bytes in which a shift or a swap shows."""
    return random.Random(seed).randbytes(size)


def digest(data: bytes) -> str:
    """Short name of data, so that a difference does not print megabytes."""
    return f"{len(data)} bytes {hashlib.sha256(data).hexdigest()[:16]}"


def head(method: str, path: str, version: str = "1.1", fields: Fields | None = None) -> bytes:
    """A request's head."""
    lines = [f"{method} {path} HTTP/{version}", "Host: t"]
    lines += [f"{name}: {value}" for name, value in fields or []]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def chunk(data: bytes, extension: str = "") -> bytes:
    """One chunk."""
    return f"{len(data):x}{extension}\r\n".encode() + data + b"\r\n"


class Party(Connection):
    """A connection whose responses may be framed in any way and may repeat fields."""

    fields: Fields
    status: int
    line_end_due = False

    def __del__(self) -> None:
        """A failing test leaves parties behind; their sockets must not outlive them."""
        self.sock.close()

    def read_fields(self) -> None:
        """The next response's head into status and fields."""
        while b"\r\n\r\n" not in self.buffer:
            if not self.fill():
                raise ProtocolError(f"closed inside a head: {self.buffer[:200]!r}")
        text, self.buffer = self.buffer.split(b"\r\n\r\n", 1)
        first, *lines = text.decode("latin-1").split("\r\n")
        match = re.fullmatch(r"HTTP/1\.1 (\d{3}) .+", first)
        assert match, first
        self.status = int(match[1])
        self.fields = [(k.lower(), v.strip()) for k, _, v in (x.partition(":") for x in lines)]

    def field(self, name: str) -> str | None:
        """The one value of a field, None without it."""
        values = self.all(name)
        assert len(values) < 2, (name, values)
        return values[0] if values else None

    def all(self, name: str) -> list[str]:
        """The values of a field in their order."""
        return [value for key, value in self.fields if key == name]

    def read_line(self) -> bytes:
        """Up to CRLF, without it."""
        while b"\r\n" not in self.buffer:
            if not self.fill():
                raise ProtocolError(f"cut inside a line: {self.buffer[:100]!r}")
        line, self.buffer = self.buffer.split(b"\r\n", 1)
        return line

    def read_chunk(self) -> bytes:
        """One chunk's data; b"" is the last one, after which nothing of the body follows.

        The line end behind the data belongs to what comes next: data must not wait for it.
        """
        if self.line_end_due:
            assert self.read_exactly(2) == b"\r\n"
        size = int(self.read_line().split(b";")[0], 16)
        self.line_end_due = size > 0
        if not size:
            assert self.read_exactly(2) == b"\r\n"
        return self.read_exactly(size)

    def read_body(self) -> bytes:
        """The body, by whichever framing the head announced; ProtocolError when it is cut."""
        length = self.field("content-length")
        if length is not None:
            assert self.field("transfer-encoding") is None
            return self.read_exactly(int(length))
        if self.field("transfer-encoding") == "chunked":
            parts = []
            while part := self.read_chunk():
                parts.append(part)
            return b"".join(parts)
        return self.read_to_end()

    def read_to_end(self) -> bytes:
        """Everything up to FIN; ProtocolError at a reset."""
        parts = [self.buffer]
        self.buffer = b""
        while True:
            try:
                data = self.sock.recv(1 << 18)
            except ConnectionError as error:
                raise ProtocolError("reset") from error
            if not data:
                return b"".join(parts)
            parts.append(data)

    def read_some(self, count: int) -> bytes:
        """The next count bytes of a body, out of as many chunks as it takes."""
        if self.field("transfer-encoding") != "chunked":
            return self.read_exactly(count)
        got = b""
        while len(got) < count:
            part = self.read_chunk()
            assert part, "the body ended"
            got += part
        assert len(got) == count, (len(got), count)
        return got

    def quiet(self, seconds: float = 0.15) -> bool:
        """True when nothing has come for a moment."""
        if self.buffer:
            return False
        self.sock.settimeout(seconds)
        try:
            self.sock.recv(1, socket.MSG_PEEK)
            return False
        except TimeoutError:
            return True
        finally:
            self.sock.settimeout(DEADLINE_S)

    def reset(self) -> None:
        """Closes with RST."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    def half_close(self) -> None:
        """Says that nothing more will be sent."""
        self.sock.shutdown(socket.SHUT_WR)


def sender(
    server: Server,
    path: str,
    length: int | None,
    version: str = "1.1",
    method: str = "PUT",
    fields: Fields | None = None,
) -> Party:
    """A connection that has sent the head of an upload; length None is a chunked one."""
    framing = ("Content-Length", str(length)) if length is not None else None
    framing = framing or ("Transfer-Encoding", "chunked")
    party = Party(server.address)
    party.send(head(method, path, version, [framing, *(fields or [])]))
    return party


def receiver(server: Server, path: str, version: str = "1.1", rcvbuf: int | None = None) -> Party:
    """A connection that has asked for a name."""
    party = Party(server.address, rcvbuf)
    party.send(head("GET", path, version))
    return party


def background(work: Callable[[], None]) -> threading.Thread:
    """Runs work beside the test; join() it."""
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread


def upload(party: Party, data: bytes, chunks: list[int] | None = None) -> threading.Thread:
    """Sends a body beside the test: whole, or as chunks of these sizes, repeated."""

    def work() -> None:
        if chunks is None:
            party.send(data)
            return
        at, turn = 0, 0
        while at < len(data):
            size = chunks[turn % len(chunks)]
            party.send(chunk(data[at : at + size]))
            at, turn = at + size, turn + 1
        party.send(b"0\r\n\r\n")

    return background(work)


def words(party: Party) -> list[str]:
    """The first words of the lines that a sender was told, to the end of its response."""
    party.read_fields()
    assert party.status == 200
    return [line.split(":")[0] for line in party.read_body().decode().splitlines()]


def transfers(server: Server) -> list[dict[str, Any]]:
    """What /status lists."""
    with Party(server.address) as party:
        party.send(head("GET", "/status"))
        party.read_fields()
        document: dict[str, Any] = json.loads(party.read_body())
    listed: list[dict[str, Any]] = document["transfers"]
    return listed


def until(condition: Callable[[], Any], what: str, seconds: float = DEADLINE_S) -> Any:
    """Waits for a true value and returns it."""
    end = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < end, f"never came: {what}"
        time.sleep(0.01)
    return value


def until_waiting(server: Server, path: str, receivers: int = 1, with_sender: bool = False) -> None:
    """Waits until `receivers` of a name are there, so that what follows comes second.

    Its sender is another connection, perhaps of another worker: who came first does not say who
    is there first.
    """

    def there(transfer: dict[str, Any]) -> bool:
        return (
            transfer["name"] == path
            and transfer["receivers_here"] == receivers
            and (not with_sender or transfer["waits_for"] == "receiver")
        )

    until(
        lambda: [t for t in transfers(server) if there(t)],
        f"{receivers} receivers of {path}" + (" and its sender" if with_sender else ""),
    )


def until_empty(server: Server) -> None:
    """Waits until nobody waits and nothing runs."""
    until(lambda: not transfers(server), "an empty relay")


def push_until_blocked(server: Server, sock: socket.socket, piece: bytes, limit: int) -> int:
    """Sends piece over and over until the server takes no more; fails beyond limit bytes."""
    sent = 0
    still = Stillness(server.proc.pid, sock)
    sock.settimeout(LOOK_S)
    while sent < limit:
        try:
            sent += sock.send(piece[sent % len(piece) :])
            still = Stillness(server.proc.pid, sock)
        except TimeoutError:
            if still.reached():
                sock.settimeout(DEADLINE_S)
                return sent
    raise AssertionError(f"{sent} bytes were taken and nobody reads them")
