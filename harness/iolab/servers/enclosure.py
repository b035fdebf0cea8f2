"""What a server is started into: groups that account its CPU time and limit its memory.

Where no group can be made, the limit is RLIMIT_DATA, which bounds the private writable memory of
each process, and none of the kernel's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from iolab.cgroup import CpuGroup, MemoryGroup, make_cpu_group, make_memory_group
from iolab.executor import Bounds
from iolab.procfs import resident_peak_bytes
from iolab.sizes import format_size


@dataclass(frozen=True)
class Enclosure:
    """The groups of one server; `remove` them when it has ended."""

    cpu: CpuGroup | None = None
    memory: MemoryGroup | None = None
    limit_bytes: int | None = None

    @classmethod
    def make(cls, limit_bytes: int | None, account_cpu: bool, root: Path = Path("/")) -> Enclosure:
        """Groups for a server that may hold `limit_bytes` (None: no limit of ours).

        A process is in one group of v2 only: there, the one that limits accounts as well.
        """
        memory = None if limit_bytes is None else make_memory_group(limit_bytes, root)
        cpu = None
        if account_cpu and memory is not None and memory.version == "v2":
            cpu = CpuGroup(memory.directory, memory.directory / "cpu.stat")
        elif account_cpu:
            cpu = make_cpu_group(root)
        return cls(cpu, memory, limit_bytes)

    @property
    def bounds(self) -> Bounds:
        """What the executor puts the server into."""
        groups = [group for group in (self.cpu, self.memory) if group is not None]
        by_rlimit = self.limit_bytes if self.memory is None else None
        return Bounds(tuple(dict.fromkeys(group.procs for group in groups)), by_rlimit)

    @property
    def limited_by(self) -> str | None:
        """The means of the limit, None without one."""
        if self.limit_bytes is None:
            return None
        return f"cgroup {self.memory.version}" if self.memory else "RLIMIT_DATA"

    def peaks(self, pids: Sequence[int]) -> dict[str, Any]:
        """The most memory it has held so far, in bytes; None where that cannot be known.

        `resident_peak_bytes` sums over processes, those of the group where `pids` names none.
        `group_peak_bytes` counts the kernel's memory on its behalf, too.
        """
        groups = [group for group in (self.cpu, self.memory) if group is not None]
        members = pids or (groups[0].pids() if groups else ())
        return {
            "resident_peak_bytes": resident_peak_bytes(members),
            "group_peak_bytes": self.memory.peak_bytes() if self.memory else None,
        }

    def complaint(self) -> str:
        """What its end has to do with the limit, in words to append; empty for nothing."""
        if self.limit_bytes is None or self.memory is None or not self.memory.kills():
            return ""
        return f" (killed at the memory limit of {format_size(self.limit_bytes)})"

    def remove(self) -> None:
        """Removes the groups; those still in use stay for a later run to remove."""
        for group in (self.cpu, self.memory):
            if group is not None:
                group.remove()
