"""Looks at a server from outside: its memory and descriptors in /proc, its counters.

Resident memory is the sum of /proc/PID/smaps_rollup (Linux 4.14), which walks the page tables;
VmRSS of /proc/PID/status stands in where that is missing, and may lag behind by what each CPU has
not yet added up. Either counts pages of the program and its libraries too, and neither counts
socket buffers or pipes, which are the kernel's.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

from iolab.errors import IolabError
from iolab.executor import ProcessError
from iolab.procfs import kib_line
from iolab.relaybench.judge import Reading

INTERVAL_S = 0.02
_STOP_TIMEOUT_S = 10.0


class Server(Protocol):
    """What of a running relay is looked at."""

    @property
    def cpu_pids(self) -> tuple[int, ...]:
        """The one process."""

    def counters(self) -> dict[str, Any] | None:
        """Total counters."""

    def status(self) -> dict[str, Any]:
        """The transfers of now."""


class Probe:
    """Reads one server. Not for two threads at once: they would share its control socket."""

    def __init__(self, server: Server, proc: Path = Path("/proc")) -> None:
        self._server = server
        [pid] = server.cpu_pids
        self._directory = proc / str(pid)

    def resident_bytes(self) -> int:
        """Resident memory now; ProcessError when the process is gone."""
        try:
            return _bytes_of(self._directory / "smaps_rollup", "Rss:")
        except OSError:
            return self._status("VmRSS:")

    def descriptors(self) -> int:
        """Open descriptors."""
        try:
            return sum(1 for _ in (self._directory / "fd").iterdir())
        except OSError as error:
            raise ProcessError(f"{self._directory}/fd: {error.strerror}") from error

    def reset_peak(self) -> bool:
        """Has the kernel's high-water mark begin anew (Linux 4.0); False when it refuses."""
        try:
            (self._directory / "clear_refs").write_text("5\n")
        except OSError:
            return False
        return True

    def peak_bytes(self) -> int:
        """The high-water mark."""
        return self._status("VmHWM:")

    def counters(self) -> dict[str, Any]:
        """Total counters; ProcessError when the server does not give them."""
        found = self._server.counters()
        if found is None:
            raise ProcessError("control socket: counters without a total")
        return found

    def transfers(self) -> int:
        """Transfers and waiting parties that the server lists."""
        listed = self._server.status().get("transfers")
        if not isinstance(listed, list):
            raise ProcessError("control socket: status without transfers")
        return len(listed)

    def count(self) -> dict[str, int]:
        """All that could be left over. Memory first: the answers to the rest cost some."""
        resident = self.resident_bytes()
        counters = self.counters()
        return {
            "resident_bytes": resident,
            "descriptors": self.descriptors(),
            "connections": int(counters["connections"]),
            "pipes": int(counters["pipes"]),
            "transfers": self.transfers(),
        }

    def reading(self, t_ns: int) -> Reading:
        """One sample. Memory first: of a look that saw no byte, none had moved before it."""
        resident = self.resident_bytes()
        counters = self.counters()
        return Reading(
            t_ns,
            resident,
            int(counters["relayed_bytes"]),
            int(counters["pipes"]),
            int(counters["pipe_bytes"]),
        )

    def _status(self, key: str) -> int:
        try:
            return _bytes_of(self._directory / "status", key)
        except OSError as error:
            raise ProcessError(f"{self._directory}/status: {error.strerror}") from error


def _bytes_of(path: Path, key: str) -> int:
    found = kib_line(path, key)
    if found is None:
        raise ProcessError(f"{path}: no line {key}")
    return found


def settled(condition: Callable[[], bool], timeout_s: float, pause_s: float = 0.02) -> bool:
    """Waits for a condition; False when the time is over first."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() >= deadline:
            return False
        time.sleep(pause_s)
    return True


class Sampler:
    """Takes readings in a thread of its own while its context lasts."""

    def __init__(self, probe: Probe, interval_s: float = INTERVAL_S) -> None:
        self._probe = probe
        self._interval_s = interval_s
        self._stop = threading.Event()
        self._first = threading.Event()
        self._thread = threading.Thread(target=self._work, name="sampler", daemon=True)
        self._error: IolabError | None = None
        self._readings: list[Reading] = []
        self._start_ns = 0

    @property
    def readings(self) -> list[Reading]:
        """What was read, after the context; ProcessError when reading failed."""
        if self._error is not None:
            raise self._error
        return self._readings

    def __enter__(self) -> Sampler:
        """Returns after the first reading."""
        self._start_ns = time.monotonic_ns()
        self._thread.start()
        self._first.wait(_STOP_TIMEOUT_S)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._thread.join(_STOP_TIMEOUT_S)

    def _work(self) -> None:
        due = time.monotonic()
        while self._error is None:
            try:
                t_ns = time.monotonic_ns() - self._start_ns
                self._readings.append(self._probe.reading(t_ns))
            except IolabError as error:
                self._error = error
            self._first.set()
            due = max(due + self._interval_s, time.monotonic())
            if self._stop.wait(due - time.monotonic()):
                return
