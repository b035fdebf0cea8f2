"""Matrices, builds and verdicts for gates that build and measure nothing."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from iolab.describe import Describe, Engine
from iolab.gate import CellOutcome, Round, decide
from iolab.gate_pairs import BASE, CANDIDATE
from iolab.model import Cell, Plan, Server, Workload
from iolab.specs import Offer, PeerOffer
from iolab.verdict import Comparison, Effect, Verdict, judge, paired

SMALL, LARGE = Workload("1KiB", 1024, 8), Workload("1MiB", 1 << 20, 8)


def engine(name: str, **changes: object) -> Engine:
    """An engine that serves files."""
    return Engine(name=name, sources=("file",), roles=("file",)).model_copy(update=changes)


def offer(base: Sequence[str] = ("a", "b"), candidate: Sequence[str] = ("a", "b")) -> Offer:
    """Two builds with these engines; this tree's own has a, b and c."""
    here = Describe(schema_version=1, engines=tuple(map(engine, ("a", "b", "c"))))
    builds = {
        name: Describe(schema_version=1, engines=tuple(map(engine, names)))
        for name, names in ((BASE, base), (CANDIDATE, candidate))
    }
    return Offer(here, {"nginx": PeerOffer(("file",))}, builds=builds)


def matrix(*names: str) -> Plan:
    """The engines and nginx on two sizes, as a matrix has them."""
    servers = [Server("peer", "nginx"), *(Server("engine", name) for name in names)]
    cells = tuple(Cell(server, load) for load in (SMALL, LARGE) for server in servers)
    return Plan("m", "", "nginx", cells, slice_ms=150, wrk_check=True)


def found(effect: Effect, name: str = "candidate/a@1KiB", ratio: float = 0.9) -> Verdict:
    """A verdict of that effect, from log ratios that were drawn and not measured."""
    rng = np.random.default_rng(1)
    noise = 0.3 if effect is Effect.UNCLEAR else 0.01
    true = {Effect.SLOWER: ratio, Effect.FASTER: 1 / ratio}.get(effect, 1.0)
    logs = list(math.log(true) + rng.normal(0, noise, 40))
    server, _, workload = name.partition("@")
    (one,) = judge([Comparison("base/a", server, workload, paired(logs))])
    assert one.effect is effect
    return one


def rounds(first: Effect, again: Effect | None) -> list[CellOutcome]:
    """What is decided of one cell whose rounds say so; `again` None: there was no second."""
    second = None if again is None else Round("r2", (found(again),), measured_s=30.0)
    return decide(Round("r1", (found(first),), measured_s=30.0), second)
