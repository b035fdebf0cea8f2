"""Servers under test: ours (one process per engine spec) and those that others wrote."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from iolab.testbed import Testbed


@dataclass(frozen=True)
class Place:
    """Where a server is to stand: served root, scratch directory of its own, CPUs, testbed.

    `upstream` is where role forward connects to; None in the other roles. `memory_limit_bytes`
    bounds what the server and all it forks may hold.
    """

    root: Path
    scratch: Path
    cpus: tuple[int, ...]
    testbed: Testbed
    upstream: tuple[str, int] | None = None
    memory_limit_bytes: int | None = None


class RunningServer(Protocol):
    """A server that accepts connections."""

    @property
    def host(self) -> str:
        """Address to connect to."""

    @property
    def port(self) -> int:
        """Port to connect to."""

    @property
    def upstream(self) -> tuple[str, int] | None:
        """Where it connects to in role forward, None in the others."""

    @property
    def cpu_pids(self) -> tuple[int, ...]:
        """Processes whose CPU time is the server's; empty when it cannot be told by process."""

    @property
    def resident_pid(self) -> int | None:
        """The process that was started and stays while it runs; None for what has none."""

    @property
    def cpu_usage(self) -> Path | None:
        """A file with the server's CPU time, for those with processes that come and go.

        Read by `cpuclock.usage_ns`. None beside `cpu_pids`; None without them: not known here.
        """

    def counters(self) -> dict[str, Any] | None:
        """Total counters since its start, None when this server has none."""

    def new_peaks(self) -> None:
        """Counters in `PEAKS` begin anew, at the latest with the next request."""

    def memory(self) -> dict[str, Any]:
        """The most memory it has held so far; see Enclosure.peaks."""

    def failure(self) -> str | None:
        """Why it no longer runs, None while it does."""

    def stop(self) -> None:
        """Ends it."""


PEAKS = frozenset({"zc_inflight_peak_bytes", "zc_delay_max_ns"})
"""Counters that are the highest value since `new_peaks`: no difference, the later one is meant."""


def counter_delta(
    before: dict[str, Any] | None, after: dict[str, Any] | None
) -> dict[str, Any] | None:
    """`after` - `before`, number by number, through nested objects; None when either is missing.

    Of `PEAKS` it is `after`.
    """
    if before is None or after is None:
        return None
    delta: dict[str, Any] = {}
    for key, value in after.items():
        if isinstance(value, dict):
            delta[key] = counter_delta(before.get(key, {}), value)
        elif isinstance(value, int) and not isinstance(value, bool):
            delta[key] = value if key in PEAKS else value - before.get(key, 0)
    return delta
