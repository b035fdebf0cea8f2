"""What a report shows, as data: no I/O, no formatting, no statistics.

`build.py` fills these from a run, `charts.py` and `page.py` draw them. All of it is recomputed
from the raw samples each time a report is written.
"""

from __future__ import annotations

from dataclasses import dataclass

from iolab.ablation import Step
from iolab.curve import CurveSet
from iolab.model import Unit
from iolab.report.palette import Style

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class Estimate:
    """A ratio with its confidence interval.

    `coverage` is what the interval really covers: under 0.95 with fewer than 6 blocks.
    """

    value: float
    low: float
    high: float
    coverage: float = 0.95


@dataclass(frozen=True)
class Spread:
    """Median and quartiles over the slices of a cell (not a confidence interval)."""

    median: float
    q1: float
    q3: float


@dataclass(frozen=True)
class ZeroCopy:
    """What became of sends that asked for zero copy, counted from the kernel's notifications.

    Delays run from a send's acceptance to the reading of its notification. None where the run is of
    a version that did not count it; delays also before any notification.
    """

    sends: int
    notified: int
    copied: int
    bytes: int | None = None
    inflight_peak_bytes: int | None = None
    delay_mean_ns: float | None = None
    delay_max_ns: int | None = None
    waived: int = 0
    """Sends that went by copy without asking, because too many were outstanding."""

    @property
    def copied_share(self) -> float | None:
        """Share of the notified sends that the kernel copied; None before any notification."""
        return self.copied / self.notified if self.notified > 0 else None

    @property
    def all_copied(self) -> bool:
        """True when the kernel fell back to copying every time: no zero-copy claim is possible."""
        return self.notified > 0 and self.copied >= self.notified

    @property
    def verdict(self) -> str:
        """What may be said of the cell. The words `zero-copy` only when no notification denies it.

        Nothing is claimed of sends without a notification, nor of a cell that went by copy in part.
        """
        if self.waived and not self.sends:
            return "copied: never asked"
        if self.notified == 0:
            return "unknown: no notification"
        if self.all_copied:
            return "copied"
        if self.copied or self.waived:
            return "partly copied"
        return "zero-copy" if self.notified >= self.sends else "zero-copy so far"


@dataclass(frozen=True)
class Latency:
    """Closed-loop service time in ns, from the merged histogram of all slices of a cell."""

    p50: float
    p90: float
    p99: float
    p999: float
    max: float
    nr: int


@dataclass(frozen=True)
class SyscallRow:
    """System calls per request of one cell, in a pass of its own: the kernel's and its own count.

    `traced` is what tracepoints saw, `counted` what the engine said in the same slice (None: peers
    do not count); `mix` the traced calls by name, most frequent first. `note` compares them.
    """

    workload: str
    server: str
    requests: int
    traced: float | None
    counted: float | None
    mix: tuple[tuple[str, float], ...]
    note: str


@dataclass(frozen=True)
class Point:
    """One block of one cell: seconds since the run began, and the ratio to the baseline."""

    t_s: float
    ratio: float


@dataclass(frozen=True)
class CellView:
    """One box of the matrix.

    `place` says what part it plays: `ranked`, `baseline`, `control` (an engine that sends no file),
    `client-limited`, `unranked` (the baseline has no number) or `out` (no numbers: see `reason`).
    `rate` is in units per second (see WorkloadView), CPU in `WorkloadView.cpu_unit`, system calls
    are those per unit. Memory is the most that was seen; None in role file.
    """

    cell: str
    server: str
    workload: str
    status: str
    reason: str | None
    place: str
    rank: int | None = None
    tied: bool = False
    blocks: int = 0
    ratio: Estimate | None = None
    ahead: int = 0
    p_value: float | None = None
    effective_blocks: float | None = None
    rate: Spread | None = None
    gib_per_s: float | None = None
    server_cpu: float | None = None
    total_cpu: float | None = None
    server_cpu_ratio: Estimate | None = None
    total_cpu_ratio: Estimate | None = None
    syscalls: float | None = None
    syscall_mix: tuple[tuple[str, float], ...] = ()
    zero_copy: ZeroCopy | None = None
    resident_peak_bytes: int | None = None
    group_peak_bytes: int | None = None
    pipe_peak_bytes: int | None = None
    limiter: str | None = None
    limiter_shares: str | None = None
    limiter_evidence: str | None = None
    latency: Latency | None = None
    trail: tuple[Point, ...] = ()

    @property
    def client_limited(self) -> bool:
        """True when the load generator, not the server, set the rate."""
        return self.place == "client-limited"


