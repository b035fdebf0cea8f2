"""Matrix TOML -> Plan. Pure: the engines and peers of this machine are handed in as data."""

from __future__ import annotations

import fnmatch
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, TypeAdapter

from iolab.axes import Axes
from iolab.errors import InputError, did_you_mean
from iolab.model import (
    Arrivals,
    Cell,
    CopyLoad,
    Direction,
    Plan,
    Role,
    Server,
    TestbedName,
    Workload,
)
from iolab.sizes import format_size, parse_size
from iolab.specs import Offer, parse_server
from iolab.toml import Section, parse_toml

Size = Annotated[int, BeforeValidator(parse_size)]
Load = Annotated[float, Field(ge=0.01, le=10)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._+-]*$")]


class RunTable(Section):
    """`[run]`: how to measure. Times carry their unit in the name."""

    role: Role = "file"
    testbed: TestbedName | None = None
    testbeds: Annotated[tuple[TestbedName, ...], Field(min_length=1)] | None = None
    baseline: str
    baseline_fallback: str | None = None
    budget_s: Annotated[float, Field(gt=0)] = 60.0
    min_blocks: Annotated[int, Field(ge=1)] = 4
    max_blocks: Annotated[int, Field(ge=1)] = 400
    slice_ms: Annotated[int, Field(ge=10, le=60_000)] = 200
    warmup_ms: Annotated[int, Field(ge=0, le=60_000)] = 30
    seed: int = 1
    precision: Annotated[float, Field(gt=0, lt=1)] | None = None
    wrk_check: bool = False
    syscall_check: bool = False
    memory_limit: Size | None = None
    share_connections: bool = False


class ServersTable(Section):
    """`[servers]`: which servers every workload meets, unless it says otherwise."""

    list: tuple[str, ...]
    exclude: tuple[str, ...] = ()


class ProfilesTable(Section):
    """`[profiles]`: the profiles under which every workload is measured, unless it says otherwise.

    Each cell is compared with the same server under `baseline`. A profile of `ablate` is measured
    once more for each of its knobs, without that knob. `servers` are patterns of the specs that
    meet all of them; others meet the baseline only. `partial` keeps what takes of a profile that
    this host cannot have whole.
    """

    list: Annotated[tuple[Name, ...], Field(min_length=1)]
    baseline: Name
    ablate: tuple[Name, ...] = ()
    servers: tuple[str, ...] = ("*",)
    partial: bool = False


class WorkloadTable(Section):
    """`[[workload]]`: one size and its clients; `servers`, `profiles` and `testbeds` replace the
    common lists.

    With `rate` it is an open loop of so many requests per second. With `loads` it stands for the
    closed loop itself and one open loop for each load, a share of what the baseline serves in it.
    Which keys there may be, and must be, depends on the role: see `_KEYS`.
    """

    name: Name
    size: Size | None = None
    connections: Annotated[int, Field(ge=1, le=100_000)] | None = None
    pipeline: Annotated[int, Field(ge=1, le=1024)] | None = None
    pairs: Annotated[int, Field(ge=1, le=10_000)] | None = None
    chunked: bool | None = None
    direction: Direction | None = None
    files: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    batch: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    cache: Literal["warm", "cold"] | None = None
    target: Literal["disk", "tmpfs"] | None = None
    fresh: bool | None = None
    durable: bool | None = None
    rate: Annotated[float, Field(ge=0.001, le=1e7)] | None = None
    loads: Annotated[tuple[Load, ...], Field(min_length=1)] | None = None
    arrivals: Arrivals | None = None
    servers: tuple[str, ...] | None = None
    add: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    profiles: Annotated[tuple[Name, ...], Field(min_length=1)] | None = None
    testbeds: Annotated[tuple[TestbedName, ...], Field(min_length=1)] | None = None


class GridTable(Section):
    """`[[grid]]`: a workload for each size at each number of connections, for role file.

    `servers`, `profiles` and `testbeds` replace the common lists. Grids of a matrix are drawn as
    one, unless they have profiles or several testbeds.

    A slice ends when all that was asked for has arrived: so a place of the grid is left out, and
    said to be, when its connections together may ask for more than `max_outstanding`.
    """

    sizes: Annotated[tuple[Size, ...], Field(min_length=2)]
    connections: Annotated[tuple[Annotated[int, Field(ge=1, le=100_000)], ...], Field(min_length=2)]
    max_outstanding: Size = 1 << 30
    servers: tuple[str, ...] | None = None
    profiles: Annotated[tuple[Name, ...], Field(min_length=1)] | None = None
    testbeds: Annotated[tuple[TestbedName, ...], Field(min_length=1)] | None = None


