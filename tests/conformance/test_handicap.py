"""The planted slowdown: it takes time, changes no byte, and is refused where it means nothing."""

from __future__ import annotations

import contextlib
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from client import DEADLINE_S, Server, make_request


@contextlib.contextmanager
def running(binary: Path, spec: str, root: Path, *args: str) -> Iterator[Server]:
    """A server of the test's own."""
    server = Server(binary, spec, root, *args)
    try:
        yield server
    finally:
        server.stop()


def test_a_handicap_spins_and_changes_no_byte(binary: Path, name: str, root: Path) -> None:
    with (
        running(binary, name, root, "--handicap", "50") as server,
        server.connect() as conn,
    ):
        end = time.monotonic() + DEADLINE_S
        while server.total("handicap_ns") == 0:
            assert time.monotonic() < end, server.describe()
            conn.send(make_request("/f4097") * 100)
            for _ in range(100):
                assert conn.response().body == (root / "f4097").read_bytes()


def test_without_a_handicap_nothing_spins(binary: Path, name: str, root: Path) -> None:
    with running(binary, name, root) as server, server.connect() as conn:
        conn.send(make_request("/f4097") * 200)
        for _ in range(200):
            assert conn.response().status == 200
        server.until("requests", 200)
        assert server.total("handicap_ns") == 0


def test_a_handicap_is_of_responses(binary: Path, relay_name: str) -> None:
    argv = [str(binary), "--engine", relay_name, "--listen", "127.0.0.1:0", "--handicap", "5"]
    done = subprocess.run(
        [*argv, "--role", "relay"], capture_output=True, text=True, timeout=DEADLINE_S
    )
    assert done.returncode == 2
    assert "--handicap" in done.stderr
    assert "--role file" in done.stderr
