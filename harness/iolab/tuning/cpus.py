"""CPU sets in the kernel's spellings, and the policies that choose them from the topology."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Literal

from iolab.topology import Topology

Policy = Literal["local-node", "all", "one-per-queue"]


def candidates(
    policy: Policy, topology: Topology, node: int | None, reserve: Collection[int]
) -> list[int]:
    """The CPUs that a policy may use, best first; never empty.

    `local-node`: the device's own node. `all`: every online CPU. `one-per-queue`: the device's node
    first, then the others, so that each queue gets a CPU to itself while there are enough.
    `reserve` CPUs are kept free; when that would leave none, they are used after all.
    """
    local = topology.on_node(node)
    free = topology.online - frozenset(reserve)
    if policy == "local-node":
        groups = [local & free or local]
    elif policy == "all":
        groups = [free or topology.online]
    else:
        groups = [local & free, free - local] if free else [topology.online]
    return [cpu for group in groups for cpu in topology.cores_first(group)]


def one_each(count: int, cpus: list[int]) -> list[int]:
    """A CPU for each of `count` queues, in turn."""
    return [cpus[index % len(cpus)] for index in range(count)]


def share_out(count: int, cpus: Collection[int], order: list[int]) -> list[frozenset[int]]:
    """Every CPU to exactly one of `count` queues, in turn; those of `order` come first."""
    sets: list[set[int]] = [set() for _ in range(count)]
    ranked = [*order, *(cpu for cpu in sorted(cpus) if cpu not in order)]
    for index, cpu in enumerate(ranked):
        sets[index % count].add(cpu)
    return [frozenset(one) for one in sets]


def format_mask(cpus: Iterable[int]) -> str:
    """Hexadecimal groups of 32 bits, the highest first, as %*pb prints (lib/bitmap-str.c)."""
    bits = sum(1 << cpu for cpu in set(cpus))
    groups = [f"{bits & 0xFFFFFFFF:x}"]
    while bits := bits >> 32:
        groups[-1] = groups[-1].rjust(8, "0")
        groups.append(f"{bits & 0xFFFFFFFF:x}")
    return ",".join(reversed(groups))


def same_mask(first: str, second: str) -> bool:
    """True when two masks name the same CPUs, whatever their leading zeros."""
    try:
        return int(first.replace(",", ""), 16) == int(second.replace(",", ""), 16)
    except ValueError:
        return first == second


def format_list(cpus: Iterable[int]) -> str:
    """The list format with ranges, as %*pbl prints: `0-3,8`."""
    parts: list[str] = []
    run: list[int] = []
    for cpu in sorted(set(cpus)):
        if run and cpu == run[-1] + 1:
            run.append(cpu)
            continue
        parts += _range(run)
        run = [cpu]
    return ",".join([*parts, *_range(run)])


def _range(run: list[int]) -> list[str]:
    if not run:
        return []
    return [str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}"]
