"""Checks a relay or forwarder before it is timed: whole streams, every byte compared.

What arrives is compared with what was sent, position and content, by the load generator. The
transfers are of the sizes at which buffers and pipes begin, end and wrap, one alone and several at
a time, with and without a length, in both directions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from iolab.executor import ProcessError
from iolab.model import Role, Workload
from iolab.stats import judge_slice
from iolab.verify import Verification

SIZES_BYTES = (1, 4096, 65_537, (1 << 20) + 1, 5_000_003)
_TRANSFERS = 2

Count = Callable[[Workload, Sequence[str]], dict[str, Any]]


def workloads(role: Role) -> list[Workload]:
    """What a server of `role` is checked with."""
    found = []
    for size in SIZES_BYTES:
        for pairs in (1, 4):
            name = f"{pairs} x {size} bytes"
            if role == "relay":
                found.append(Workload(name, size, pairs=pairs))
                found.append(Workload(f"{name} chunked", size, pairs=pairs, chunked=True))
            else:
                found.append(Workload(f"{name} up", size, pairs=pairs))
                found.append(Workload(f"{name} down", size, pairs=pairs, direction="down"))
                found.append(Workload(f"{name} both ways", size, pairs=pairs, direction="both"))
    return found


def verify_pairs(label: str, role: Role, count: Count) -> Verification:
    """Runs all of it through `count`, which drives a workload with further options.

    A verification of streams has no digest of its own: each stream was compared in place.
    """
    failures = []
    checks = workloads(role)
    for workload in checks:
        try:
            document = count(workload, ("--count", str(_TRANSFERS), "--check", "full"))
            wrong = judge_slice(document, None) or _short(document, workload)
        except ProcessError as error:
            wrong = str(error)
        if wrong is not None:
            failures.append(f"{workload.name}: {wrong}")
    return Verification(label, len(checks), tuple(failures), "")


def _short(document: dict[str, Any], workload: Workload) -> str | None:
    """What is missing although nothing failed."""
    flows = 2 if workload.direction == "both" else 1
    wanted = workload.pairs * _TRANSFERS * flows * workload.size_bytes
    got = document["total"]["body_bytes"]
    return None if got == wanted else f"{got} bytes arrived of {wanted}"
