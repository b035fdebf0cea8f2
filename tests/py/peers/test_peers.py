"""The peers that this machine has, started for real: what goes in must come out, both ways.

nginx, which serves files, is checked by `iolab verify` like every server of that role.
"""

from __future__ import annotations

import http.client
import os
import random
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from iolab.executor import HostExecutor
from iolab.servers import Place
from iolab.servers.peer import PeerServer, load_peers
from iolab.testbed.loopback import Loopback

ROOT = Path(__file__).resolve().parents[3]
PEERS = load_peers(ROOT / "peers")
UP = random.Random(1).randbytes(3_000_001)
DOWN = random.Random(2).randbytes(2_000_003)
TIMEOUT_S = 60


def read_all(connection: socket.socket) -> bytes:
    return b"".join(iter(lambda: connection.recv(1 << 16), b""))


def names(role: str) -> list[str]:
    return [name for name, peer in PEERS.items() if role in peer.roles]


@pytest.fixture
def upstream() -> Iterator[tuple[str, int]]:
    """Answers with DOWN, and whether it got UP, once the client has ended its side."""

    def serve(connection: socket.socket) -> None:
        with connection:
            connection.settimeout(TIMEOUT_S)
            got = read_all(connection)
            if got:  # the check for readiness sends nothing
                connection.sendall(DOWN + bytes([got == UP]))

    def accept() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=serve, args=(connection,), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        accepting = threading.Thread(target=accept)
        accepting.start()
        yield listener.getsockname()
        listener.shutdown(socket.SHUT_RDWR)
        accepting.join()


@pytest.fixture
def server(
    request: pytest.FixtureRequest, tmp_path: Path, upstream: tuple[str, int]
) -> Iterator[PeerServer]:
    """The peer that the test is parametrized with."""
    peer = PEERS[request.param]
    lack = peer.lacks(ROOT)
    if lack is not None:
        pytest.skip(f"{peer.name}: {lack}; {peer.remedy}")
    place = Place(tmp_path, tmp_path, (min(os.sched_getaffinity(0)),), Loopback(), upstream)
    with HostExecutor() as executor:
        running = PeerServer.start(executor, peer, ROOT, place)
        yield running
        assert running.failure() is None
        running.stop()


@pytest.mark.parametrize("server", names("forward"), indirect=True)
def test_forwarders_keep_bytes_and_half_closes(server: PeerServer) -> None:
    def exchange(_: int) -> bytes:
        with socket.create_connection((server.host, server.port), TIMEOUT_S) as connection:
            connection.sendall(UP)
            connection.shutdown(socket.SHUT_WR)
            return read_all(connection)

    with ThreadPoolExecutor(4) as pool:
        for answer in pool.map(exchange, range(4)):
            assert answer[-1:] == b"\1", "the upstream got other bytes"
            assert answer[:-1] == DOWN


@pytest.mark.parametrize("server", names("relay"), indirect=True)
def test_relays_bring_sender_and_receiver_together(server: PeerServer) -> None:
    def ask(method: str, body: bytes | None) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection(server.host, server.port, timeout=TIMEOUT_S)
        try:
            connection.request(method, "/name", body=body)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    with ThreadPoolExecutor(2) as pool:
        received, sent = pool.map(ask, ("GET", "PUT"), (None, UP))
    assert received == (200, UP)
    assert sent[0] == 200
