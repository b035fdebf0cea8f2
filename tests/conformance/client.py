"""A strict HTTP/1.x client on raw sockets, and the server process under test.

Every wait has a deadline, so a server that hangs is a failed test and never a hanging suite.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import re
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

DEADLINE_S = 20.0

# Files f0, f1, ... of the tree under test: around pages, receive buffers and pipe sizes.
SIZES = [0, 1, 511, 1024, 4095, 4096, 4097, 16384, 65535, 65537, 1 << 20, 5 * (1 << 20) + 3]


class ProtocolError(AssertionError):
    """The server sent what no HTTP/1.1 server may send, or closed too early."""


@dataclasses.dataclass(frozen=True)
class Response:
    """One response: status, fields with lower-case names, whole body."""

    status: int
    fields: dict[str, str]
    body: bytes
    version: str


class Connection:
    """One TCP connection with a reader that keeps what belongs to the next response."""

    def __init__(self, address: tuple[str, int], rcvbuf: int | None = None) -> None:
        self.sock = socket.socket()
        self.sock.settimeout(DEADLINE_S)
        if rcvbuf:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, rcvbuf)
        self.sock.connect(address)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.buffer = b""
        self.received = 0

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *exc: object) -> None:
        self.sock.close()

    def send(self, data: bytes) -> None:
        """Sends all of data; an error of the peer shows when reading."""
        with contextlib.suppress(ConnectionError):
            self.sock.sendall(data)

    def fill(self) -> bool:
        """Receives more; False at end of file or reset."""
        try:
            data = self.sock.recv(1 << 18)
        except ConnectionError:
            return False
        self.buffer += data
        self.received += len(data)
        return bool(data)

    def read_head(self) -> tuple[int, dict[str, str], str]:
        """Status, fields and version of the next response. Raises ProtocolError at end of file."""
        while b"\r\n\r\n" not in self.buffer:
            if not self.fill():
                raise ProtocolError(f"closed inside a head: {self.buffer[:200]!r}")
        head, self.buffer = self.buffer.split(b"\r\n\r\n", 1)
        lines = head.decode("latin-1").split("\r\n")
        match = re.fullmatch(r"(HTTP/1\.1) (\d{3}) (.*)", lines[0])
        if not match:
            raise ProtocolError(f"bad status line {lines[0]!r}")
        fields: dict[str, str] = {}
        for line in lines[1:]:
            name, sep, value = line.partition(":")
            if not sep or not re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", name):
                raise ProtocolError(f"bad field line {line!r}")
            if name.lower() in fields:
                raise ProtocolError(f"field {name} came twice")
            fields[name.lower()] = value.strip()
        return int(match[2]), fields, match[1]

    def read_exactly(self, count: int) -> bytes:
        """Count bytes of body. Raises ProtocolError when the connection ends before."""
        parts = [self.buffer[:count]]
        have = len(parts[0])
        self.buffer = self.buffer[count:]
        while have < count:
            if not self.fill():
                raise ProtocolError(f"cut: {have} of {count} bytes")
            parts.append(self.buffer[: count - have])
            self.buffer = self.buffer[count - have :]
            have += len(parts[-1])
        return b"".join(parts)

    def response(self, head_only: bool = False) -> Response:
        """The next response; head_only for the answer to HEAD."""
        status, fields, version = self.read_head()
        body = b""
        if not head_only and status not in (204, 304):
            body = self.read_exactly(int(fields["content-length"]))
        return Response(status, fields, body, version)

    def request(self, target: str = "/", method: str = "GET", **fields: str) -> Response:
        """One request of HTTP/1.1 and its response; field names with _ for -."""
        self.send(make_request(target, method, **fields))
        return self.response(head_only=method == "HEAD")

    def at_end(self) -> bool:
        """True when the server closes without another byte."""
        while self.fill():
            pass
        return not self.buffer


def make_request(
    target: str = "/", method: str = "GET", version: str = "1.1", **fields: str
) -> bytes:
    """Bytes of a request with Host (unless host is given as '')."""
    fields.setdefault("Host", "iolab.test")
    lines = [f"{method} {target} HTTP/{version}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in fields.items() if value]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


@dataclasses.dataclass
class Sanitizer:
    """Whether the binary under test was built with a sanitizer."""

    active: bool

    def scale(self, seconds: float) -> float:
        """A deadline for this build."""
        return seconds * (5 if self.active else 1)


def sanitizer_env() -> dict[str, str]:
    """An environment in which whatever a sanitizer finds ends the server with status 99."""
    return dict(
        os.environ,
        ASAN_OPTIONS="detect_leaks=1:abort_on_error=0:exitcode=99",
        UBSAN_OPTIONS="print_stacktrace=1:halt_on_error=1:exitcode=99",
        TSAN_OPTIONS="halt_on_error=1:exitcode=99",
    )


class Server:
    """A running iolab-server; stop() checks exit status and that no sanitizer spoke."""

    def __init__(
        self, binary: Path, spec: str, root: Path | None, *args: str, role: str = "file"
    ) -> None:
        self.spec = spec
        self.dir = tempfile.TemporaryDirectory(prefix="iolab-conf-")
        self.control = str(Path(self.dir.name) / "control")
        self.stderr_path = Path(self.dir.name) / "stderr"
        self.argv = [str(binary), "--engine", spec, "--role", role]
        self.argv += ["--root", str(root)] if root else []
        self.argv += ["--listen", "127.0.0.1:0", "--control", self.control, *args]
        if not any(arg in ("--cpus", "--workers") for arg in args):
            self.argv += ["--workers", "1"]
        with self.stderr_path.open("wb") as err:
            self.proc = subprocess.Popen(
                self.argv,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=err,
                env=sanitizer_env(),
            )
        assert self.proc.stdout is not None
        line = self.proc.stdout.readline().decode()
        if not line.startswith("ready "):
            self.proc.wait(DEADLINE_S)
            raise AssertionError(f"not ready: {line!r} {self.describe()}")
        host, port = line.split()[1].rsplit(":", 1)
        self.address = (host, int(port))

    def describe(self) -> str:
        """Command line and the end of standard error, for messages."""
        text = self.stderr_path.read_text(errors="replace")[-4000:]
        return f"argv={' '.join(self.argv)}\nstatus={self.proc.poll()}\nstderr:\n{text}"

    def connect(self, rcvbuf: int | None = None) -> Connection:
        """A new connection."""
        return Connection(self.address, rcvbuf)

    def get(self, target: str, **fields: str) -> Response:
        """One GET on a connection of its own."""
        with self.connect() as conn:
            return conn.request(target, **fields)

    def ask(self, line: str) -> str:
        """One command on the control socket; its answer up to the end of the document."""
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(DEADLINE_S)
            sock.connect(self.control)
            sock.sendall(line.encode() + b"\n")
            text = b""
            while not text.endswith(b"# EOF\n") and not (text[:1] == b"{" and text[-1:] == b"\n"):
                data = sock.recv(1 << 16)
                if not data:
                    break
                text += data
        return text.decode()

    def counters(self) -> dict[str, Any]:
        """The counters document."""
        document: dict[str, Any] = json.loads(self.ask("counters"))
        return document

    def total(self, name: str) -> int:
        """One counter, summed over the workers."""
        return int(self.counters()["total"][name])

    def until(self, name: str, value: int) -> None:
        """Waits until a counter has a value: it is written just after the byte it counts."""
        end = time.monotonic() + DEADLINE_S
        while self.total(name) != value:
            assert time.monotonic() < end, (name, self.total(name), value, self.describe())
            time.sleep(0.01)

    def resident_bytes(self) -> int:
        """VmRSS of the process."""
        status = Path(f"/proc/{self.proc.pid}/status").read_text()
        match = re.search(r"VmRSS:\s+(\d+) kB", status)
        assert match
        return int(match[1]) * 1024

    def nr_descriptors(self) -> int:
        """Open descriptors of the process."""
        return sum(1 for _ in Path(f"/proc/{self.proc.pid}/fd").iterdir())

    def signal(self, number: int = signal.SIGTERM) -> None:
        """Sends a signal to the server."""
        self.proc.send_signal(number)

    def stop(self) -> None:
        """Drains it. Raises AssertionError when it does not end with 0, or said something."""
        if self.proc.poll() is None:
            self.signal()
        try:
            status = self.proc.wait(DEADLINE_S * 3)
        except subprocess.TimeoutExpired:
            self.proc.kill()
            self.proc.wait()
            raise AssertionError(f"did not end: {self.describe()}") from None
        finally:
            assert self.proc.stdout is not None
            self.proc.stdout.close()
        text = self.stderr_path.read_text(errors="replace")
        message = self.describe()
        self.dir.cleanup()
        assert status == 0, message
        assert "Sanitizer" not in text, message
        assert "runtime error" not in text, message


@contextlib.contextmanager
def running(
    binary: Path, spec: str, root: Path | None, *args: str, role: str = "file"
) -> Iterator[Server]:
    """A server for the block, stopped and checked at its end."""
    server = Server(binary, spec, root, *args, role=role)
    try:
        yield server
    finally:
        server.stop()


def make_limited(binary: Path, script: Path, memlock_bytes: int) -> Path:
    """Writes a script that is the server as a process which may lock so much memory. Needs root."""
    script.write_text(
        f"#!/bin/sh\nexec prlimit --memlock={memlock_bytes}:{memlock_bytes} "
        f'setpriv --inh-caps=-ipc_lock --bounding-set=-ipc_lock {binary} "$@"\n'
    )
    script.chmod(0o700)
    return script
