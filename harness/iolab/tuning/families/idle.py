"""Idle states: /dev/cpu_dma_latency (Linux 2.6.25, kernel/power/qos.c).

The kernel keeps a process's request for as long as the process keeps the file open: 4 bytes, the
exit latency in microseconds of the deepest idle state allowed, 0 for none but polling; reading
gives the least that anybody asks for. So a small process holds it, started by `apply` and ended by
`revert`. It locks a file in the state directory before it opens the device: a held lock is the
proof that it lives, whatever happened to whoever started it, and its id in that file can have been
given to nobody else.
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Iterator

from iolab.executor import ProcessError
from iolab.tuning import hold
from iolab.tuning.families.base import who
from iolab.tuning.host import Host
from iolab.tuning.knob import KnobError, Setting, Target
from iolab.tuning.profile import Profile
from iolab.tuning.scene import Scene
from iolab.tuning.state import FILE

DEVICE = "dev/cpu_dma_latency"
NONE = "none"


class IdleLatency:
    """The family `idle`. A value is microseconds, or `none` for no request of ours."""

    name = "idle"

    def settings(self, profile: Profile, scene: Scene) -> Iterator[Setting]:
        """See Family."""
        if profile.cpu.latency_usec is not None and not scene.only_netns:
            target = Target(self.name, "cpu_dma_latency", DEVICE)
            yield Setting(target, str(profile.cpu.latency_usec), "cpu.latency_usec")

    def collateral(self, profile: Profile, scene: Scene) -> Iterator[Target]:
        """See Family."""
        yield from ()

    def available(self, host: Host, target: Target) -> str | None:
        """See Family."""
        tree = host.tree()
        if not tree.exists(DEVICE):
            return f"/{DEVICE}: this kernel has no such device"
        return None if tree.writable(DEVICE) else f"/{DEVICE}: not writable; {who()}"

    def read(self, host: Host, target: Target) -> str:
        """See Family: what our holder asks for, as long as the kernel honours it."""
        holder = hold.living(host.state)
        if holder is None:
            return NONE
        effective = _effective(host)
        return str(holder.usec if effective is None else max(holder.usec, effective))

    def write(self, host: Host, target: Target, value: str) -> None:
        """See Family."""
        hold.end(host.state)
        if value == NONE:
            return
        argv = [sys.executable, hold.__file__, str(host.root / DEVICE)]
        try:
            host.executor.detach([*argv, str(host.state), value, str(host.state / FILE)])
        except ProcessError as error:
            raise KnobError(f"/{DEVICE}: {error.message}") from error

    def same(self, target: Target, requested: str, effective: str) -> bool:
        """See Family."""
        return requested == effective

    def doubt(self, host: Host, target: Target, value: str) -> str:
        """See Family."""
        holder = hold.living(host.state)
        held = f"held by process {holder.pid}" if holder else ""
        effective = _effective(host)
        if holder and effective is not None and effective < holder.usec:
            held += f"; another process asks for {effective}, which is in force"
        idle = bool(host.tree().names("sys/devices/system/cpu/cpu0/cpuidle"))
        return held if idle else f"{held}; this host has no idle states to govern".lstrip("; ")

    def shell(self, target: Target, value: str) -> list[str]:
        """See Family: a background process of the script; the undo script ends it."""
        if value == NONE:
            return ["release_latency"]
        return [f"hold_latency {value}"]


def _effective(host: Host) -> int | None:
    """The least latency that anybody asks for, microseconds: what read(2) on the device gives.

    None where the device gives nothing, as one that only stands for it.
    """
    try:
        with (host.root / DEVICE).open("rb", buffering=0) as device:
            value = device.read(4)
    except OSError:
        return None
    return int(struct.unpack("=i", value)[0]) if len(value) == 4 else None
