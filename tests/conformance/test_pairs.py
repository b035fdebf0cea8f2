"""The load generator's pairs: against every relay engine, and against forwarders that cheat."""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from client import Server, running


def free_port() -> int:
    """A port nobody listens on at the moment."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port: int = sock.getsockname()[1]
    return port


def load(binary: Path, *args: str) -> dict[str, Any]:
    """One result document of iolab-load."""
    argv = [str(binary.parent / "iolab-load"), *args, "--timeout", "15", "--seed", "3"]
    out = subprocess.run(argv, capture_output=True, timeout=40, check=True)
    document: dict[str, Any] = json.loads(out.stdout)
    return document


def faultless(document: dict[str, Any], transfers: int, size: int) -> None:
    """Every transfer arrived, whole and right."""
    assert not any(document["errors"].values()), document["errors"]
    assert document["window"]["requests"] == transfers
    assert document["total"]["body_bytes"] == document["total"]["sent_bytes"] == transfers * size


@pytest.mark.parametrize(
    ("size", "more"),
    [(1, []), (65537, []), (1 << 20, ["--chunked"]), (2 << 20, ["--pairs", "3"])],
)
def test_relays_what_the_generator_sends(
    binary: Path, relay: Server, size: int, more: list[str]
) -> None:
    before = relay.total("relayed_bytes")
    target = f"{relay.address[0]}:{relay.address[1]}"
    nr = 3 if "--pairs" in more else 1
    args = ["--relay", "--target", target, "--size", str(size), "--count", "4", "--check", "full"]
    document = load(binary, *args, *more)
    faultless(document, 4 * nr, size)
    assert relay.total("relayed_bytes") - before == document["total"]["body_bytes"]


@pytest.mark.parametrize("direction", ["up", "down", "both"])
def test_forwards_what_the_generator_sends(binary: Path, forward_spec: str, direction: str) -> None:
    upstream = f"127.0.0.1:{free_port()}"
    with running(binary, forward_spec, None, "--upstream", upstream, role="forward") as server:
        target = f"{server.address[0]}:{server.address[1]}"
        args = ["--forward", "--target", target, "--upstream", upstream, "--direction", direction]
        size = (1 << 20) + 3
        document = load(binary, *args, "--size", str(size), "--pairs", "2", "--count", "3")
        both = 2 if direction == "both" else 1
        assert not any(document["errors"].values()), document["errors"]
        assert document["window"]["requests"] == 6
        assert document["total"]["body_bytes"] == 6 * both * size
        server.until("connections", 0)
        greetings = 6 * 16
        assert server.total("relayed_bytes") == 6 * both * size + greetings
        assert server.total("transfers") == 6


def cheat(change: Callable[[bytes, int], bytes | None]) -> tuple[str, str]:
    """A forwarder whose bytes pass through `change` (data, position): target and upstream."""
    listener = socket.create_server(("127.0.0.1", 0))
    upstream = free_port()

    def pump(client: socket.socket) -> None:
        with client, socket.create_connection(("127.0.0.1", upstream)) as out:
            at = 0
            while data := client.recv(65536):
                changed = change(data, at)
                at += len(data)
                if changed is None:
                    return
                out.sendall(changed)
            out.shutdown(socket.SHUT_WR)
            out.recv(1)

    def serve() -> None:
        client, _ = listener.accept()
        listener.close()
        with contextlib.suppress(OSError):  # found out: the load generator has gone
            pump(client)

    threading.Thread(target=serve, daemon=True).start()
    return f"127.0.0.1:{listener.getsockname()[1]}", f"127.0.0.1:{upstream}"


def flip(data: bytes, at: int) -> bytes:
    """One wrong byte far inside."""
    place = 500_000 - at
    if 0 <= place < len(data):
        return data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]
    return data


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (flip, "mismatch"),
        (lambda data, at: data if at < 300_000 else data[1:], "mismatch"),
        (lambda data, at: data if at < 300_000 else None, "short reset"),  # by what was unread
        (lambda data, at: data + b"x" if at + len(data) == 1_000_016 else data, "long"),
    ],
    ids=["flipped byte", "lost bytes", "cut", "surplus"],
)
def test_a_cheating_forwarder_is_found_out(
    binary: Path, change: Callable[[bytes, int], bytes | None], error: str
) -> None:
    target, upstream = cheat(change)
    args = ["--forward", "--target", target, "--upstream", upstream, "--size", "1000000"]
    document = load(binary, *args, "--count", "1", "--check", "full")
    assert sum(document["errors"][name] for name in error.split()) == 1, document["errors"]
    assert document["window"]["requests"] == 0
