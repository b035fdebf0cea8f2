"""Limits of a process: RLIMIT_NOFILE and RLIMIT_MEMLOCK (setrlimit(2), /proc/PID/limits).

A limit belongs to a process and is inherited by its children: `ulimit -n` in a script dies with the
script's shell. So it is set by prlimit(2) on the process that called iolab, your shell, and holds
for what that starts next. The hard limit is raised where needed and never lowered: lowering it
could not be undone without CAP_SYS_RESOURCE. RLIMIT_NOFILE cannot exceed fs.nr_open (EPERM).
"""

from __future__ import annotations

from collections.abc import Iterator

from iolab.tuning.families.base import explain, why_unreadable
from iolab.tuning.host import Host
from iolab.tuning.knob import Gone, KnobError, Setting, Target
from iolab.tuning.profile import Profile
from iolab.tuning.scene import Scene

_LINES = {"nofile": "Max open files", "memlock": "Max locked memory"}
_ULIMIT = {"nofile": "-n", "memlock": "-l"}
UNLIMITED = -1


class ProcessLimits:
    """The family `limits`. A value is `SOFT HARD`; a device is `PID STARTTIME`."""

    name = "limits"

    def settings(self, profile: Profile, scene: Scene) -> Iterator[Setting]:
        """See Family."""
        if scene.only_netns:
            return
        wanted = {"nofile": profile.limits.nofile, "memlock": profile.limits.memlock_bytes}
        for name, limit in wanted.items():
            if limit is not None:
                key = "limits.nofile" if name == "nofile" else "limits.memlock_bytes"
                target = self.target(scene.host, scene.limits_pid, name)
                yield Setting(target, self._value(scene.host, target, limit), key)

    def target(self, host: Host, pid: int, name: str) -> Target:
        """A limit of a process; the start time tells it from a later one with its id."""
        if not pid:
            return Target(self.name, name, name)
        started = start_time(host, pid)
        key = f"{name} of process {pid} ({comm(host, pid)})"
        return Target(self.name, key, name, device=f"{pid} {started}")

    def collateral(self, profile: Profile, scene: Scene) -> Iterator[Target]:
        """See Family."""
        yield from ()

    def available(self, host: Host, target: Target) -> str | None:
        """See Family."""
        if not target.device:
            return (
                "iolab was called by no process of this session (a unit, cron, docker exec?): "
                "--limits-of PID, or set it there (LimitNOFILE=)"
            )
        pid, started = target.device.split()
        if started == "0":
            return f"there is no process {pid}: --limits-of PID names one that runs"
        return why_unreadable(self.read, host, target)

    def read(self, host: Host, target: Target) -> str:
        """See Family."""
        if not target.device:
            raise KnobError(f"{target.key}: no process to read it of")
        pid = self._pid(host, target)
        try:
            lines = host.tree().read(f"proc/{pid}/limits").splitlines()
        except OSError as error:
            raise KnobError(f"/proc/{pid}/limits: {explain(error)}") from error
        for line in lines:
            if line.startswith(_LINES[target.where]):
                soft, hard = line[len(_LINES[target.where]) :].split()[:2]
                return f"{soft} {hard}"
        raise KnobError(f"/proc/{pid}/limits: no line {_LINES[target.where]!r}")

    def write(self, host: Host, target: Target, value: str) -> None:
        """See Family."""
        pid = self._pid(host, target)
        soft, hard = (UNLIMITED if word == "unlimited" else int(word) for word in value.split())
        try:
            host.prlimit(pid, target.where, soft, hard)
        except (OSError, ValueError) as error:
            reason = explain(error) if isinstance(error, OSError) else str(error)
            bound = _bound(host) if target.where == "nofile" else ""
            raise KnobError(
                f"{target.key}: {value} refused: {reason}{bound}",
                "raising a hard limit needs root, and fs.nr_open at least as high",
            ) from error

    def same(self, target: Target, requested: str, effective: str) -> bool:
        """See Family."""
        return requested.split() == effective.split()

    def doubt(self, host: Host, target: Target, value: str) -> str:
        """See Family."""
        return "holds for this process and what it starts from now on"

    def shell(self, target: Target, value: str) -> list[str]:
        """See Family: a script can only set its own; it has to be sourced to last.

        A soft limit must not exceed the hard one (EINVAL): lowered before that, raised after it.
        """
        option = _ULIMIT[target.where]
        soft, hard = value.split()
        unit = 1024 if target.where == "memlock" else 1
        words = [word if word == "unlimited" else str(int(word) // unit) for word in (soft, hard)]
        return [
            "# a limit dies with its shell: source this file to keep it",
            "# shellcheck disable=SC3045 # in dash, ksh, bash and busybox",
            f"ulimit -S {option} {words[0]} 2>/dev/null || :",
            f"run ulimit -H {option} {words[1]}",
            f"run ulimit -S {option} {words[0]}",
        ]

    def _value(self, host: Host, target: Target, limit: int | str) -> str:
        """Soft and hard limit; what is asked for where there is none to go by, see `available`."""
        try:
            hard = self.read(host, target).split()[1]
        except KnobError:
            return str(limit)
        if limit == "unlimited":
            return "unlimited unlimited"
        if hard == "unlimited" or int(hard) >= int(limit):
            return f"{limit} {hard}"
        return f"{limit} {limit}"

    def _pid(self, host: Host, target: Target) -> int:
        pid, started = target.device.split()
        if start_time(host, int(pid)) != started:
            raise Gone(f"process {pid} has ended, and its limits with it")
        return int(pid)


def _bound(host: Host) -> str:
    """A clause on fs.nr_open: setrlimit(2) refuses any hard limit above it, an old one as well."""
    try:
        return f"; fs.nr_open is {host.tree().read('proc/sys/fs/nr_open')}"
    except OSError:
        return ""


def start_time(host: Host, pid: int) -> str:
    """When a process started, in clock ticks since boot (proc(5), stat field 22); `0`: it ended."""
    try:
        return host.tree().read(f"proc/{pid}/stat").rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return "0"


def comm(host: Host, pid: int) -> str:
    """The name of a process."""
    try:
        return host.tree().read(f"proc/{pid}/comm")
    except OSError:
        return "ended"
