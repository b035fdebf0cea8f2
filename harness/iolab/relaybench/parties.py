"""Senders and receivers on plain sockets, for what no load generator does: waiting, leaving.

Every wait has a deadline and ends in a ProcessError that says what did not come.
"""

from __future__ import annotations

import contextlib
import random
import selectors
import socket
import struct
import time
from collections import deque
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from iolab.executor import ProcessError

Address = tuple[str, int]

DEADLINE_S = 20.0
ENDLESS = 1 << 40  # announced by a sender that is not meant to finish
_HEAD_MAX = 1 << 16
_GULP = 1 << 16
_MIN_READ = 1 << 14  # a limited receiver waits until it may read this much
_BLOCK_BYTES = (1 << 20) + 7  # no power of two: a shift by a buffer's size shows


class Side(StrEnum):
    """Which of the two."""

    SENDER = "sender"
    RECEIVER = "receiver"


class Moment(StrEnum):
    """How far a transfer has come when one of its clients leaves."""

    BEFORE = "before"
    """It waits; its partner has not come."""
    HEAD = "head"
    """Half of its request's head is sent."""
    BODY = "body"
    """The receiver has the response's head, the sender has sent a part."""
    END = "end"
    """All is sent, and the end not yet read."""


def connect(address: Address) -> socket.socket:
    """A connection whose calls have a deadline; ProcessError when it cannot be made."""
    try:
        return socket.create_connection(address, timeout=DEADLINE_S)
    except OSError as error:
        raise ProcessError(f"connect to {address[0]}:{address[1]}: {error}") from error


def put_head(path: str, length: int | None) -> bytes:
    """The head of an upload; `length` None is a chunked one."""
    framing = "Transfer-Encoding: chunked" if length is None else f"Content-Length: {length}"
    return f"PUT {path} HTTP/1.1\r\nHost: bench\r\n{framing}\r\n\r\n".encode()


def get_head(path: str) -> bytes:
    """The head of a download."""
    return f"GET {path} HTTP/1.1\r\nHost: bench\r\n\r\n".encode()


def send(sock: socket.socket, data: bytes, what: str) -> None:
    """Sends all of it."""
    try:
        sock.sendall(data)
    except OSError as error:
        raise ProcessError(f"{what}: sending failed: {error}") from error


def read_head(sock: socket.socket, what: str) -> bytes:
    """Reads the head of a 200, to its end; returns what came behind it."""
    got = b""
    while b"\r\n\r\n" not in got:
        try:
            data = sock.recv(4096)
        except OSError as error:
            raise ProcessError(f"{what}: no response: {error}") from error
        if not data or len(got) > _HEAD_MAX:
            raise ProcessError(f"{what}: expected a response, got {got[:200]!r}")
        got += data
    head, _, rest = got.partition(b"\r\n\r\n")
    if not head.startswith(b"HTTP/1.1 200 "):
        raise ProcessError(f"{what}: answered {head.splitlines()[0]!r} {rest[:200]!r}")
    return rest


def reset(sock: socket.socket) -> None:
    """Closes by RST, whatever is unread or unsent."""
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


# --- one transfer under a slow receiver ----------------------------------------------------------


