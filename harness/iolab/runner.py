"""Drives a plan: all servers up, blocks of paired slices, raw samples to the store.

Everything that a run needs from the world comes through `Stage` (servers and clients) and `Clock`,
so that the loop is tested without starting a process.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from types import TracebackType
from typing import Any, Protocol

from iolab import bystanders, control, kernelstat, overhead, portuse, slicecheck, stats
from iolab.errors import IolabError
from iolab.executor import ProcessError
from iolab.kernelstat import Observer
from iolab.load import LoadSession, UnsupportedError
from iolab.model import NO_PROFILE, Cell, Plan, Sample, Status, block_order
from iolab.overhead import Overhead
from iolab.servers import RunningServer, counter_delta
from iolab.settling import Settled, settle
from iolab.stopping import Rule, Stop
from iolab.store import SampleWriter
from iolab.surroundings import in_phases, phases
from iolab.troupe import Troupe

# 0.5, 1, 2, 4, then 5 ms each: about 100 ms in all, and mostly the first is enough.
_SETTLE_S = (0.0005, 0.001, 0.002, 0.004, *[0.005] * 19)
_DRIFTS = 3
"""Blocks in a row that drift may spoil: then somebody else sets the same knobs."""
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


def arrival_seed(seed: int, number: int) -> int:
    """The seed of the arrivals of session `number`: of the plan's seed, and never 0."""
    return random.Random(f"arrivals:{seed}:{number}").randrange(1, 1 << 31)


