"""Drives a plan: all servers up, blocks of paired slices, raw samples to the store.

Everything that a run needs from the world comes through `Stage` (servers and clients) and `Clock`,
so that the loop is tested without starting a process.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import Any, Protocol

from iolab import kernelstat, overhead, stats
from iolab.errors import IolabError
from iolab.executor import ProcessError
from iolab.kernelstat import Observer
from iolab.load import LoadSession, UnsupportedError
from iolab.model import Cell, Plan, Role, Sample, Server, Status, Workload, block_order
from iolab.overhead import Overhead
from iolab.servers import RunningServer, counter_delta
from iolab.store import SampleWriter
from iolab.units import format_duration

# 0.5, 1, 2, 4, then 5 ms each: about 100 ms in all, and mostly the first is enough.
_SETTLE_S = (0.0005, 0.001, 0.002, 0.004, *[0.005] * 19)
# Counters that say how much there is now, not how much there was: their differences mean nothing.
_GAUGES = ("connections", "pipes", "pipe_bytes", "zc_inflight_bytes")


class Clock(Protocol):
    """Time, as tests may fake it."""

    def monotonic_ns(self) -> int:
        """Nanoseconds from an arbitrary start, never backwards."""

    def unix_ns(self) -> int:
        """Nanoseconds since 1970."""

    def cpu_ns(self) -> int:
        """CPU time that this process has used, all its threads, in nanoseconds."""

    def sleep(self, seconds: float) -> None:
        """Waits."""


class HostClock:
    """The clock of this host."""

    def monotonic_ns(self) -> int:
        """See Clock."""
        return time.monotonic_ns()

    def unix_ns(self) -> int:
        """See Clock."""
        return time.time_ns()

    def cpu_ns(self) -> int:
        """See Clock."""
        return time.process_time_ns()

    def sleep(self, seconds: float) -> None:
        """See Clock."""
        time.sleep(seconds)


class Stage(Protocol):
    """Brings up servers and clients."""

    def start_server(
        self, server: Server, role: Role, memory_limit_bytes: int | None = None
    ) -> RunningServer:
        """A running server; ProcessError when it does not come up."""

    def open_load(
        self, server: RunningServer, workloads: Sequence[Workload], seed: int
    ) -> LoadSession:
        """Connected clients for workloads that differ in size; ProcessError without connections.

        UnsupportedError, a ProcessError, when the cells cannot be measured here at all.
        """


@dataclass(frozen=True)
class Tick:
    """Where a run stands, for the progress display."""

    block: int
    spent_s: float
    budget_s: float
    cell: str


@dataclass(frozen=True)
class Retired:
    """Why a cell is driven no more."""

    status: Status
    reason: str


@dataclass(frozen=True)
class Outcome:
    """How a run ended.

    `slice_wall_s` is the time inside slices (warm-up, window and drain), `measure_wall_s` that of
    the whole loop, both over all sessions of a resumed run; their quotient is its efficiency.
    `overhead` is what the harness cost beside and inside slices.
    """

    stop_reason: str
    blocks: int
    slices: int
    slice_wall_s: float
    measure_wall_s: float
    overhead: Overhead = field(default_factory=Overhead)

    @property
    def efficiency(self) -> float:
        """Share of the loop's time that was spent inside slices."""
        return self.slice_wall_s / self.measure_wall_s if self.measure_wall_s > 0 else 0.0


class Troupe:
    """The servers of a plan, all up together, by the names of `Plan.instance`.

    Those that did not start are in `failures`.
    """

    def __init__(self, plan: Plan, stage: Stage) -> None:
        """Starts every server of the plan that this machine can run."""
        self.servers: dict[str, RunningServer] = {}
        self.failures: dict[str, str] = {}
        self._stack = ExitStack()
        try:
            for name, server in {plan.instance(c): c.server for c in plan.cells}.items():
                if server.unsupported is None:
                    self._start(name, server, plan, stage)
        except BaseException:
            self._stack.close()
            raise

    def _start(self, name: str, server: Server, plan: Plan, stage: Stage) -> None:
        try:
            running = stage.start_server(server, plan.role, plan.memory_limit_bytes)
        except ProcessError as error:
            self.failures[name] = str(error)
            return
        self._stack.callback(running.stop)
        self.servers[name] = running

    def __enter__(self) -> Troupe:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stack.close()


