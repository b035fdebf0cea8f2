"""All checks in the order of the answer."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from iolab.doctor.limits import check_disk, check_memlock, check_nofile, check_tracefs
from iolab.doctor.machine import Finding, Level, Machine
from iolab.doctor.network import check_loopback, check_zero_copy
from iolab.doctor.processors import (
    check_cgroup,
    check_clocksource,
    check_cpu_accounting,
    check_cpus,
    check_frequency,
    check_quiet,
)
from iolab.doctor.programs import (
    check_engines,
    check_io_uring,
    check_kernel,
    check_peer,
    check_tools,
)

CHECKS: tuple[Callable[[Machine], Finding], ...] = (
    check_kernel,
    check_engines,
    check_io_uring,
    check_tools,
    check_cpus,
    check_frequency,
    check_memlock,
    check_nofile,
    check_loopback,
    check_clocksource,
    check_quiet,
    check_cgroup,
    check_cpu_accounting,
    check_tracefs,
    check_disk,
)


def examine(machine: Machine) -> list[Finding]:
    """All findings: those of `CHECKS` in their order, one for each interface, one for each peer."""
    findings = [check(machine) for check in CHECKS]
    findings += [check_zero_copy(interface) for interface in machine.interfaces]
    return findings + [check_peer(peer) for peer in machine.peers]


def worst(findings: Iterable[Finding]) -> Level:
    """The worst level among the findings; `ok` when there are none."""
    order = list(Level)
    return max((finding.level for finding in findings), key=order.index, default=Level.OK)
