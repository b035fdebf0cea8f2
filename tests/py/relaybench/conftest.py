"""A relay for the bench's clients that is not the one under test: small, slow, and honest."""

from __future__ import annotations

import contextlib
import select
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n"


class FakeRelay:
    """Joins PUT and GET of a path, a thread a connection; `spoil` may change the bytes."""

    def __init__(self) -> None:
        self.spoil: Callable[[bytes], bytes] = lambda data: data
        self.open = 0
        self.names: dict[str, str] = {}
        self.served = 0
        self._waiting: dict[str, socket.socket] = {}
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=1000)
        self.address = ("127.0.0.1", self._listener.getsockname()[1])
        self._threads: list[threading.Thread] = []
        self._start(self._accept)

    def close(self) -> None:
        """Stops accepting; the connections end with their clients."""
        self._listener.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(20)
        self._listener.close()

    @property
    def cpu_pids(self) -> tuple[int, ...]:
        return (1,)

    def counters(self) -> dict[str, Any]:
        with self._lock:
            return {"connections": self.open, "pipes": 0, "pipe_bytes": 0, "relayed_bytes": 0}

    def status(self) -> dict[str, Any]:
        with self._lock:
            return {"transfers": [{"name": name} for name in self.names]}

    def _start(self, work: Callable[..., None], *args: object) -> None:
        thread = threading.Thread(target=work, args=args)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                self._start(self._serve, self._listener.accept()[0])

    def _serve(self, sock: socket.socket) -> None:
        with self._lock:
            self.open += 1
        with contextlib.suppress(OSError), sock:
            self._request(sock)
        with self._lock:
            self.open -= 1

    def _request(self, sock: socket.socket) -> None:
        got = b""
        while b"\r\n\r\n" not in got:
            data = sock.recv(4096)
            if not data:
                return
            got += data
        head, _, rest = got.partition(b"\r\n\r\n")
        method, path, _ = head.decode().split("\r\n")[0].split()
        if method == "PUT":
            sock.sendall(b"HTTP/1.1 200 OK\r\n\r\nwaiting: for 1 receiver\n")
        partner = self._meet(path, sock)
        if partner is None:
            self._park(sock, path)
        elif method == "PUT":
            self._pump(sock, partner, rest)
        else:
            self._pump(partner, sock, b"")

    def _meet(self, path: str, sock: socket.socket) -> socket.socket | None:
        with self._lock:
            partner = self._waiting.pop(path, None)
            if partner is None:
                self._waiting[path] = sock
                self.names[path] = "waiting"
            return partner

    def _park(self, sock: socket.socket, path: str) -> None:
        """Until the client is gone, or the partner's thread has taken over and finished."""
        watch = select.poll()
        watch.register(sock, select.POLLRDHUP)
        watch.poll(30_000)
        with self._lock:
            self.names.pop(path, None)
            if self._waiting.get(path) is sock:
                del self._waiting[path]

    def _pump(self, frm: socket.socket, to: socket.socket, data: bytes) -> None:
        to.sendall(HEAD % (1 << 40))
        try:
            while True:
                if data:
                    to.sendall(self.spoil(data))
                data = frm.recv(1 << 16)
                if not data:
                    break
        finally:
            for sock in (frm, to):
                with contextlib.suppress(OSError):
                    sock.shutdown(socket.SHUT_RDWR)
            with self._lock:
                self.served += 1


@pytest.fixture
def fake_relay() -> Iterator[FakeRelay]:
    """A running fake relay."""
    relay = FakeRelay()
    yield relay
    relay.close()
