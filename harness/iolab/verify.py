"""Byte-for-byte check of a running server through Python's own HTTP client.

No number is taken from a server that fails here. The checks cover what the engines move (bodies
around page, buffer and pipe boundaries, ranges, many on one connection), not HTTP as a whole: that
is the conformance suite's matter.
"""

from __future__ import annotations

import hashlib
import http.client
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from iolab.model import file_name

SIZES_BYTES = (0, 1, 4095, 4096, 65537, (1 << 20) + 1, 5 << 20)
_TIMEOUT_S = 10.0


@dataclass(frozen=True)
class Verification:
    """The outcome for one server: how many checks passed, and what failed.

    `digest` is the SHA-256 over all verified bodies in order: equal for all correct servers.
    """

    server: str
    checks: int
    failures: tuple[str, ...]
    digest: str

    @property
    def ok(self) -> bool:
        """True when every check passed."""
        return not self.failures


@dataclass(frozen=True)
class Check:
    """One request and the answer that is due. `body` is None for HEAD."""

    method: str
    path: str
    headers: tuple[tuple[str, str], ...]
    status: int
    length: int | None
    body: bytes | None

    @property
    def title(self) -> str:
        """The request in short, for messages."""
        headers = "".join(f" [{key}: {value}]" for key, value in self.headers)
        return f"{self.method} {self.path}{headers}"


def checks(root: Path) -> Iterator[Check]:
    """All checks for the files of SIZES_BYTES below `root` (made by ensure_files)."""
    for size in SIZES_BYTES:
        data = (root / file_name(size)).read_bytes()
        path = f"/{file_name(size)}"
        yield Check("GET", path, (), 200, size, data)
        yield Check("HEAD", path, (), 200, size, None)
        for text, start, end in ranges(size):
            part = data[start:end]
            yield Check("GET", path, (("Range", text),), 206, len(part), part)
        unsatisfiable = (("Range", f"bytes={size}-"),)
        if size > 0:
            yield Check("GET", path, unsatisfiable, 416, None, None)
    yield Check("GET", "/no-such-file.bin", (), 404, None, None)


def ranges(size: int) -> Iterator[tuple[str, int, int]]:
    """Range headers for a file of `size` bytes with the slice each one means."""
    if size == 0:
        return
    yield "bytes=0-0", 0, 1
    yield "bytes=-1", size - 1, size
    yield "bytes=0-", 0, size
    if size > 4096:
        yield "bytes=4095-4096", 4095, 4097
        yield f"bytes={size // 3}-{size // 2}", size // 3, size // 2 + 1


def verify_server(label: str, host: str, port: int, root: Path) -> Verification:
    """Runs all checks against the server on `host`:`port`, on as few connections as it allows."""
    digest = hashlib.sha256()
    failures: list[str] = []
    nr = 0
    connection = http.client.HTTPConnection(host, port, timeout=_TIMEOUT_S)
    try:
        for check in checks(root):
            nr += 1
            trouble, body = _perform(connection, check)
            digest.update(body)
            if trouble is None and check.status < 400 and connection.sock is None:
                trouble = "the connection was not kept alive"
            if trouble is not None:
                failures.append(f"{check.title}: {trouble}")
                connection.close()
            if len(failures) >= 5:
                failures.append("further checks left out")
                break
    finally:
        connection.close()
    return Verification(label, nr, tuple(failures), digest.hexdigest())


def _perform(connection: http.client.HTTPConnection, check: Check) -> tuple[str | None, bytes]:
    """What is wrong with the answer (None: nothing), and its body."""
    try:
        connection.request(check.method, check.path, headers=dict(check.headers))
        response = connection.getresponse()
        body = response.read()
    except (OSError, http.client.HTTPException) as error:
        return f"{type(error).__name__}: {error}", b""
    if response.status != check.status:
        return f"status {response.status}, expected {check.status}", b""
    length = response.getheader("Content-Length")
    if check.length is not None and length != str(check.length):
        return f"Content-Length {length}, expected {check.length}", b""
    if check.body is not None and body != check.body:
        return _difference(body, check.body), b""
    return None, body if check.status < 400 else b""


def _difference(got: bytes, wanted: bytes) -> str:
    """Where two bodies part."""
    if len(got) != len(wanted):
        return f"{len(got)} body bytes, expected {len(wanted)}"
    at = next(at for at, (a, b) in enumerate(zip(got, wanted, strict=True)) if a != b)
    return f"body differs from the file at byte {at}"
