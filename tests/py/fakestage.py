"""A stage whose servers and clients only count, on a clock that passes only when told."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from iolab.executor import ProcessError
from iolab.load import LoadSession
from iolab.model import Role, Server, Workload
from iolab.servers import RunningServer


class FakeClock:
    """Time that passes only when somebody makes it."""

    def __init__(self) -> None:
        self.now_ns = 0

    def monotonic_ns(self) -> int:
        return self.now_ns

    def unix_ns(self) -> int:
        return self.now_ns

    def cpu_ns(self) -> int:
        """A tenth of the time that passes."""
        return self.now_ns // 10

    def sleep(self, seconds: float) -> None:
        self.now_ns += int(seconds * 1e9)


class FakeServer:
    host, port, cpu_pids, cpu_usage = "127.0.0.1", 1, (1,), None
    upstream: tuple[str, int] | None = None
    resident_pid: int | None = 1

    def __init__(self) -> None:
        self.total = {"requests": 0, "body_bytes": 0, "syscalls": {"send": 0}}
        self.counts = True
        self.death: str | None = None
        self.stopped = False
        self.peaks_begun = 0
        self.cpu_ns: int | None = 0

    def counters(self) -> dict[str, Any] | None:
        if not self.counts:
            return None
        return {**self.total, "syscalls": dict(self.total["syscalls"])}  # type: ignore[call-overload]

    @staticmethod
    def cpu_clock(server: RunningServer) -> int | None:
        assert isinstance(server, FakeServer)
        return server.cpu_ns

    def new_peaks(self) -> None:
        self.peaks_begun += 1

    def memory(self) -> dict[str, Any]:
        return {"resident_peak_bytes": 4096, "group_peak_bytes": None}

    def failure(self) -> str | None:
        return self.death

    def stop(self) -> None:
        self.stopped = True


class FakeSession:
    def __init__(self, stage: FakeStage, server: FakeServer, workloads: Sequence[Workload]) -> None:
        self.stage, self.server, self.workloads = stage, server, tuple(workloads)
        self.workload = workloads[0]
        self.closed = False

    @property
    def pids(self) -> tuple[int, ...]:
        return (4,)

    def slice(self, workload: Workload, warmup_ms: int, duration_ms: int) -> dict[str, Any]:
        assert workload in self.workloads
        self.workload = workload
        self.stage.clock.now_ns += (warmup_ms + duration_ms) * 1_000_000
        nr = 10
        size = self.workload.size_bytes
        self.server.total["requests"] += nr  # type: ignore[operator]
        self.server.total["body_bytes"] += nr * size  # type: ignore[operator]
        moved = {"requests": nr, "bytes": nr * size, "body_bytes": nr * size}
        document = {
            "schema_version": 1,
            "tool": "fake",
            "window": {"start_ns": 0, "ns": 10**9, **moved},
            "total": {"ns": 10**9, **moved},
            "errors": {"timeout": 0},
            "non_2xx": 0,
            "cpu": {"client_ns": 1, "server_ns": 1, "client_share": 0.1},
        }
        self.stage.tamper(self, document)
        return document

    def close(self) -> None:
        self.closed = True


class FakeStage:
    """Servers and clients that only count."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.servers: dict[str, FakeServer] = {}
        self.sessions: list[FakeSession] = []
        self.broken: dict[str, str] = {}
        self.limits: set[int | None] = set()
        self.started = 0
        self.tamper: Callable[[FakeSession, dict[str, Any]], None] = lambda session, document: None

    def start_server(
        self, server: Server, role: Role, memory_limit_bytes: int | None = None
    ) -> RunningServer:
        self.started += 1
        self.limits.add(memory_limit_bytes)
        if server.label in self.broken:
            raise ProcessError(self.broken[server.label])
        self.servers[server.label] = FakeServer()
        return self.servers[server.label]

    def open_load(
        self, server: RunningServer, workloads: Sequence[Workload], seed: int
    ) -> LoadSession:
        assert isinstance(server, FakeServer)
        session = FakeSession(self, server, workloads)
        self.sessions.append(session)
        return session

    def label(self, session: FakeSession) -> str:
        return next(name for name, server in self.servers.items() if server is session.server)