class Throttled:
    """A sender at full speed and a receiver at a limit, in one thread.

    The limit counts from the first byte of the body. What the receiver gets is compared with what
    was sent, byte by byte.
    """

    def __init__(self, address: Address, name: str, limit_bytes_per_s: int) -> None:
        """Connects both; the transfer begins at once and stops where buffers are full."""
        self._limit = limit_bytes_per_s
        self._block = memoryview(random.Random(name).randbytes(_BLOCK_BYTES))
        self._sender = connect(address)
        self._receiver = connect(address)
        self.sent = self.received = 0
        self.wrong: str | None = None
        self._started_ns = 0
        self._last_ns = 0
        send(self._receiver, get_head(name), "receiver")
        send(self._sender, put_head(name, ENDLESS), "sender")
        self._sender.setblocking(False)

    def run(self, seconds: float) -> dict[str, Any]:
        """Runs for `seconds` from the first byte, then both leave by RST; the raw result."""
        try:
            # The head comes with the match, which needs no byte of the body.
            self._take(read_head(self._receiver, "receiver"))
            self._receiver.setblocking(False)
            self._started_ns = time.monotonic_ns()
            end_ns = self._started_ns + round(seconds * 1e9)
            with selectors.DefaultSelector() as selector:
                selector.register(self._sender, selectors.EVENT_WRITE)
                while self.wrong is None and time.monotonic_ns() < end_ns:
                    selector.select(0.005)
                    self._push()
                    self._pull()
        finally:
            reset(self._sender)
            reset(self._receiver)
        return self._result()

    def _result(self) -> dict[str, Any]:
        if self.wrong is None and not self.received:
            self.wrong = "the receiver got nothing"
        return {
            "limit_bytes_per_s": self._limit,
            "sent_bytes": self.sent,
            "received_bytes": self.received,
            "receive_ns": max(1, self._last_ns - self._started_ns),
            "wrong": self.wrong,
        }

    def _push(self) -> None:
        """Sends until the kernel takes no more now."""
        try:
            while True:
                at = self.sent % _BLOCK_BYTES
                self.sent += self._sender.send(self._block[at:])
        except BlockingIOError:
            pass
        except OSError as error:
            self.wrong = f"the sender's connection broke after {self.sent} bytes: {error}"

    def _pull(self) -> None:
        """Receives what the limit allows by now, but not in crumbs."""
        passed_ns = time.monotonic_ns() - self._started_ns
        may = self._limit * passed_ns // 10**9 - self.received
        while may >= min(_MIN_READ, self._limit) and self.wrong is None:
            try:
                data = self._receiver.recv(min(may, _GULP))
            except BlockingIOError:
                return
            except OSError as error:
                self.wrong = f"the receiver's connection broke: {error}"
                return
            if not data:
                self.wrong = f"the response ended after {self.received} bytes"
            self._take(data)
            may -= len(data)

    def _take(self, data: bytes) -> None:
        """Compares what came with what was sent."""
        rest = memoryview(data)
        while len(rest):
            at = self.received % _BLOCK_BYTES
            want = self._block[at : at + len(rest)]
            if rest[: len(want)] != want:
                self.wrong = f"a wrong byte within {len(want)} from byte {self.received} on"
                return
            self.received += len(want)
            rest = rest[len(want) :]
        self._last_ns = time.monotonic_ns()


# --- clients that leave --------------------------------------------------------------------------


@dataclass(frozen=True)
class Abort:
    """How one transfer is torn: who leaves, when, how, and what the transfer is like."""

    victim: Side
    moment: Moment
    by_reset: bool
    receiver_first: bool
    chunked: bool
    size: int
    cut: float
    """Where in the head, or how far into the body, as a share."""
    survivor_by_reset: bool


def plan_abort(source: random.Random) -> Abort:
    """The next abort of a seeded series."""
    return Abort(
        victim=source.choice(list(Side)),
        moment=source.choice(list(Moment)),
        by_reset=source.random() < 0.5,
        receiver_first=source.random() < 0.5,
        chunked=source.random() < 0.3,
        size=source.choice([2, 100, 5_000, 70_000, 300_000]),
        cut=source.random(),
        survivor_by_reset=source.random() < 0.5,
    )


class Survivors:
    """Those whose partner left: kept for a while, so that aborts overlap; the oldest goes first."""

    def __init__(self, at_most: int) -> None:
        self._kept: deque[tuple[socket.socket, bool]] = deque()
        self._at_most = at_most

    def keep(self, sock: socket.socket, by_reset: bool) -> None:
        """Keeps one more."""
        self._kept.append((sock, by_reset))
        while len(self._kept) > self._at_most:
            leave(*self._kept.popleft())

    def close(self) -> None:
        """All leave."""
        while self._kept:
            leave(*self._kept.popleft())


