"""Made-up slices and series for the tests of statistics: what is true of them is known."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from typing import Any

import numpy as np

from iolab.model import Cell, Plan, Sample, Server, Status, Workload
from iolab.stats import Floats

SIZE = 1000


def document(requests: float, server_ns: int = 400, client_share: float = 0.5) -> dict[str, Any]:
    """What iolab-load prints for a window of one second."""
    return {
        "window": {"ns": 10**9, "requests": int(requests), "body_bytes": int(requests * SIZE)},
        "total": {"requests": int(requests), "body_bytes": int(requests * SIZE)},
        "errors": {"connect": 0, "timeout": 0},
        "non_2xx": 0,
        "cpu": {
            "client_ns": int(client_share * 1e9),
            "server_ns": server_ns,
            "client_share": client_share,
        },
    }


def streamed(**total: int) -> dict[str, Any]:
    """What iolab-load says of a slice of pairs: a stream need not end in it."""
    counts = {"requests": 0, "body_bytes": 5000, "sent_bytes": 5000, "greeting_bytes": 16}
    changes = {"mode": "forward", "total": {**counts, **total}}
    document_ = document(0)
    document_["window"] |= {"body_bytes": 4000}
    return document_ | changes


def plan(*names: str) -> Plan:
    workload = Workload("w", SIZE, 1)
    return Plan("p", "", names[0], tuple(Cell(Server("engine", n), workload) for n in names))


def run(
    nr_blocks: int, rates: dict[str, Callable[[float], float]], noise: float, seed: int = 5
) -> list[Sample]:
    """Blocks in which all servers share the machine's wobble and have little of their own."""
    rng = random.Random(seed)
    samples = []
    for block in range(nr_blocks):
        level = 10_000 * math.exp(rng.gauss(0, 0.5))
        for order, (name, rate) in enumerate(rates.items()):
            load = document(rate(level) * math.exp(rng.gauss(0, noise)))
            samples.append(Sample(block, order, f"{name}@w", Status.OK, None, 0, 1, load))
    return samples


def wave(rng: np.random.Generator, nr: int, rho: float, spread: float = 0.05) -> Floats:
    """A first-order autoregressive series of the given standard deviation, mean 0."""
    steps = rng.normal(0, spread * math.sqrt(1 - rho * rho), nr + 60)
    values = np.zeros(nr + 60)
    for at in range(1, nr + 60):
        values[at] = rho * values[at - 1] + steps[at]
    return values[60:]
