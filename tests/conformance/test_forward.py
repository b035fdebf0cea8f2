"""Role forward: both directions, half-close, resets, an upstream that is not there, draining."""

from __future__ import annotations

import contextlib
import socket
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
from client import DEADLINE_S, Server, running
from relay_client import background, digest, payload, push_until_blocked, until


class Bench:
    """A forwarder between clients and an upstream that the test plays."""

    def __init__(self, server: Server, listener: socket.socket) -> None:
        self.server = server
        self.listener = listener

    def join(self) -> tuple[socket.socket, socket.socket]:
        """A client's socket and the upstream's end of the same connection."""
        client = socket.create_connection(self.server.address, timeout=DEADLINE_S)
        upstream, _ = self.listener.accept()
        upstream.settimeout(DEADLINE_S)
        return client, upstream


@pytest.fixture(scope="module")
def bench(binary: Path, forward_spec: str) -> Iterator[Bench]:
    """One per engine specification."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(DEADLINE_S)
        upstream = f"127.0.0.1:{listener.getsockname()[1]}"
        args = ("--upstream", upstream, "--workers", "2")
        with running(binary, forward_spec, None, *args, role="forward") as server:
            yield Bench(server, listener)


def receive(sock: socket.socket) -> bytes:
    """Everything up to end of file."""
    parts = []
    while data := sock.recv(1 << 18):
        parts.append(data)
    return b"".join(parts)


def reset(sock: socket.socket) -> None:
    """Closes with RST."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def first_byte(address: tuple[str, int]) -> bytes:
    """What a new connection receives first; the reset may come before connect() has returned."""
    with socket.create_connection(address, timeout=DEADLINE_S) as client:
        return client.recv(1)


def test_both_ways_at_once_and_half_close(bench: Bench) -> None:
    client, upstream = bench.join()
    up, down = payload(1_500_001, 1), payload(900_007, 2)

    def send(sock: socket.socket, data: bytes) -> None:
        sock.sendall(data)
        sock.shutdown(socket.SHUT_WR)

    threads = [background(lambda: send(client, up)), background(lambda: send(upstream, down))]
    got: list[bytes] = []
    reader = background(lambda: got.append(receive(upstream)))
    assert digest(receive(client)) == digest(down)
    for thread in (*threads, reader):
        thread.join()
    assert digest(got[0]) == digest(up)
    client.close()
    upstream.close()
    bench.server.until("connections", 0)


@pytest.mark.parametrize("first", ["client", "upstream"])
def test_half_close_leaves_the_other_direction_open(bench: Bench, first: str) -> None:
    ends = bench.join()
    one, other = ends if first == "client" else ends[::-1]
    one.sendall(b"question")
    one.shutdown(socket.SHUT_WR)
    assert receive(other) == b"question"
    for i in range(20):
        other.sendall(b"%d" % (i % 10))
        assert one.recv(1) == b"%d" % (i % 10)
    other.close()
    assert one.recv(1) == b""
    one.close()
    bench.server.until("connections", 0)


@pytest.mark.parametrize("first", ["client", "upstream"])
def test_a_reset_goes_through(bench: Bench, first: str) -> None:
    ends = bench.join()
    one, other = ends if first == "client" else ends[::-1]
    one.sendall(b"x")
    assert other.recv(1) == b"x"
    reset(one)
    with pytest.raises(ConnectionError):
        other.recv(1)
    other.close()
    bench.server.until("connections", 0)


def test_one_byte_at_a_time(bench: Bench) -> None:
    client, upstream = bench.join()
    for i in range(50):
        client.sendall(bytes([i]))
        assert upstream.recv(10) == bytes([i])
        upstream.sendall(bytes([i, i]))
        assert client.recv(2, socket.MSG_WAITALL) == bytes([i, i])
    client.close()
    assert upstream.recv(1) == b""
    upstream.close()
    bench.server.until("connections", 0)


def test_the_end_of_a_burst_arrives_though_the_stream_goes_on(bench: Bench) -> None:
    ends = bench.join()
    for i in range(6):
        one, other = ends if i % 2 else ends[::-1]
        burst = payload(3_000_000 + 777 * i, i)  # the last bytes fill no batch of any size
        sender = background(lambda one=one, burst=burst: one.sendall(burst))
        got = b""
        while len(got) < len(burst):
            data = other.recv(1 << 20)
            assert data, f"the stream ended after {len(got)} bytes"
            got += data
        sender.join()
        assert digest(got) == digest(burst)
        for word in (b"!", b"more than one", b"?"):
            one.sendall(word)
            assert other.recv(len(word), socket.MSG_WAITALL) == word
    for end in ends:
        end.close()
    bench.server.until("connections", 0)


def test_many_connections_and_descriptors(bench: Bench) -> None:
    bench.server.until("connections", 0)
    before = bench.server.nr_descriptors()
    pairs = [bench.join() for _ in range(100)]
    assert len(bench.server.ask("status").split('"name"')) == 201
    for i, (client, upstream) in enumerate(pairs):
        client.sendall(b"%d" % i)
        assert upstream.recv(10) == b"%d" % i
    for i, (client, upstream) in enumerate(pairs):
        reset(client) if i % 3 else client.close()
        upstream.close()
    bench.server.until("connections", 0)
    pooled = 2 * bench.server.total("pipes")
    until(lambda: bench.server.nr_descriptors() <= before + pooled + 2, "descriptors given back")


def test_backpressure(bench: Bench) -> None:
    client, upstream = bench.join()
    piece = payload(1 << 20)
    sent = push_until_blocked(bench.server, client, piece, 192 << 20)
    client.shutdown(socket.SHUT_WR)
    at = 0
    while data := upstream.recv(1 << 20):
        start = at % len(piece)
        assert data == (piece[start:] + piece)[: len(data)], f"wrong bytes at {at}"
        at += len(data)
    assert at == sent
    client.close()
    upstream.close()


def test_an_upstream_that_refuses(binary: Path, forward_spec: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as gone:
        upstream = f"127.0.0.1:{gone.getsockname()[1]}"
    with running(binary, forward_spec, None, "--upstream", upstream, role="forward") as server:
        for _ in range(5):
            with pytest.raises(ConnectionError):
                first_byte(server.address)
        server.until("connections", 0)
        assert server.total("transfers_failed") == 5


def test_drain_cuts_what_does_not_end(binary: Path, forward_spec: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        upstream = f"127.0.0.1:{listener.getsockname()[1]}"
        args = ("--upstream", upstream, "--drain-timeout", "300")
        with running(binary, forward_spec, None, *args, role="forward") as server:
            client = socket.create_connection(server.address, timeout=DEADLINE_S)
            other, _ = listener.accept()
            server.signal()
            with contextlib.suppress(ConnectionError):
                assert client.recv(1) == b""
            client.close()
            other.close()
