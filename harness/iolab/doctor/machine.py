"""What the checks look at, and what they answer, as frozen data.

`look.py` fills a `Machine` from this one; tests hand in machines that do not exist.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from iolab.describe import Describe
from iolab.interfaces import Interface
from iolab.paths import House


class Level(StrEnum):
    """How bad a finding is: `fail` means that measuring cannot work or cannot be trusted."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True)
class Finding:
    """One line of the answer. `remedy` is a command or a sentence, empty when nothing is to do."""

    check: str
    level: Level
    found: str
    remedy: str = ""


@dataclass(frozen=True)
class CpuTimes:
    """Sums of /proc/stat over all CPUs, in clock ticks since boot."""

    total: int
    idle: int
    steal: int


@dataclass(frozen=True)
class Peer:
    """A server that others wrote. `lack` says what is missing for it, None when nothing is."""

    name: str
    version: str | None
    lack: str | None
    remedy: str


@dataclass(frozen=True)
class Machine:
    """What the checks look at. `root` is `/` or, in tests, a directory that imitates it."""

    root: Path
    house: House
    kernel: str
    affinity: frozenset[int]
    memlock_bytes: int
    """Soft RLIMIT_MEMLOCK; -1 is unlimited, as for `nofile_hard`."""
    nofile_hard: int
    free_disk_bytes: int
    which: Callable[[str], str | None]
    busy: tuple[CpuTimes, CpuTimes] | None = None
    """Processor times at the two ends of a window; None when /proc/stat says nothing."""
    describe: Describe | None = None
    describe_problem: str = ""
    peers: tuple[Peer, ...] = ()
    interfaces: tuple[Interface, ...] = ()

    def read(self, path: str) -> str | None:
        """The stripped text of a file such as `sys/class/net/lo/mtu`; None when unreadable."""
        try:
            return (self.root / path).read_text(encoding="utf-8", errors="replace").strip()
        except OSError:
            return None
