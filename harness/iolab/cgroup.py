"""A control group that accounts CPU time: of a process and of all it forks, ended ones too.

Two kinds exist. cgroup v1 has the controller cpuacct, cpuacct.usage in nanoseconds (Linux 2.6.24);
of v2, every group but the root has cpu.stat, whatever controllers are on (Linux 4.15). A group is
made below the harness's own, which takes privileges or a delegated group (`systemd-run --user
--scope -p Delegate=yes`). Nothing is limited by it, and it is removed with its server.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_PREFIX = "iolab-"
_REMOVE_TIMEOUT_S = 5.0
_numbers = itertools.count(1)


@dataclass(frozen=True)
class CpuGroup:
    """A group of our own; `usage` is its file with the CPU time, as `cpuclock.usage_ns` reads."""

    directory: Path
    usage: Path

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


def join_cpu_group(pid: int, root: Path = Path("/")) -> CpuGroup | None:
    """A new group with process `pid` in it, None when none can be made here."""
    for parent, usage in cpu_parents(root):
        with contextlib.suppress(OSError):
            return _join(pid, parent, usage)
    return None


def _join(pid: int, parent: Path, usage: str) -> CpuGroup:
    _sweep(parent)
    directory = parent / f"{_PREFIX}{os.getpid()}-{next(_numbers)}"
    directory.mkdir()
    group = CpuGroup(directory, directory / usage)
    try:
        (directory / "cgroup.procs").write_text(f"{pid}\n")
        group.usage.read_text()
    except OSError:
        with contextlib.suppress(OSError):
            directory.rmdir()
        raise
    return group


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
    own = dict(_own_groups(root))
    found = []
    for kind, controllers, top, mount_point in _mounts(root):
        key = "cpuacct" if "cpuacct" in controllers else "" if kind == "cgroup2" else None
        if key is not None and key in own:
            # Seen from inside of a container, our group may not lie below what is mounted.
            inner = own[key].removeprefix(top if top != "/" else "").lstrip("/")
            directory = root / mount_point.lstrip("/") / inner
            if directory.is_dir():
                found.append((directory, "cpuacct.usage" if key else "cpu.stat"))
    return sorted(found, key=lambda pair: pair[1] != "cpuacct.usage")


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