class MatrixFile(Section):
    """The whole file: workloads one by one, a grid of them, or both."""

    schema_version: Literal[1]
    name: Name
    summary: str
    run: RunTable
    servers: ServersTable
    profiles: ProfilesTable | None = None
    workload: tuple[WorkloadTable, ...] = ()
    grid: tuple[GridTable, ...] = ()


@dataclass(frozen=True)
class _Keys:
    """The keys of a workload that a role asks for, and those that it allows beside them."""

    required: frozenset[str]
    allowed: frozenset[str]


_COPY_KEYS = frozenset({"files", "batch", "cache", "target", "fresh", "durable"})
_KEYS: Mapping[Role, _Keys] = {
    "file": _Keys(
        frozenset({"size", "connections"}), frozenset({"pipeline", "rate", "loads", "arrivals"})
    ),
    "relay": _Keys(frozenset({"size", "pairs"}), frozenset({"chunked"})),
    "forward": _Keys(frozenset({"pairs"}), frozenset({"size", "direction"})),
    "copy": _Keys(frozenset({"size"}), _COPY_KEYS),
}
_NOT_OF_A_PLAN = {"baseline", "baseline_fallback", "memory_limit", "testbed", "testbeds"}
_COMMON_KEYS = frozenset({"name", "servers", "add", "exclude", "profiles", "testbeds"})