def with_running_baseline(plan: Plan, troupe: Troupe) -> Plan:
    """`plan`, its baseline replaced by the first server that runs everywhere when it does not.

    IolabError when nothing runs. Builds are compared with one build and profiles with one profile,
    which nothing replaces.
    """
    if plan.baseline_build is not None or plan.baseline_profile is not None:
        return plan
    running = [
        cell
        for cell in plan.cells
        if plan.instance(cell) in troupe.servers and not cell.server.twin
    ]
    places = Counter(cell.server.label for cell in running)
    wanted = {(cell.workload, cell.condition) for cell in plan.cells}
    everywhere = [label for label, nr in places.items() if nr == len(wanted)]
    if plan.baseline in everywhere:
        return plan
    base = [plan.instance(cell) for cell in plan.cells if cell.server.label == plan.baseline]
    reasons = [troupe.failures[name] for name in base if name in troupe.failures]
    reason = reasons[0] if reasons else "it cannot run here"
    if not everywhere:
        raise IolabError(f"no server runs that could be the baseline; {plan.baseline}: {reason}")
    note = f"baseline is {everywhere[0]} instead of {plan.baseline} ({reason})"
    return replace(plan, baseline=everywhere[0], left_out=(*plan.left_out, note))


class Runner:
    """Measures a plan with a troupe that stands. Use as a context manager: it closes the clients.

    `retired` names the cells not to be driven (failed to start, failed verification, or, in a
    resumed run, out since then). `observer` reads the kernel's counters around each slice.
    """

    def __init__(
        self,
        plan: Plan,
        stage: Stage,
        troupe: Troupe,
        retired: Mapping[str, Retired],
        clock: Clock | None = None,
        observer: Observer | None = None,
    ) -> None:
        self._plan = plan
        self._servers = troupe.servers
        self._clock = clock or HostClock()
        self._observer = observer
        self.progress: Callable[[Tick], None] = lambda tick: None
        self._retired = dict(retired)
        self._sessions: dict[str, LoadSession] = {}
        self._stack = ExitStack()
        self.samples: list[Sample] = []
        try:
            self._open_sessions(stage, troupe.failures)
        except BaseException:
            self._stack.close()
            raise

    def __enter__(self) -> Runner:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stack.close()

    @property
    def retired(self) -> Mapping[str, Retired]:
        """The cells that are driven no more, with status and reason."""
        return self._retired

    def _open_sessions(self, stage: Stage, failures: Mapping[str, str]) -> None:
        """One connected load process per session of the plan; they are idle while not driven."""
        for number, cell in enumerate(self._plan.cells):
            session_name = self._plan.session(cell)
            name = self._plan.instance(cell)
            if cell.server.unsupported is not None:
                self._retire(cell.id, Status.UNSUPPORTED, cell.server.unsupported)
            elif name in failures:
                self._retire(cell.id, Status.FAILED, failures[name])
            if cell.id in self._retired or session_name in self._sessions:
                continue
            sharing = [c for c in self._plan.cells if self._plan.session(c) == session_name]
            try:
                session = stage.open_load(
                    self._servers[name], [other.workload for other in sharing], number + 1
                )
            except UnsupportedError as error:
                for other in sharing:
                    self._retire(other.id, Status.UNSUPPORTED, str(error))
                continue
            except ProcessError as error:
                for other in sharing:
                    self._retire(other.id, Status.FAILED, self._blame(cell, str(error)))
                continue
            self._stack.callback(session.close)
            self._sessions[session_name] = session

    def measure(self, writer: SampleWriter, first_block: int = 0, spent_s: float = 0.0) -> Outcome:
        """Blocks until budget, precision or `max_blocks` end it; `spent_s` is already used up."""
        stats.preload()
        clock = self._clock
        started_ns = clock.monotonic_ns()
        block = first_block
        while (stop := self._stop_reason(block, first_block, started_ns, spent_s)) is None:
            block_started_ns = clock.monotonic_ns()
            driven = self._block(writer, block, block == first_block, started_ns, spent_s)
            wall_ns = clock.monotonic_ns() - block_started_ns
            writer.end_block(block, wall_ns=wall_ns, slices=driven, unix_ns=clock.unix_ns())
            block += 1
        measure_wall_s = spent_s + (clock.monotonic_ns() - started_ns) / 1e9
        return Outcome(
            stop_reason=stop,
            blocks=block,
            slices=sum(sample.wall_ns > 0 for sample in self.samples),
            slice_wall_s=sum(sample.wall_ns for sample in self.samples) / 1e9,
            measure_wall_s=measure_wall_s,
            overhead=overhead.read(self.samples, measure_wall_s),
        )

    def _stop_reason(
        self, block: int, first_block: int, started_ns: int, spent_s: float
    ) -> str | None:
        """Why to stop before this block, None to go on. `min_blocks` are measured in any case."""
        plan = self._plan
        if not any(self._driven(cell) for cell in plan.cells):
            return "no cell is left to measure" if block > first_block else None
        if block < plan.min_blocks:
            return None
        if block >= plan.max_blocks:
            return f"max_blocks ({plan.max_blocks}) reached"
        here_s = (self._clock.monotonic_ns() - started_ns) / 1e9
        done = block - first_block
        next_s = here_s / done if done else 0.0
        if plan.precision is not None:
            enough = math.log1p(plan.precision)
            if stats.widest_interval(plan, self.samples, enough) <= enough:
                return f"every interval is within +-{plan.precision:.1%}"
        if spent_s + here_s + next_s > plan.budget_s:
            return f"budget ({plan.budget_s:g} s) used up{self._missed(spent_s + here_s)}"
        return None

    def _missed(self, spent_s: float) -> str:
        """What a run that its budget ends lacks of the precision it was asked for."""
        wanted = self._plan.precision
        if wanted is None:
            return ""
        width = stats.widest_interval(self._plan, self.samples)
        text = f" before every interval was within +-{wanted:.1%}"
        if not math.isfinite(width):
            return f"{text}; too few blocks for one of {self._plan.confidence:.0%}"
        needed_s = spent_s * (width / math.log1p(wanted)) ** 2
        return (
            f"{text}; the widest is +-{math.expm1(width):.1%}, and about "
            f"{format_duration(needed_s)} would do"
        )

    def _driven(self, cell: Cell) -> bool:
        """A cell is driven while it and the baseline of its workload are fit."""
        if cell.id in self._retired:
            return False
        plan, reference = self._plan, self._plan.reference(cell)
        return all(
            other.id not in self._retired
            for other in plan.cells
            if other.workload == cell.workload and plan.label(other) == reference
        )

    def _block(
        self, writer: SampleWriter, block: int, first: bool, started_ns: int, spent_s: float
    ) -> int:
        """One slice of every cell that is still driven; returns how many."""
        if first:
            self._note_retired(writer, block)
        skip = frozenset(cell.id for cell in self._plan.cells if not self._driven(cell))
        order = block_order(self._plan, block, skip)
        for place, cell_id in enumerate(order.cells):
            cell = self._plan.cell(cell_id)
            here_s = (self._clock.monotonic_ns() - started_ns) / 1e9
            self.progress(Tick(block, spent_s + here_s, self._plan.budget_s, cell_id))
            sample = self._slice(cell, block, place)
            if sample.status is not Status.OK:
                self._retire(cell_id, sample.status, sample.reason or "")
            self._keep(writer, sample)
        return len(order.cells)

    def _note_retired(self, writer: SampleWriter, block: int) -> None:
        """One line for every cell that is out from the start, so that the store says why."""
        for cell_id, retired in self._retired.items():
            now = self._clock.unix_ns()
            self._keep(writer, Sample(block, -1, cell_id, retired.status, retired.reason, now, 0))

    def _slice(self, cell: Cell, block: int, place: int) -> Sample:
        """Drives one slice and judges it."""
        clock, server = self._clock, self._servers[self._plan.instance(cell)]
        started_unix_ns, started_ns = clock.unix_ns(), clock.monotonic_ns()
        load: dict[str, Any] | None = None
        delta: dict[str, Any] | None = None
        extra: dict[str, Any] = {"profile": cell.profile, "testbed": cell.testbed}
        wall_ns = 0
        try:
            server.new_peaks()
            before = server.counters()
            session = self._sessions[self._plan.session(cell)]
            begin = self._observe(server, session)
            started_ns, cpu_ns = clock.monotonic_ns(), clock.cpu_ns()
            load = session.slice(cell.workload, self._plan.warmup_ms, self._plan.slice_ms)
            extra[overhead.CPU_KEY] = clock.cpu_ns() - cpu_ns
            wall_ns = clock.monotonic_ns() - started_ns
            end = self._observe(server, session)
            if begin is not None and end is not None:
                extra["kernel"] = kernelstat.difference(begin, end)
            delta, after = self._settled_delta(server, before, load)
            extra |= self._memory(server, after)
            reason = stats.judge_slice(load, delta)
            status = Status.OK if reason is None else Status.INVALID
        except ProcessError as error:
            status = Status.FAILED
            reason = self._blame(cell, str(error))
        except (KeyError, TypeError) as error:
            status, reason = Status.FAILED, f"the load generator's document lacks {error}"
        return Sample(
            block, place, cell.id, status, reason, started_unix_ns, wall_ns, load, delta, extra
        )

    def _observe(self, server: RunningServer, session: LoadSession) -> kernelstat.Reading | None:
        """The kernel's counters, None without an observer."""
        if self._observer is None:
            return None
        return self._observer.read(server.cpu_pids, session.pids, server.resident_pid)

    def _settled_delta(
        self, server: RunningServer, before: dict[str, Any] | None, load: Mapping[str, Any]
    ) -> tuple[dict[str, Any] | None, dict[str, Any] | None]:
        """What the server counted over the slice, and what it stands at.

        It counts a response just after its last byte is handed over, which the client may see
        first: so a few milliseconds are granted until the counts agree.
        """
        key, wanted = stats.last_counted(load)
        after = server.counters()
        for wait_s in _SETTLE_S:
            delta = counter_delta(before, after)
            if delta is None or delta.get(key, 0) >= wanted:
                break
            self._clock.sleep(wait_s)
            after = server.counters()
        return counter_delta(before, after), after

    def _memory(self, server: RunningServer, after: Mapping[str, Any] | None) -> dict[str, Any]:
        """What a cell with a server of its own holds, to be stored with its slice."""
        if self._plan.role in ("file", "copy"):
            return {}
        gauges = {key: after[key] for key in _GAUGES if key in after} if after else {}
        return {"memory": {**server.memory(), **gauges}}

    def _blame(self, cell: Cell, reason: str) -> str:
        """The server's own end explains more than what the client saw of it."""
        return self._servers[self._plan.instance(cell)].failure() or reason

    def _retire(self, cell_id: str, status: Status, reason: str) -> None:
        self._retired.setdefault(cell_id, Retired(status, reason))

    def _keep(self, writer: SampleWriter, sample: Sample) -> None:
        writer.append(sample)
        self.samples.append(sample)
