"""CPU time of another process, from its process CPU clock (nanoseconds, all its threads)."""

from __future__ import annotations

import time
from collections.abc import Iterable

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
