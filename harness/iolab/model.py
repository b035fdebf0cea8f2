"""The words of a run as frozen data, without I/O: servers, workloads, cells, the plan, samples."""

from __future__ import annotations

import random
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import cached_property
from typing import Any, Literal

from iolab import slicecheck

SCHEMA_VERSION = 1
GIB = 1 << 30

Role = Literal["file", "relay", "forward", "copy"]
Direction = Literal["up", "down", "both"]
TestbedName = Literal["loopback", "netns"]
Unit = Literal["request", "GiB", "file"]
Arrivals = Literal["poisson", "constant"]

NO_PROFILE = "none"
"""The profile that changes nothing: the host as it was found."""
WITHOUT = "~"
"""`PROFILE~KEY` is that profile without the knob KEY: one step of an ablation."""


class Status(StrEnum):
    """What became of a cell or of one of its slices. Only `OK` carries a number."""

    OK = "ok"
    UNSUPPORTED = "unsupported"
    """This kernel, build or machine cannot do what the name says; the reason says why."""
    INVALID = "invalid"
    """A wrong byte, a non-2xx, a timeout, or counts of client and server that differ."""
    FAILED = "failed"
    """A process did not start, died or did not answer."""


@dataclass(frozen=True)
class Server:
    """One server of a comparison: an engine with its options, or a peer that others wrote.

    In role copy a technique stands in its place, which serves nobody: it copies files itself.
    `unsupported` holds the reason when this machine cannot run it; its cells are reported so.
    `build` names the build whose binary it is (None: this tree's). `handicap_percent` is a planted
    slowdown (iolab-server --handicap). A `twin` is a second process of the same: nothing but
    chance can set the two apart.
    """

    kind: Literal["engine", "peer", "technique"]
    name: str
    options: tuple[tuple[str, str], ...] = ()
    unsupported: str | None = None
    build: str | None = None
    handicap_percent: int = 0
    twin: bool = False

    @property
    def argument(self) -> str:
        """What its binary is told: `epoll,cache=memory`."""
        return ",".join([self.name, *(f"{key}={value}" for key, value in self.options)])

    @property
    def label(self) -> str:
        """Short name, unique in a plan: `epoll,cache=memory`, `nginx`, `base/epoll`, `nginx#2`."""
        build = f"{self.build}/" if self.build else ""
        handicap = f"+{self.handicap_percent}%" if self.handicap_percent else ""
        return f"{build}{self.argument}{handicap}{'#2' if self.twin else ''}"

    @property
    def spec(self) -> str:
        """The string a matrix names it by: `engine:epoll,cache=memory`, `peer:nginx`.

        An engine of another build is `build:base/engine:epoll`.
        """
        build = f"build:{self.build}/" if self.build else ""
        return f"{build}{self.kind}:{self.argument}"


@dataclass(frozen=True)
class CopyLoad:
    """What role copy does: `files` files, `batch` of them in an operation, again and again.

    Sources are in the page cache (`warm`) or dropped from it before each operation (`cold`). With
    `fresh` copies are made anew, else written over; with `durable` an operation ends when its
    copies are on the disk. `target` is where they go: beside the sources, or into memory.
    """

    files: int = 1
    batch: int = 1
    cache: Literal["warm", "cold"] = "warm"
    target: Literal["disk", "tmpfs"] = "disk"
    fresh: bool = False
    durable: bool = False


@dataclass(frozen=True)
class Workload:
    """What the clients do.

    In role file `connections` connections, each with `pipeline` GETs of `size_bytes` outstanding:
    a closed loop. It is an open loop when `rate_per_s` is above 0: that many GETs per second over
    all connections, due at seeded times (`arrivals`), of which `pipeline` at most are outstanding
    on each. `load` above 0 gives the rate as a share of what the baseline serves in a closed loop;
    it is turned into `rate_per_s` when a run begins (capacity.py).
    In roles relay and forward (`pairs` above 0) that many pairs of a sender and a receiver at a
    time, one transfer of `size_bytes` after another; 0 there is one that never ends (forward).
    `chunked` uploads have no Content-Length (relay); `direction` is seen from the client (forward).
    In role copy `copy` says what is done with files of `size_bytes`; None in the other roles.
    """

    name: str
    size_bytes: int
    connections: int = 0
    pipeline: int = 1
    pairs: int = 0
    chunked: bool = False
    direction: Direction = "up"
    copy: CopyLoad | None = None
    rate_per_s: float = 0.0
    load: float = 0.0
    arrivals: Arrivals = "poisson"

    @property
    def open_loop(self) -> bool:
        """True when requests are due at times of their own, whatever the server does."""
        return self.rate_per_s > 0 or self.load > 0

    @property
    def path(self) -> str:
        """Request target of the file that the harness makes for this size."""
        return f"/{file_name(self.size_bytes)}"

    @property
    def unit(self) -> Unit:
        """What rates and costs count: responses of a file, GiB that went through, or files."""
        if self.copy is not None:
            return "GiB" if self.copy.files == 1 else "file"
        return "GiB" if self.pairs else "request"

    @property
    def unit_bytes(self) -> int:
        """Payload of one unit; 0 where responses are empty and only their number counts."""
        return GIB if self.unit == "GiB" else self.size_bytes


