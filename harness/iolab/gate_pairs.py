"""Which cells two builds have in common, and what the candidate lacks. Pure.

An engine that only the candidate has is new, and there is nothing to compare it with. One that the
baseline runs and the candidate does not, be it gone or refused by its probe here, is no pass: a
gate that left it out in silence would call its removal no regression.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from iolab.errors import InputError
from iolab.model import Cell, Plan, Server
from iolab.specs import Offer, parse_server

BASE, CANDIDATE = "base", "candidate"
"""The names of the two builds in a gate's run."""


@dataclass(frozen=True)
class Pairs:
    """`cells` of both builds, side by side; what the candidate lacks, and what the baseline lacks.

    `missing` and `notes` hold the reasons, the first by the id of the matrix's cell.
    """

    cells: tuple[Cell, ...]
    missing: Mapping[str, str]
    notes: tuple[str, ...]

    @property
    def left_out(self) -> tuple[str, ...]:
        """All that is not compared, a line each."""
        lines = (f"{name}: {reason}" for name, reason in self.missing.items())
        return tuple(dict.fromkeys([*self.notes, *lines]))


def pair_up(plan: Plan, offer: Offer, engines: Sequence[str]) -> Pairs:
    """Both builds of every engine of `plan`, or of those given, on its workloads.

    InputError for a given engine that neither build has.
    """
    cells: list[Cell] = []
    missing: dict[str, str] = {}
    notes: list[str] = []
    for cell in _engine_cells(plan, offer, engines):
        base, candidate = (of_build(cell.server, name, offer, plan) for name in (BASE, CANDIDATE))
        if isinstance(base, str):
            notes.append(f"{cell.id}: {base}")
        elif isinstance(candidate, str):
            missing[cell.id] = f"the baseline runs it and the candidate does not: {candidate}"
        elif cell.workload.open_loop:
            notes.append(f"{cell.id}: an open loop has a rate of its own: nothing to compare")
        else:
            cells += [replace(cell, server=server) for server in (base, candidate)]
    return Pairs(tuple(cells), missing, tuple(notes))


def with_those_of(plan: Plan, other: Plan) -> Plan:
    """`plan` and the cells that only `other` has: what `engine:*` means to another build."""
    known = {cell.id for cell in plan.cells}
    more = tuple(cell for cell in other.cells if cell.id not in known)
    return replace(plan, cells=(*plan.cells, *more))


def of_build(server: Server, build: str, offer: Offer, plan: Plan) -> Server | str:
    """A server as a build has it; the reason when that build lacks it, or cannot run it here."""
    try:
        (found,) = parse_server(f"build:{build}/{server.spec}", offer, plan.role, build)
    except InputError as error:
        return f"not in both builds: {error}"
    return found if found.unsupported is None else found.unsupported


def _engine_cells(plan: Plan, offer: Offer, engines: Sequence[str]) -> list[Cell]:
    """The cells to compare: those of the matrix's engines, or those given on all of it."""
    if not engines:
        return [cell for cell in plan.cells if cell.server.kind == "engine"]
    found = [server for spec in engines for server in _given(spec, offer, plan)]
    return [
        Cell(server, load, condition.profile, condition.testbed)
        for condition in plan.conditions
        for load in plan.workloads
        for server in dict.fromkeys(found)
    ]


def _given(spec: str, offer: Offer, plan: Plan) -> tuple[Server, ...]:
    """What a specification of the command line means to the candidate, else to the baseline."""
    full = spec if spec.startswith("engine:") else f"engine:{spec}"
    try:
        mine = Offer(offer.builds[CANDIDATE], offer.peers)
        return parse_server(full, mine, plan.role, "--engine")
    except InputError:
        theirs = Offer(offer.builds[BASE], offer.peers)
        return parse_server(full, theirs, plan.role, "--engine")