def load_plan(path: Path, offer: Offer) -> Plan:
    """The plan of the matrix in file `path`; InputError names file and key."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read: {error}") from error
    return parse_plan(text, offer, str(path))


def parse_plan(text: str, offer: Offer, place: str) -> Plan:
    """The plan of the matrix in `text`; `place` is what messages call it."""
    matrix = parse_toml(text, MatrixFile, place)
    return _Expansion(matrix, offer, place).plan()


def plan_to_json(plan: Plan) -> dict[str, Any]:
    """The plan as the manifest stores it."""
    document: dict[str, Any] = TypeAdapter(Plan).dump_python(plan, mode="json")
    return document


def plan_from_json(document: dict[str, Any], place: str) -> Plan:
    """The plan that a manifest stores; InputError names the manifest when it is none."""
    try:
        return TypeAdapter(Plan).validate_python(document)
    except ValueError as error:
        raise InputError(f"{place}: plan: {error}") from error


class _Expansion:
    """One matrix on one machine, on its way to a plan."""

    def __init__(self, matrix: MatrixFile, offer: Offer, place: str) -> None:
        self._matrix = matrix
        self._offer = offer
        self._place = place
        self._left_out: list[str] = []
        self._axes = Axes(matrix.run, matrix.profiles, offer.knobs, place)

    def plan(self) -> Plan:
        self._check_names()
        common = self._expand(self._matrix.servers.list, "servers.list")
        common = self._exclude(common, self._matrix.servers.exclude, "servers.exclude")
        cells: list[Cell] = []
        for number, grid in enumerate(self._matrix.grid, start=1):
            chosen = common
            if grid.servers is not None:
                chosen = self._expand(grid.servers, f"grid[{number}].servers")
            axes = self._axes.of(grid.profiles, grid.testbeds, f"grid[{number}]")
            for workload in self._grid(grid):
                cells += self._axes.cells(chosen, workload, axes)
        for number, table in enumerate(self._matrix.workload, start=1):
            key = f"workload[{number}]"
            chosen = common
            if table.servers is not None:
                chosen = self._expand(table.servers, f"{key}.servers")
            chosen = _unique([*chosen, *self._expand(table.add, f"{key}.add")])
            chosen = self._exclude(chosen, table.exclude, f"{key}.exclude")
            if not chosen:
                raise InputError(f"{self._place}: {key}: no server is left")
            axes = self._axes.of(table.profiles, table.testbeds, key)
            for workload in self._loads(self._workload(table, key), table, key):
                cells += self._axes.cells(chosen, workload, axes)
        doubled = [cell_id for cell_id, nr in Counter(cell.id for cell in cells).items() if nr > 1]
        if doubled:
            raise InputError(f"{self._place}: {doubled[0]}: named by two workloads or grids")
        return self._with_baseline(tuple(cells))

    def _grid(self, grid: GridTable) -> list[Workload]:
        """The workloads of a grid; what is too large at a time is noted as left out."""
        if self._matrix.run.role != "file":
            raise InputError(f"{self._place}: grid: only for role file")
        found = []
        for size in dict.fromkeys(grid.sizes):
            for connections in dict.fromkeys(grid.connections):
                name = f"{format_size(size)}-c{connections}"
                if size * connections <= grid.max_outstanding:
                    found.append(Workload(name, size, connections))
                else:
                    limit = format_size(grid.max_outstanding)
                    self._left_out.append(f"{name}: its connections would ask for over {limit}")
        return found

    def _workload(self, table: WorkloadTable, key: str) -> Workload:
        """What a table describes, its keys being those of the role."""
        role = self._matrix.run.role
        given = {name for name in table.model_fields_set if getattr(table, name) is not None}
        given -= _COMMON_KEYS
        keys = _KEYS[role]
        for name in sorted(given - keys.required - keys.allowed):
            allowed = ", ".join(sorted(keys.required | keys.allowed))
            raise InputError(
                f"{self._place}: {key}.{name}: no key of role {role}, whose keys are {allowed}"
            )
        for name in sorted(keys.required - given):
            raise InputError(f"{self._place}: {key}.{name}: missing, role {role} requires it")
        if role != "file" and table.size == 0:
            raise InputError(
                f"{self._place}: {key}.size: 0: what role {role} moves has a byte at least"
            )
        return Workload(
            name=table.name,
            size_bytes=table.size or 0,
            connections=table.connections or 0,
            pipeline=table.pipeline or 1,
            pairs=table.pairs or 0,
            chunked=bool(table.chunked),
            direction=table.direction or "up",
            copy=self._copy(table, key) if role == "copy" else None,
            rate_per_s=table.rate or 0.0,
            arrivals=table.arrivals or "poisson",
        )

    def _copy(self, table: WorkloadTable, key: str) -> CopyLoad:
        """What role copy does, one file after another where nothing else is said."""
        files, batch = table.files or 1, table.batch or 1
        if files % batch:
            raise InputError(
                f"{self._place}: {key}.batch: {batch} does not divide files ({files}): each "
                "operation copies as many"
            )
        return CopyLoad(
            files=files,
            batch=batch,
            cache=table.cache or "warm",
            target=table.target or "disk",
            fresh=bool(table.fresh),
            durable=bool(table.durable),
        )

    def _loads(self, workload: Workload, table: WorkloadTable, key: str) -> list[Workload]:
        """The workload itself, and with `loads` an open loop for each of them."""
        loads = table.loads or ()
        if table.rate is not None and loads:
            raise InputError(
                f"{self._place}: {key}: rate and loads: give one, a rate in requests per second or "
                "loads as shares of the baseline's capacity"
            )
        if table.arrivals is not None and table.rate is None and not loads:
            raise InputError(
                f"{self._place}: {key}.arrivals: only for an open loop, with rate or loads"
            )
        doubled = [load for load in dict.fromkeys(loads) if loads.count(load) > 1]
        if doubled:
            raise InputError(f"{self._place}: {key}.loads: {doubled[0]:g} is given twice")
        if self._matrix.run.wrk_check and (loads or table.rate is not None):
            raise InputError(f"{self._place}: run.wrk_check: wrk knows no rate, as {key} asks for")
        return [
            workload,
            *(replace(workload, name=f"{workload.name}-load{x:g}", load=x) for x in sorted(loads)),
        ]

    def _check_names(self) -> None:
        if not self._matrix.workload and not self._matrix.grid:
            raise InputError(f"{self._place}: [[workload]] or [[grid]]: missing, one is required")
        names = [table.name for table in self._matrix.workload]
        for number, name in enumerate(names, start=1):
            if name in names[: number - 1]:
                raise InputError(f"{self._place}: workload[{number}].name: {name!r} is used twice")
        run = self._matrix.run
        if run.max_blocks < run.min_blocks:
            raise InputError(
                f"{self._place}: run.max_blocks: {run.max_blocks} is below min_blocks "
                f"({run.min_blocks})"
            )
        if run.memory_limit is not None and run.role == "copy":
            raise InputError(f"{self._place}: run.memory_limit: role copy has no server to bound")
        if run.syscall_check and run.role != "file":
            raise InputError(
                f"{self._place}: run.syscall_check: counts per request, which role {run.role} "
                "has not; only for role file"
            )
        if run.wrk_check and run.role != "file":
            raise InputError(
                f"{self._place}: run.wrk_check: wrk asks for files, not for {run.role}"
            )

    def _expand(self, specs: Iterable[str], key: str) -> list[Server]:
        servers: list[Server] = []
        for spec in specs:
            role = self._matrix.run.role
            servers += parse_server(spec, self._offer, role, f"{self._place}: {key}")
        return _unique(servers)

    def _exclude(self, servers: list[Server], patterns: Iterable[str], key: str) -> list[Server]:
        """`servers` without those whose spec matches a pattern; a pattern in vain is an error."""
        for pattern in patterns:
            kept = [server for server in servers if not fnmatch.fnmatch(server.spec, pattern)]
            if len(kept) == len(servers):
                specs = [server.spec for server in servers]
                raise InputError(
                    f"{self._place}: {key}: {pattern!r} matches no server here: "
                    f"{did_you_mean(pattern, specs)}"
                )
            servers = kept
        return servers

    def _with_baseline(self, cells: tuple[Cell, ...]) -> Plan:
        """The plan with its baseline, or the fallback when this machine cannot run the first."""
        run = self._matrix.run
        plan = Plan(
            name=self._matrix.name,
            summary=self._matrix.summary,
            baseline=run.baseline,
            cells=cells,
            memory_limit_bytes=run.memory_limit,
            grid=bool(self._matrix.grid),
            left_out=tuple(self._left_out),
            testbed=self._axes.testbeds[0],
            baseline_profile=self._matrix.profiles.baseline if self._matrix.profiles else None,
            partial=self._matrix.profiles is not None and self._matrix.profiles.partial,
            **run.model_dump(exclude=_NOT_OF_A_PLAN),
        )
        self._check_passes(plan)
        labels = [server.label for server in plan.servers]
        for key, label in (
            ("baseline", run.baseline),
            ("baseline_fallback", run.baseline_fallback),
        ):
            if label is not None and label not in labels:
                raise InputError(
                    f"{self._place}: run.{key}: {label!r} is no server of this matrix: "
                    f"{did_you_mean(label, labels)}"
                )
        chosen = choose_baseline(plan, [run.baseline, run.baseline_fallback])
        self._check_baseline(chosen)
        return chosen

    def _check_passes(self, plan: Plan) -> None:
        """The passes after measuring are of servers, and know one condition only."""
        run = self._matrix.run
        for key, asked in (("wrk_check", run.wrk_check), ("syscall_check", run.syscall_check)):
            if asked and len(plan.conditions) > 1:
                raise InputError(
                    f"{self._place}: run.{key}: only where all cells have the same profile and "
                    "testbed"
                )

    def _check_baseline(self, plan: Plan) -> None:
        for number, workload in enumerate(plan.workloads, start=1):
            servers = [cell.server.label for cell in plan.cells if cell.workload == workload]
            if plan.baseline not in servers:
                raise InputError(
                    f"{self._place}: workload[{number}]: the baseline {plan.baseline!r} "
                    "is not among its servers"
                )


def choose_baseline(plan: Plan, wanted: Iterable[str | None]) -> Plan:
    """`plan` with the first of the `wanted` labels as baseline that this machine can run.

    When none can, the first server that can; what was passed over is noted in `left_out`.
    Raises InputError when no server of the plan can run.
    """
    usable = [server.label for server in plan.servers if server.unsupported is None]
    reasons = {server.label: server.unsupported for server in plan.servers}
    notes = list(plan.left_out)
    notes += [
        f"{server.label}: {server.unsupported}"
        for server in plan.servers
        if server.unsupported is not None
    ]
    candidates = [label for label in wanted if label is not None]
    for label in [*candidates, *usable]:
        if label in usable:
            if label != candidates[0]:
                reason = reasons.get(candidates[0])
                notes.append(f"baseline is {label} instead of {candidates[0]} ({reason})")
            return replace(plan, baseline=label, left_out=tuple(notes))
    raise InputError("no server of this matrix can run here: " + "; ".join(notes))


def _unique(servers: Iterable[Server]) -> list[Server]:
    return list(dict.fromkeys(servers))