def leave(sock: socket.socket, by_reset: bool) -> None:
    """Leaves by RST, or as a killed process does: FIN, or RST if something was unread."""
    if by_reset:
        reset(sock)
    else:
        sock.close()


def abort_one(address: Address, name: str, plan: Abort, survivors: Survivors) -> None:
    """One transfer of which one client leaves; the other joins `survivors`."""
    with contextlib.ExitStack() as undo:
        victim = connect(address)
        undo.callback(reset, victim)
        if plan.moment is Moment.BEFORE:
            send(victim, _head(plan.victim, name, plan), name)
            leave(victim, plan.by_reset)
            survivor = connect(address)
            undo.callback(reset, survivor)
            send(survivor, _head(_other(plan.victim), name, plan), name)
        else:
            survivor = connect(address)
            undo.callback(reset, survivor)
            _go_on(victim, survivor, name, plan)
            leave(victim, plan.by_reset)
        undo.pop_all()
    survivors.keep(survivor, plan.survivor_by_reset)


def _go_on(victim: socket.socket, survivor: socket.socket, name: str, plan: Abort) -> None:
    """Brings a transfer to the moment at which the victim leaves."""
    theirs = _head(_other(plan.victim), name, plan)
    ours = _head(plan.victim, name, plan)
    if plan.moment is Moment.HEAD:
        ours = ours[: 1 + int(plan.cut * (len(ours) - 1))]
    victim_first = plan.receiver_first == (plan.victim is Side.RECEIVER)
    turns = [(victim, ours), (survivor, theirs)]
    for sock, head in turns if victim_first else reversed(turns):
        send(sock, head, name)
    if plan.moment is Moment.HEAD:
        return
    sender, receiver = (victim, survivor) if plan.victim is Side.SENDER else (survivor, victim)
    part = plan.size if plan.moment is Moment.END else int(plan.cut * plan.size)
    _send_body(sender, receiver, name, plan, part)


def _send_body(
    sender: socket.socket, receiver: socket.socket, name: str, plan: Abort, part: int
) -> None:
    """The first `part` bytes of the body; all of it includes its end, if it is chunked."""
    body = bytes(part)
    if plan.chunked:
        body = b"%x\r\n%s\r\n" % (part, body) if part else b""
        body += b"0\r\n\r\n" if part == plan.size else b""
    read_head(receiver, f"{name}: receiver")
    push(sender, body, receiver, f"{name}: sender")


def push(sender: socket.socket, body: bytes, receiver: socket.socket, what: str) -> None:
    """Sends `body`; the receiver reads only where the buffers on the way are too small for it."""
    rest = memoryview(body)
    sender.setblocking(False)
    try:
        while len(rest):
            try:
                rest = rest[sender.send(rest) :]
            except BlockingIOError:
                if not receiver.recv(_GULP):
                    raise ProcessError(f"{what}: the response ended early") from None
    except OSError as error:
        raise ProcessError(f"{what}: the body did not get through: {error}") from error
    finally:
        sender.settimeout(DEADLINE_S)


def _head(side: Side, name: str, plan: Abort) -> bytes:
    if side is Side.RECEIVER:
        return get_head(name)
    return put_head(name, None if plan.chunked else plan.size)


def _other(side: Side) -> Side:
    return Side.RECEIVER if side is Side.SENDER else Side.SENDER


def whole_transfer(address: Address, name: str) -> bool:
    """True when one transfer comes through, byte for byte."""
    body = random.Random(name).randbytes(100_000)
    sides = contextlib.closing(connect(address)), contextlib.closing(connect(address))
    with sides[0] as sender, sides[1] as receiver:
        send(receiver, get_head(name), "receiver")
        send(sender, put_head(name, len(body)), "sender")
        got = read_head(receiver, "receiver")
        sender.setblocking(False)
        rest = memoryview(body)
        with contextlib.suppress(OSError):
            while len(got) < len(body):
                with contextlib.suppress(BlockingIOError):
                    rest = rest[sender.send(rest) :]
                data = receiver.recv(_GULP)
                if not data:
                    break
                got += data
    return got == body