class Runner:
    """Measures a plan with a troupe that stands. Use as a context manager: it closes the clients.

    `retired` names the cells not to be driven (failed to start, failed verification, or, in a
    resumed run, out since then). `observer` reads the kernel's counters around each slice, and
    `cpu_clock` the CPU time of every server that is not driven in it.
    """

    def __init__(
        self,
        plan: Plan,
        troupe: Troupe,
        retired: Mapping[str, Retired],
        clock: Clock | None = None,
        observer: Observer | None = None,
        cpu_clock: Callable[[RunningServer], int | None] = bystanders.server_cpu_ns,
    ) -> None:
        self._plan = plan
        self._cpu_clock = cpu_clock
        self._servers = troupe.servers
        self._around = troupe.around
        self._drifted = 0
        self._tuned = any(cell.profile != NO_PROFILE for cell in plan.cells)
        self._profiles_ns = 0
        self._clock = clock or HostClock()
        self._observer = observer
        self.progress: Callable[[Tick], None] = lambda tick: None
        self._retired = dict(retired)
        self._sessions: dict[str, LoadSession] = {}
        self._stack = ExitStack()
        self.samples: list[Sample] = []
        try:
            self._open_sessions(troupe.failures)
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

    def _open_sessions(self, failures: Mapping[str, str]) -> None:
        """One connected load process per session of the plan; they are idle while not driven."""
        around = self._around
        for number, cell in in_phases(self._plan, around.phase):
            session_name = self._plan.session(cell)
            name = self._plan.instance(cell)
            lacking = cell.server.unsupported or around.unsupported.get(cell.condition)
            if lacking is not None:
                self._retire(cell.id, Status.UNSUPPORTED, lacking)
            elif name in failures:
                self._retire(cell.id, Status.FAILED, failures[name])
            if cell.id in self._retired or session_name in self._sessions:
                continue
            sharing = [c for c in self._plan.cells if self._plan.session(c) == session_name]
            around.enter(around.phase(cell))
            try:
                session = around.stage(cell).open_load(
                    self._servers[name],
                    [other.workload for other in sharing],
                    arrival_seed(self._plan.seed, number),
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
            facts = self._block(writer, block, block == first_block, started_ns, spent_s)
            wall_ns = clock.monotonic_ns() - block_started_ns
            writer.end_block(block, wall_ns=wall_ns, unix_ns=clock.unix_ns(), **facts)
            self._mind_drift(block, facts.get("drift"))
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
        if plan.precision is not None and block > first_block and not self._compares():
            return "no comparison is left whose precision could be waited for"
        here_s = (self._clock.monotonic_ns() - started_ns) / 1e9
        done = block - first_block
        next_s = here_s / done if done else 0.0
        rule = Rule(plan.min_blocks, plan.max_blocks, plan.precision, plan.budget_s)
        match rule.stop(block, spent_s + here_s, next_s, self._known):
            case Stop.BLOCKS:
                return f"max_blocks ({plan.max_blocks}) reached"
            case Stop.PRECISION:
                return f"every interval is within +-{plan.precision:.1%}"
            case Stop.BUDGET:
                pair = control.widest_pair(plan, self.samples) if plan.precision else None
                missed = stats.missed(plan, self.samples, block, spent_s + here_s, pair)
                return f"budget ({plan.budget_s:g} s) used up{missed}"
            case None:
                return None

    def _known(self, enough: float) -> bool:
        return control.known(self._plan, self.samples, enough)

    def _compares(self) -> bool:
        """Whether more blocks can still tell something: a comparison is left, or an open loop.

        So they can in a plan that compares nothing from the start.
        """
        pairs = stats.against_reference(self._plan)
        rest = [cell for cell in self._plan.cells if cell.workload.open_loop]
        asked = [cell for _, cell in pairs] + rest
        return not pairs or any(self._driven(cell) for cell in asked)

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
    ) -> dict[str, Any]:
        """One slice of every cell that is still driven, phase by phase; facts for its end."""
        if first:
            self._note_retired(writer, block)
        skip = frozenset(cell.id for cell in self._plan.cells if not self._driven(cell))
        order = block_order(self._plan, block, skip)
        place, settled, drift = 0, list[Settled](), None
        for phase, cell_ids in phases(self._plan, order, self._around.phase):
            with self._about_profiles():
                if self._around.enter(phase):
                    settled.append(self._settle(phase, cell_ids))
                drift = self._around.drift()
            for cell_id in cell_ids if drift is None else ():
                here_s = (self._clock.monotonic_ns() - started_ns) / 1e9
                self.progress(Tick(block, spent_s + here_s, self._plan.budget_s, cell_id))
                self._cell(writer, cell_id, block, place)
                place += 1
            with self._about_profiles():
                drift = drift or self._around.drift()
            if drift is not None:
                break
        facts: dict[str, Any] = {"slices": place}
        if settled:
            facts["settled"] = [asdict(one) for one in settled]
        return facts if drift is None else {**facts, "drift": drift}

    @contextmanager
    def _about_profiles(self) -> Iterator[None]:
        """Counts what it encloses as time that profiles take; the next slice stores it."""
        started_ns = self._clock.monotonic_ns()
        yield
        self._profiles_ns += self._clock.monotonic_ns() - started_ns

    def _cell(self, writer: SampleWriter, cell_id: str, block: int, place: int) -> None:
        sample = self._slice(self._plan.cell(cell_id), block, place)
        if sample.status is not Status.OK:
            self._retire(cell_id, sample.status, sample.reason or "")
        self._keep(writer, sample)

    def _settle(self, phase: str, cell_ids: Sequence[str]) -> Settled:
        """Drives the first cell of a phase, unmeasured, until two slices in a row resemble."""
        cell = self._plan.cell(cell_ids[0])
        session, unit_bytes = self._sessions[self._plan.session(cell)], cell.workload.unit_bytes

        def rate() -> float:
            try:
                load = session.slice(cell.workload, self._plan.warmup_ms, self._plan.slice_ms)
                return stats.unit_rate(load, unit_bytes)
            except (ProcessError, KeyError, TypeError):
                return 0.0  # its measured slice will say what is wrong

        return settle(phase, rate)

    def _mind_drift(self, block: int, drift: str | None) -> None:
        """A block in which a knob moved counts for nothing; its profiles are applied anew.

        IolabError when that happens again and again.
        """
        if drift is None:
            self._drifted = 0
            return
        self._drifted += 1
        if self._drifted >= _DRIFTS:
            raise IolabError(
                f"the last {_DRIFTS} blocks are lost to drift: {drift}",
                "find out who else sets it: tuned, irqbalance, a cron job, a network manager?",
            )
        kept = [s for s in self.samples if s.block != block or s.status is not Status.OK]
        self.samples[:] = kept
        with self._about_profiles():
            self._around.renew()

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
        if not_set := self._around.not_set(cell):
            extra["not_set"] = list(not_set)
        if self._tuned:
            extra[overhead.PROFILES_KEY], self._profiles_ns = self._profiles_ns, 0
        wall_ns = 0
        try:
            server.new_peaks()
            before = server.counters()
            session = self._sessions[self._plan.session(cell)]
            begin = self._observe(server, session)
            others = self._clocks_besides(server)
            started_ns, cpu_ns = clock.monotonic_ns(), clock.cpu_ns()
            load = session.slice(cell.workload, self._plan.warmup_ms, self._plan.slice_ms)
            extra[overhead.CPU_KEY] = clock.cpu_ns() - cpu_ns
            wall_ns = clock.monotonic_ns() - started_ns
            later = self._clocks_besides(server)
            extra["bystanders"] = bystanders.difference(others, later, wall_ns)
            end = self._observe(server, session)
            if self._observer is not None and begin is not None and end is not None:
                extra["kernel"] = kernel = kernelstat.difference(begin, end)
                if portuse.may_be_short(kernel, load):
                    who = portuse.connectors(server, session.pids)
                    kernel["ports"] = self._observer.ports(kernel, who)
            delta, after = self._settled_delta(server, before, load)
            extra |= self._memory(server, after)
            slicecheck.check_load(load)
            reason = stats.judge_slice(load, delta)
            status = Status.OK if reason is None else Status.INVALID
            reason = reason and portuse.explained(reason, extra.get("kernel", {}))
        except ProcessError as error:
            status = Status.FAILED
            reason = self._blame(cell, str(error))
        except slicecheck.Unfit as error:
            status, reason = Status.FAILED, f"the load generator's document: {error}"
        except (KeyError, TypeError) as error:
            status, reason = Status.FAILED, f"the load generator's document lacks {error}"
        return Sample(
            block, place, cell.id, status, reason, started_unix_ns, wall_ns, load, delta, extra
        )

    def _clocks_besides(self, driven: RunningServer) -> dict[str, int]:
        """The CPU time of every server but the driven one, of those where it can be told."""
        clocks = {
            name: self._cpu_clock(server)
            for name, server in self._servers.items()
            if server is not driven
        }
        return {name: used for name, used in clocks.items() if used is not None}

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