@dataclass(frozen=True)
class Headline:
    """The verdict on one workload.

    `sure` says in words how certain it is, or, without a leader, why there is none.
    """

    leader: CellView | None
    tied: tuple[str, ...]
    sure: str
    faster_unranked: tuple[str, ...]


@dataclass(frozen=True)
class WorkloadView:
    """One workload: its cells in reading order (ranked first, best on top) and its verdict.

    `unit` is what rates count; `payload` and `clients` are the workload in words. `connections` and
    `pipeline` are those of role file, `pairs` that of relay and forward.
    """

    name: str
    size_bytes: int
    connections: int
    pipeline: int
    pairs: int
    unit: Unit
    payload: str
    clients: str
    cpu_unit: str
    blocks: int
    cells: tuple[CellView, ...]
    headline: Headline

    def cell(self, server: str) -> CellView | None:
        """The cell of `server`, None when the plan has none."""
        return next((cell for cell in self.cells if cell.server == server), None)


@dataclass(frozen=True)
class Crossing:
    """One place of a grid: who leads at this size and number of connections.

    `ahead` is the leader's ratio to `behind`, the first server told apart from it; None where there
    is none. `client_limited` servers have no rank, and might be faster.
    """

    workload: str
    size_bytes: int
    connections: int
    leader: str | None
    tied: tuple[str, ...]
    behind: str | None
    ahead: Estimate | None
    client_limited: tuple[str, ...]

    @property
    def sure(self) -> bool:
        """True when one server alone leads, and another one is told apart from it."""
        return self.leader is not None and not self.tied and self.ahead is not None


@dataclass(frozen=True)
class WrkRow:
    """The cross-check of one cell by wrk beside iolab-load's ratio."""

    workload: str
    server: str
    pairs: int
    wrk_rate: float | None
    wrk_ratio: float | None
    load_ratio: float | None
    note: str


@dataclass(frozen=True)
class Fact:
    """A line of the trust box or of the host line; `good` is None for a plain statement."""

    name: str
    text: str
    good: bool | None = None


@dataclass(frozen=True)
class ProfileView:
    """A profile as a run applied it: where, how many knobs took, and which did not, with why."""

    name: str
    testbed: str
    scope: str
    taken: int
    not_set: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class ReportView:
    """All that a report shows. `per_second` names the unit of rates: `requests/s`, or several.

    `workloads` are closed loops and `curves` open ones; `blocks` is how many count.
    `untrusted` says why nothing of it is to be trusted, None when the A/A pairs read as equal.
    """

    run: str
    matrix: str
    summary: str
    started: str
    baseline: str
    role: str
    per_second: str
    host: tuple[Fact, ...]
    trust: tuple[Fact, ...]
    controls: tuple[Fact, ...]
    limitations: tuple[str, ...]
    workloads: tuple[WorkloadView, ...]
    wrk: tuple[WrkRow, ...]
    styles: dict[str, Style]
    manifest: dict[str, object]
    raw_files: tuple[str, ...] = ()
    crossings: tuple[Crossing, ...] = ()
    curves: tuple[CurveSet, ...] = ()
    syscalls: tuple[SyscallRow, ...] = ()
    blocks: int = 0
    ablations: tuple[Step, ...] = ()
    profiles: tuple[ProfileView, ...] = ()
    untrusted: str | None = None

    @property
    def servers(self) -> tuple[str, ...]:
        """Every server of the run, in the order of the plan."""
        return tuple(self.styles)

    @property
    def evidence(self) -> tuple[CellView, ...]:
        """Cells whose server asked for zero copy."""
        return tuple(c for w in self.workloads for c in w.cells if c.zero_copy)

    @property
    def out(self) -> tuple[CellView, ...]:
        """Cells without a number."""
        return tuple(c for w in self.workloads for c in w.cells if c.place == "out")
