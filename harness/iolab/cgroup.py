"""Control groups of a server: what CPU time it used, and how much memory it may have.

Both include all that the server forks, ended processes too. cgroup v1 has a hierarchy for each
controller: cpuacct (cpuacct.usage, Linux 2.6.24) and memory (2.6.25). Of v2, every group but the
root has cpu.stat whatever controllers are on (Linux 4.15), and memory.max where the parent has the
memory controller enabled for its children; memory.peak is there from Linux 5.19.

Groups are made below the harness's own, which takes privileges or a delegated group (`systemd-run
--user --scope -p Delegate=yes`). In v2 a group with processes may not enable controllers for
children, so that the memory group may stand below the hierarchy's top instead. A server joins
before it executes its program. Groups are removed with their server.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

_PREFIX = "iolab-"
_REMOVE_TIMEOUT_S = 5.0
_numbers = itertools.count(1)

Version = Literal["v1", "v2"]


@dataclass(frozen=True)
class Group:
    """A group of our own."""

    directory: Path

    @property
    def procs(self) -> Path:
        """The file that a process joins by: it writes its id, or 0 for itself."""
        return self.directory / "cgroup.procs"

    def pids(self) -> tuple[int, ...]:
        """The processes in it now."""
        return tuple(int(line) for line in _lines(self.procs))

    def remove(self) -> None:
        """Removes it, once its processes are gone: those killed just now take a moment."""
        deadline = time.monotonic() + _REMOVE_TIMEOUT_S
        while True:
            try:
                self.directory.rmdir()
                return
            except FileNotFoundError:
                return
            except OSError:
                if time.monotonic() >= deadline:
                    return  # what it holds is not ours any more; a later run removes it
            time.sleep(0.02)


@dataclass(frozen=True)
class CpuGroup(Group):
    """Accounts CPU time; `usage` is its file with it, as `cpuclock.usage_ns` reads."""

    usage: Path


@dataclass(frozen=True)
class MemoryGroup(Group):
    """Limits memory: user pages, page cache charged to it, and kernel memory such as pipes."""

    version: Version

    def peak_bytes(self) -> int | None:
        """The most it ever held; None where the kernel does not say (v2 before Linux 5.19)."""
        name = "memory.max_usage_in_bytes" if self.version == "v1" else "memory.peak"
        with contextlib.suppress(OSError, ValueError):
            return int((self.directory / name).read_text())
        return None

    def kills(self) -> int:
        """How many of its processes the kernel has killed at the limit."""
        name = "memory.oom_control" if self.version == "v1" else "memory.events"
        for line in _lines(self.directory / name):
            key, _, value = line.partition(" ")
            if key == "oom_kill":
                return int(value)
        return 0


def make_cpu_group(root: Path = Path("/")) -> CpuGroup | None:
    """A new group that accounts CPU time, None when none can be made here."""
    for parent, usage in cpu_parents(root):
        with contextlib.suppress(OSError):
            directory = _make(parent)
            with _removed_on_error(directory):
                (directory / usage).read_text()
            return CpuGroup(directory, directory / usage)
    return None


def make_memory_group(limit_bytes: int, root: Path = Path("/")) -> MemoryGroup | None:
    """A new group that may hold `limit_bytes`, None when none can be made here.

    With swap, v1 would let a group hold more than that: its limit of both together is set as well
    where the kernel has it.
    """
    for parent, version in memory_parents(root):
        with contextlib.suppress(OSError):
            directory = _make(parent)
            with _removed_on_error(directory):
                _limit(directory, limit_bytes, version)
            return MemoryGroup(directory, version)
    return None


def _limit(directory: Path, limit_bytes: int, version: Version) -> None:
    names = ("memory.limit_in_bytes", "memory.memsw.limit_in_bytes")
    first, second = names if version == "v1" else ("memory.max", "memory.swap.max")
    if not (directory / first).exists():
        raise FileNotFoundError(first)  # the controller is off: opening it would make a file
    (directory / first).write_text(f"{limit_bytes}\n")
    with contextlib.suppress(OSError):
        (directory / second).write_text(f"{limit_bytes if version == 'v1' else 0}\n")


def _make(parent: Path) -> Path:
    _sweep(parent)
    directory = parent / f"{_PREFIX}{os.getpid()}-{next(_numbers)}"
    directory.mkdir()
    return directory


@contextlib.contextmanager
def _removed_on_error(directory: Path) -> Iterator[None]:
    try:
        yield
    except OSError:
        with contextlib.suppress(OSError):
            directory.rmdir()
        raise


def _sweep(parent: Path) -> None:
    """Removes the groups of harnesses that were killed; the kernel keeps those still in use."""
    for directory in parent.glob(f"{_PREFIX}*-*"):
        owner = directory.name.split("-")[1]
        if owner.isdigit() and not Path(f"/proc/{owner}").exists():
            with contextlib.suppress(OSError):
                directory.rmdir()


def cpu_parents(root: Path = Path("/")) -> list[tuple[Path, str]]:
    """Our own groups in the hierarchies that account CPU time, the finer one first.

    Each with the name of the file that says how much. `root` is `/` or what imitates it.
    """
    found = [
        (own, "cpuacct.usage" if version == "v1" else "cpu.stat")
        for version, own, _ in _places(root, "cpuacct")
    ]
    return sorted(found, key=lambda pair: pair[1] != "cpuacct.usage")


def memory_parents(root: Path = Path("/")) -> list[tuple[Path, Version]]:
    """Where a group that limits memory may be made, in the order to try; see cpu_parents."""
    found: list[tuple[Path, Version]] = []
    for version, own, top in _places(root, "memory"):
        found.append((own, version))
        if version == "v2" and top != own:
            found.append((top, version))
    return sorted(found, key=lambda pair: pair[1])


def _places(root: Path, controller: str) -> Iterator[tuple[Version, Path, Path]]:
    """Of each hierarchy that may have `controller`: its version, our own group, its top."""
    own = dict(_own_groups(root))
    for kind, controllers, top, mount_point in _mounts(root):
        key = controller if controller in controllers else "" if kind == "cgroup2" else None
        if key is not None and key in own:
            # Seen from inside of a container, our group may not lie below what is mounted.
            inner = own[key].removeprefix(top if top != "/" else "").lstrip("/")
            mounted = root / mount_point.lstrip("/")
            if (mounted / inner).is_dir():
                yield ("v1" if key else "v2"), mounted / inner, mounted


def _own_groups(root: Path) -> Iterator[tuple[str, str]]:
    """Controller and path of each line of /proc/self/cgroup; v2 has no controller, ''."""
    for line in _lines(root / "proc/self/cgroup"):
        _, controllers, path = line.split(":", 2)
        for controller in controllers.split(","):
            yield controller, path


def _mounts(root: Path) -> Iterator[tuple[str, list[str], str, str]]:
    """Type, options, mounted directory and mount point of the group file systems (proc(5))."""
    for line in _lines(root / "proc/self/mountinfo"):
        left, _, right = line.partition(" - ")
        place, kind = left.split(), right.split()
        if len(place) > 4 and len(kind) > 2 and kind[0] in ("cgroup", "cgroup2"):
            yield kind[0], kind[2].split(","), place[3], place[4]


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text().splitlines()
    except OSError:
        return []
