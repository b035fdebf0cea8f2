"""Bystanders: the servers of a comparison that are not being driven, and have to stand still.

All servers of a run are up together. One that works while another is measured takes CPU time from
it, or from its client, and nothing in the other's figures shows it: the SQPOLL thread of io_uring,
for one, spins for `sqpoll_idle` milliseconds after its last submission. So the CPU clocks of all
others are read at both ends of each slice. docs/method.md says why the limit is what it is.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from iolab.cpuclock import processes_cpu_ns, usage_ns
from iolab.model import Sample
from iolab.servers import RunningServer

LIMIT_SHARE = 0.05
"""Of one CPU, all bystanders together: a slice in which they used more does not count."""
_NOTABLE_SHARE = 0.01
_NOTED_SHARE = 0.001  # a bystander that used less than this is not worth a word in a sample


def server_cpu_ns(server: RunningServer) -> int | None:
    """CPU time that a server has used so far, None where it cannot be told."""
    if server.cpu_usage is not None:
        return usage_ns(server.cpu_usage)
    return processes_cpu_ns(server.cpu_pids) if server.cpu_pids else None


def difference(before: Mapping[str, int], after: Mapping[str, int], ns: int) -> dict[str, Any]:
    """What a sample stores of `ns` nanoseconds: who used CPU time meanwhile, and how much.

    The clocks are those of the bystanders by name; one that died in between is left out.
    """
    used = {name: after[name] - was for name, was in before.items() if name in after}
    return {
        "ns": ns,
        "cpu_ns": {name: spent for name, spent in used.items() if spent > ns * _NOTED_SHARE},
    }


def share(sample: Sample) -> float:
    """What the bystanders of a slice used, as a share of one CPU; 0 when that was not read."""
    found = sample.extra.get("bystanders") or {}
    ns = int(found.get("ns", 0))
    return sum(found["cpu_ns"].values()) / ns if ns > 0 else 0.0


def disturbed(sample: Sample) -> bool:
    """True when another server worked while this slice was measured: its rate says nothing."""
    return share(sample) > LIMIT_SHARE


def undisturbed(samples: Iterable[Sample]) -> list[Sample]:
    """The samples that count, in their order."""
    return [sample for sample in samples if not disturbed(sample)]


def mean_share(samples: Iterable[Sample]) -> float:
    """What bystanders used over all these slices, as a share of one CPU."""
    found = [sample.extra.get("bystanders") or {} for sample in samples]
    ns = sum(int(one.get("ns", 0)) for one in found)
    used = sum(spent for one in found for spent in one.get("cpu_ns", {}).values())
    return used / ns if ns > 0 else 0.0


def evidence(samples: Iterable[Sample]) -> str | None:
    """What is worth a word beside a cell's limiter: slices lost, and work in those that count."""
    found = list(samples)
    share_left = mean_share(undisturbed(found))
    words = [account(found)]
    if share_left >= _NOTABLE_SHARE:
        words.append(f"other servers {share_left:.1%} of a CPU")
    return "; ".join(text for text in words if text) or None


def account(samples: Iterable[Sample]) -> str | None:
    """How many slices do not count and who worked in them most, in words; None for none."""
    found = list(samples)
    bad = [sample for sample in found if disturbed(sample)]
    if not bad:
        return None
    totals: dict[str, int] = {}
    for sample in bad:
        for name, spent in sample.extra["bystanders"]["cpu_ns"].items():
            totals[name] = totals.get(name, 0) + spent
    name = max(totals, key=lambda one: totals[one])
    of_one_cpu = totals[name] / sum(sample.extra["bystanders"]["ns"] for sample in bad)
    return (
        f"another server: {len(bad)} of {len(found)} slices do not count, in which others worked, "
        f"most of all {name} with {of_one_cpu:.0%} of a CPU"
    )
