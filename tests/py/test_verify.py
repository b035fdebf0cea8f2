from __future__ import annotations

import http.server
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from iolab.files import ensure_files
from iolab.verify import SIZES_BYTES, verify_server

Damage = Callable[[bytes, str], bytes]


class Handler(http.server.BaseHTTPRequestHandler):
    """A small correct file server with single ranges; `damage` may spoil bodies."""

    protocol_version = "HTTP/1.1"
    root: Path
    damage: Damage
    keep = True

    def do_GET(self) -> None:
        self.answer(body=True)

    def do_HEAD(self) -> None:
        self.answer(body=False)

    def answer(self, body: bool) -> None:
        path = self.root / self.path[1:]
        if not path.exists():
            self.reply(404, b"", body)
            return
        data = path.read_bytes()
        wanted = self.headers.get("Range")
        if wanted is None:
            self.reply(200, type(self).damage(data, self.path), body)
            return
        first, _, last = wanted.removeprefix("bytes=").partition("-")
        start = int(first) if first else len(data) - int(last)
        end = int(last) + 1 if first and last else len(data)
        if start >= len(data):
            self.reply(416, b"", body)
        else:
            self.reply(206, data[start:end], body)

    def reply(self, status: int, data: bytes, body: bool) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        if not self.keep:
            self.send_header("Connection", "close")
            self.close_connection = True
        self.end_headers()
        if body:
            self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def serving(
    root: Path, damage: Damage = lambda data, path: data, keep: bool = True
) -> Iterator[int]:
    body = {"root": root, "damage": staticmethod(damage), "keep": keep}
    handler = type("Bound", (Handler,), body)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("files")
    ensure_files(path, SIZES_BYTES)
    return path


def test_a_correct_server_passes(root: Path) -> None:
    with serving(root) as port:
        result = verify_server("x", "127.0.0.1", port, root)
    assert result.failures == ()
    assert result.checks > 30


def test_one_wrong_byte_is_found_and_placed(root: Path) -> None:
    def flip(data: bytes, path: str) -> bytes:
        spoilt = bytearray(data)
        if len(data) == 65537:
            spoilt[65536] ^= 1
        return bytes(spoilt)

    with serving(root, flip) as port:
        result = verify_server("x", "127.0.0.1", port, root)
    assert result.failures == ("GET /65537.bin: body differs from the file at byte 65536",)


def test_a_short_body_is_found(root: Path) -> None:
    with serving(root, lambda data, path: data[:-1]) as port:
        result = verify_server("x", "127.0.0.1", port, root)
    assert "GET /1.bin: Content-Length 0, expected 1" in result.failures
    assert result.failures[-1] == "further checks left out"


def test_a_connection_that_is_not_kept_is_found(root: Path) -> None:
    with serving(root, keep=False) as port:
        result = verify_server("x", "127.0.0.1", port, root)
    assert "the connection was not kept alive" in result.failures[0]


def test_a_server_that_is_not_there_fails(root: Path) -> None:
    with serving(root) as port:
        pass
    result = verify_server("x", "127.0.0.1", port, root)
    assert "ConnectionRefusedError" in result.failures[0]


def test_files_are_the_same_everywhere_and_repaired(tmp_path: Path) -> None:
    ensure_files(tmp_path, [10])
    first = (tmp_path / "10.bin").read_bytes()
    assert len(first) == 10
    (tmp_path / "10.bin").write_bytes(b"short")
    ensure_files(tmp_path, [10])
    assert (tmp_path / "10.bin").read_bytes() == first
    assert (tmp_path / "10.bin").stat().st_mode & 0o777 == 0o644
