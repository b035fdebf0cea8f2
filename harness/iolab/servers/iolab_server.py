"""Adapter of `iolab-server`: spec to command line, ready line, control socket."""

from __future__ import annotations

import contextlib
import json
import socket
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from iolab.describe import Describe, parse_describe
from iolab.executor import Executor, Process, ProcessError
from iolab.model import Server
from iolab.ports import format_address
from iolab.servers import Place
from iolab.servers.enclosure import Enclosure

_READY_TIMEOUT_S = 15.0
_CONTROL_TIMEOUT_S = 5.0


def describe(executor: Executor, binary: Path) -> Describe:
    """What the build can do on this kernel; ProcessError when the binary does not say."""
    done = executor.run([str(binary), "--describe"], timeout_s=30)
    if done.code != 0:
        raise ProcessError(
            f"{binary.name} --describe: exit code {done.code}: {done.stderr.strip()}"
        )
    return parse_describe(done.stdout)


class Control:
    """A connection to a control socket: one command line, one JSON line back."""

    def __init__(self, path: Path) -> None:
        """Connects; OSError when nobody listens."""
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.settimeout(_CONTROL_TIMEOUT_S)
        try:
            self._socket.connect(str(path))
        except OSError:
            self._socket.close()
            raise
        self._reader = self._socket.makefile("rb")

    def ask(self, command: str) -> dict[str, Any]:
        """The answer to `command`; ProcessError when there is none or it reports an error."""
        try:
            self._socket.sendall(command.encode() + b"\n")
            line = self._reader.readline()
            # Names in it come from clients and need not be UTF-8.
            document = json.loads(line.decode(errors="replace")) if line else None
        except (OSError, ValueError) as error:
            raise ProcessError(f"control socket: {command}: {error}") from error
        if not line:
            raise ProcessError(f"control socket: {command}: closed by the server")
        if not isinstance(document, dict) or "error" in document:
            raise ProcessError(f"control socket: {command}: {document}")
        return document

    def close(self) -> None:
        """Ends the connection."""
        self._reader.close()
        self._socket.close()


class IolabServer:
    """A running engine; implements RunningServer."""

    def __init__(
        self,
        process: Process,
        address: tuple[str, int],
        control: Control,
        upstream: tuple[str, int] | None = None,
        enclosure: Enclosure | None = None,
    ) -> None:
        self._process = process
        self._control = control
        self._enclosure = enclosure or Enclosure()
        self.host, self.port = address
        self.upstream = upstream

    @classmethod
    def start(
        cls, executor: Executor, binary: Path, server: Server, role: str, place: Place
    ) -> IolabServer:
        """Starts `server` and waits until it accepts; ProcessError with its last words if not.

        The control socket gets a directory of its own with a short name: socket paths end at
        107 bytes.
        """
        with _control_directory() as directory, contextlib.ExitStack() as undo:
            control_path = directory / "control"
            argv = arguments(binary, server, role, place, control_path)
            enclosure = Enclosure.make(place.memory_limit_bytes, account_cpu=False)
            undo.callback(enclosure.remove)
            process = executor.start(place.testbed.on_server(argv), bounds=enclosure.bounds)
            undo.callback(process.stop)
            try:
                address = parse_ready(process.read_line(_READY_TIMEOUT_S))
                control = Control(control_path)
            except (OSError, ProcessError) as error:
                reason = f"{error}{enclosure.complaint()}"
                raise ProcessError(f"{server.label}: did not become ready: {reason}") from error
            undo.pop_all()
        return cls(process, address, control, place.upstream, enclosure)

    @property
    def cpu_pids(self) -> tuple[int, ...]:
        """See RunningServer: all threads are in one process."""
        return (self._process.pid,)

    @property
    def resident_pid(self) -> int | None:
        """See RunningServer."""
        return self._process.pid

    @property
    def cpu_usage(self) -> Path | None:
        """See RunningServer."""
        return None

    def counters(self) -> dict[str, Any] | None:
        """See RunningServer."""
        total = self._control.ask("counters").get("total")
        return total if isinstance(total, dict) else None

    def new_peaks(self) -> None:
        """See RunningServer."""
        self._control.ask("new-peaks")

    def status(self) -> dict[str, Any]:
        """The transfers of now, as role relay's /status; ProcessError without an answer."""
        return self._control.ask("status")

    def failure(self) -> str | None:
        """See RunningServer."""
        if self._process.alive():
            return None
        words = self._process.last_words() or "none"
        return f"the server died{self._enclosure.complaint()}; its last words: {words}"

    def memory(self) -> dict[str, Any]:
        """See RunningServer."""
        return self._enclosure.peaks(self.cpu_pids)

    def stop(self) -> None:
        """See RunningServer."""
        self._control.close()
        self._process.stop()
        self._enclosure.remove()


def arguments(binary: Path, server: Server, role: str, place: Place, control: Path) -> list[str]:
    """The command line of `server` on the CPUs of `place`, one worker a CPU."""
    upstream = ["--upstream", format_address(place.upstream)] if place.upstream else []
    handicap = ["--handicap", str(server.handicap_percent)] if server.handicap_percent else []
    return [
        str(binary),
        "--engine", server.argument,
        "--role", role,
        "--root", str(place.root),
        "--listen", f"{place.testbed.server_host}:0",
        "--workers", str(len(place.cpus)),
        "--cpus", _list(place.cpus),
        "--control", str(control),
        *upstream,
        *handicap,
    ]  # fmt: skip


def parse_ready(line: str) -> tuple[str, int]:
    """Host and port of the line `ready HOST:PORT`; ProcessError when it is none."""
    word, _, address = line.partition(" ")
    host, _, port = address.rpartition(":")
    if word != "ready" or not host or not port.isdigit():
        raise ProcessError(f"expected 'ready HOST:PORT', got {line!r}")
    return host.strip("[]"), int(port)


@contextlib.contextmanager
def _control_directory() -> Iterator[Path]:
    """A directory for the socket; once connected, the name in the file system is not needed."""
    with tempfile.TemporaryDirectory(prefix="iolab-") as name:
        yield Path(name)


def _list(numbers: Sequence[int]) -> str:
    return ",".join(str(number) for number in numbers)