def file_name(size_bytes: int) -> str:
    """Name of the generated file of `size_bytes` bytes under the served root."""
    return f"{size_bytes}.bin"


@dataclass(frozen=True)
class Condition:
    """What surrounds a cell: the profile that tunes the host, and where the two sides stand."""

    profile: str = NO_PROFILE
    testbed: TestbedName = "loopback"

    @property
    def tail(self) -> str:
        """`@PROFILE@TESTBED` without those that are at their default; empty for neither."""
        profile = "" if self.profile == NO_PROFILE else f"@{self.profile}"
        return profile + ("" if self.testbed == "loopback" else f"@{self.testbed}")


@dataclass(frozen=True)
class Cell:
    """One box of the matrix: a server under a workload, tuned by a profile, on a testbed."""

    server: Server
    workload: Workload
    profile: str = NO_PROFILE
    testbed: TestbedName = "loopback"

    @property
    def condition(self) -> Condition:
        """What surrounds it."""
        return Condition(self.profile, self.testbed)

    @property
    def id(self) -> str:
        """`SERVER@WORKLOAD`; the axes that are not at their default follow as `@NAME`."""
        return f"{self.server.label}@{self.workload.name}{self.condition.tail}"


@dataclass(frozen=True)
class Plan:
    """A matrix made concrete for this machine: what a run measures, and how.

    `precision` is the relative half-width of every interval at which a run may stop early (None:
    only the budget and `max_blocks` end it); `confidence` is that of these intervals. With a
    `threshold`, the smallest difference that matters, precision ends it only when each comparison
    has a verdict, and an A/A pair differs only by what would change one (None: any difference
    matters); see control.py. Cells are
    compared with `baseline` under the same condition, with `baseline_build` each with the same
    server of that build, with `baseline_profile` each with the same server under that profile; see
    `reference`. `partial` keeps what a profile can set here where the host lacks the rest of it.
    `testbed` is that of cells that do not say otherwise. With `share_connections` the workloads of
    a server that differ in nothing but size and rate take turns on the same connections. `grid`
    says that workloads are a grid of sizes and connections, to be drawn as one.
    `memory_limit_bytes` bounds each server process with all it forks (None: not at all).
    `left_out` says what the matrix names and this run has not, with the reason.
    """

    name: str
    summary: str
    baseline: str
    cells: tuple[Cell, ...]
    role: Role = "file"
    testbed: TestbedName = "loopback"
    budget_s: float = 60.0
    min_blocks: int = 4
    max_blocks: int = 400
    slice_ms: int = 200
    warmup_ms: int = 30
    seed: int = 1
    precision: float | None = None
    confidence: float = 0.95
    threshold: float | None = None
    baseline_build: str | None = None
    baseline_profile: str | None = None
    partial: bool = False
    wrk_check: bool = False
    syscall_check: bool = False
    memory_limit_bytes: int | None = None
    share_connections: bool = False
    grid: bool = False
    left_out: tuple[str, ...] = ()

    @property
    def servers(self) -> tuple[Server, ...]:
        """The distinct servers of the cells, in the plan's order."""
        return tuple(dict.fromkeys(cell.server for cell in self.cells))

    @property
    def workloads(self) -> tuple[Workload, ...]:
        """The distinct workloads of the cells, in the plan's order."""
        return tuple(dict.fromkeys(cell.workload for cell in self.cells))

    @cached_property
    def conditions(self) -> tuple[Condition, ...]:
        """The distinct conditions of the cells, in the plan's order."""
        return tuple(dict.fromkeys(cell.condition for cell in self.cells))

    @cached_property
    def _axes(self) -> tuple[bool, bool]:
        """Whether cells differ in profile, and in testbed."""
        profiles = {condition.profile for condition in self.conditions}
        return len(profiles) > 1, len({condition.testbed for condition in self.conditions}) > 1

    def label(self, cell: Cell) -> str:
        """What tells `cell` from the others of its workload: `epoll`, `epoll:throughput`.

        Profile and testbed are in it where cells of the plan differ in them.
        """
        return cell.server.label + self._under(cell)

    def _under(self, cell: Cell) -> str:
        by_profile, by_testbed = self._axes
        profile = f":{cell.profile}" if by_profile else ""
        return profile + (f":{cell.testbed}" if by_testbed else "")

    def reference(self, cell: Cell) -> str:
        """The label of the cell that `cell` is compared with, on the same workload."""
        if self.baseline_profile is not None:
            original = replace(cell.server, twin=False)
            return self.label(replace(cell, server=original, profile=self.baseline_profile))
        if self.baseline_build is None:
            return self.baseline + self._under(cell)
        same = replace(cell.server, build=self.baseline_build, handicap_percent=0, twin=False)
        return same.label + self._under(cell)

    def groups(self) -> dict[tuple[Workload, str], list[Cell]]:
        """The cells that are compared with each other, by workload and reference."""
        found: dict[tuple[Workload, str], list[Cell]] = {}
        for cell in self.cells:
            found.setdefault((cell.workload, self.reference(cell)), []).append(cell)
        return found

    def title(self, workload: Workload, reference: str) -> str:
        """What a group of cells is called: its workload, and the reference where it has several."""
        several = sum(load == workload for load, _ in self.groups()) > 1
        return f"{workload.name}, {reference}" if several else workload.name

    def instance(self, cell: Cell) -> str:
        """Which running server drives `cell`; cells of equal names share one.

        File servers serve all their workloads from one process, as in production. In the other
        roles each cell has its own: its memory is the cell's, and role forward its upstream's.
        In role copy there is none, only the tool of each cell.
        """
        return f"{cell.server.label}{cell.condition.tail}" if self.role == "file" else cell.id

    def session(self, cell: Cell) -> str:
        """Whose connections drive `cell`; cells of equal names take turns on the same ones."""
        load = cell.workload
        if self.share_connections and not load.pairs and load.copy is None:
            return f"{self.instance(cell)}/{load.connections}/{load.pipeline}/{load.arrivals}"
        return cell.id

    def cell(self, cell_id: str) -> Cell:
        """The cell of that id; KeyError when the plan has none."""
        for cell in self.cells:
            if cell.id == cell_id:
                return cell
        raise KeyError(cell_id)


