"""CPU time of others: of processes from their CPU clocks, of control groups from their files.

A process CPU clock counts nanoseconds of all threads of one process, none of its children's. A
group counts for all that were ever in it; a running member's share is booked at ticks and switches,
so a reading may lack up to one tick (1 to 4 ms) of it.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable
from pathlib import Path

_CPUCLOCK_SCHED = 2  # linux/posix-timers.h: the clock that the scheduler keeps


def process_cpu_ns(pid: int) -> int | None:
    """CPU time that `pid` has used, None when the process does not exist any more."""
    clock_id = (~pid << 3) | _CPUCLOCK_SCHED
    try:
        return time.clock_gettime_ns(clock_id)
    except OSError:
        return None


def processes_cpu_ns(pids: Iterable[int]) -> int | None:
    """Sum over `pids`, None when one of them is gone."""
    total = 0
    for pid in pids:
        used = process_cpu_ns(pid)
        if used is None:
            return None
        total += used
    return total


def usage_ns(file: Path) -> int | None:
    """CPU time in a group's file, None when it is gone.

    cpuacct.usage of cgroup v1 holds a number of nanoseconds; cpu.stat of v2 names microseconds
    (Documentation/admin-guide/cgroup-v1/cpuacct.rst, cgroup-v2.rst).
    """
    try:
        text = file.read_text()
    except OSError:
        return None
    if match := re.match(r"(\d+)\s*$", text):
        return int(match[1])
    match = re.search(r"^usage_usec (\d+)$", text, re.M)
    return int(match[1]) * 1000 if match else None
