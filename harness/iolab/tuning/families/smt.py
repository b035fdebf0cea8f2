"""Hardware threads: /sys/devices/system/cpu/smt/control, `on` or `off`, Linux 4.19.

Switching them off takes the second thread of each core off line: interrupts and tasks bound to it
move away (kernel/cpu.c, cpuhp_smt_disable), which is why profiles rarely want it.
"""

from __future__ import annotations

from collections.abc import Iterator

from iolab.tuning.families.base import FileFamily
from iolab.tuning.host import Host
from iolab.tuning.knob import Setting, Target
from iolab.tuning.profile import Profile
from iolab.tuning.scene import Scene


class Smt(FileFamily):
    """The family `smt`."""

    name = "smt"

    def settings(self, profile: Profile, scene: Scene) -> Iterator[Setting]:
        """See Family."""
        if profile.cpu.smt is not None and not scene.only_netns:
            target = Target(self.name, "smt/control", "sys/devices/system/cpu/smt/control")
            yield Setting(target, "on" if profile.cpu.smt else "off", "cpu.smt")

    def available(self, host: Host, target: Target) -> str | None:
        """See Family."""
        reason = super().available(host, target)
        if reason is None and (state := self.read(host, target)) not in ("on", "off"):
            return f"/{target.where} is {state!r}: it cannot be switched"
        return reason
