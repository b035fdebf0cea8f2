"""Which CPU serves and which one drives."""

from __future__ import annotations

import os
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class CpuSplit:
    """CPUs of the server and of the client; `note` says what is wrong with the split, if so."""

    server: tuple[int, ...]
    client: int
    note: str | None = None


def split_cpus(allowed: Collection[int], siblings: dict[int, frozenset[int]]) -> CpuSplit:
    """One CPU for the server, another for the client, on different cores where possible.

    `siblings` maps a CPU to the hardware threads of its core. With a single CPU both share it,
    and the note says so: such ratios mix the cost of both sides.
    """
    cpus = sorted(allowed)
    server = cpus[0]
    if len(cpus) == 1:
        return CpuSplit((server,), server, "server and client share the only CPU")
    core = siblings.get(server, frozenset({server}))
    others = [cpu for cpu in cpus[1:] if cpu not in core]
    if others:
        return CpuSplit((server,), others[0])
    return CpuSplit((server,), cpus[1], "server and client share one core (hardware threads)")


def host_split(sysfs: Path = Path("/sys")) -> CpuSplit:
    """The split for the CPUs this process may use."""
    allowed = os.sched_getaffinity(0)
    siblings = {cpu: _siblings(cpu, sysfs) for cpu in allowed}
    return split_cpus(allowed, siblings)


def parse_cpu_list(text: str) -> frozenset[int]:
    """The kernel's list format: `0-3,8,10-11`. Empty text is no CPU."""
    cpus: set[int] = set()
    for part in filter(None, text.strip().split(",")):
        first, dash, last = part.partition("-")
        cpus |= set(range(int(first), int(last if dash else first) + 1))
    return frozenset(cpus)


def _siblings(cpu: int, sysfs: Path) -> frozenset[int]:
    path = sysfs / f"devices/system/cpu/cpu{cpu}/topology/thread_siblings_list"
    try:
        return parse_cpu_list(path.read_text()) or frozenset({cpu})
    except (OSError, ValueError):
        return frozenset({cpu})