@dataclass(frozen=True)
class BlockOrder:
    """The order in which a block drives its cells (ids)."""

    block: int
    cells: tuple[str, ...]


def block_order(plan: Plan, block: int, skip: frozenset[str] = frozenset()) -> BlockOrder:
    """The random order of block `block`: a function of the plan's seed and the block's number.

    Groups (workloads, mostly; see Plan.groups) are shuffled, then the servers within each, so that
    the slices that are compared with each other stand within a few seconds. Cells in `skip` and
    unsupported ones are left out without disturbing the order of the others.
    """
    rng = random.Random(f"{plan.seed}:{block}")  # a str seed hashes the same on every Python
    groups = list(plan.groups().values())
    rng.shuffle(groups)
    ids: list[str] = []
    for group in groups:
        rng.shuffle(group)
        ids += [cell.id for cell in group if cell.server.unsupported is None]
    return BlockOrder(block, tuple(cell_id for cell_id in ids if cell_id not in skip))


@dataclass(frozen=True)
class Sample:
    """One slice as stored: raw, never summarised.

    `load` is the load generator's document and `server_counters` the difference of the server's
    total counters over the whole slice (warm-up and drain included), None when the server has no
    counters. `started_unix_ns` and `wall_ns` span the slice as the harness saw it.
    """

    block: int
    order: int
    cell: str
    status: Status
    reason: str | None
    started_unix_ns: int
    wall_ns: int
    load: dict[str, Any] | None = None
    server_counters: dict[str, Any] | None = None
    extra: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """The stored form. Keys of `extra` (added by later versions) stand beside the others."""
        return {
            "schema_version": SCHEMA_VERSION,
            "block": self.block,
            "order": self.order,
            "cell": self.cell,
            "status": str(self.status),
            "reason": self.reason,
            "started_unix_ns": self.started_unix_ns,
            "wall_ns": self.wall_ns,
            "load": self.load,
            "server_counters": self.server_counters,
            **self.extra,
        }

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> Sample:
        """The sample a stored line holds; KeyError or ValueError name what is wrong with it."""
        known = {
            "schema_version", "block", "order", "cell", "status", "reason",
            "started_unix_ns", "wall_ns", "load", "server_counters",
        }  # fmt: skip
        if document["schema_version"] != SCHEMA_VERSION:
            raise ValueError(f"schema_version {document['schema_version']!r}, not {SCHEMA_VERSION}")
        slicecheck.check_line(document)
        return cls(
            block=document["block"],
            order=document["order"],
            cell=document["cell"],
            status=Status(document["status"]),
            reason=document["reason"],
            started_unix_ns=document["started_unix_ns"],
            wall_ns=document["wall_ns"],
            load=document["load"],
            server_counters=document["server_counters"],
            extra={key: value for key, value in document.items() if key not in known},
        )
