"""irqbalance: the interrupts of the interface that a running daemon is to leave alone.

Told over its control socket (iolab.tuning.irqbalance), not by --banirq or /etc/default/irqbalance,
which take a restart. It comes before the affinities: the daemon rescans when its list changes, and
sets what it is not told to leave alone anew.
"""

from __future__ import annotations

from collections.abc import Iterator

from iolab.tuning import irqbalance
from iolab.tuning.families.base import why_unreadable
from iolab.tuning.families.limits import start_time
from iolab.tuning.host import Host
from iolab.tuning.knob import Gone, KnobError, Setting, Target
from iolab.tuning.profile import Profile
from iolab.tuning.scene import Scene

NONE = "none"


class IrqBalance:
    """The family `irqbalance`. A value is numbers or `none`; `where` is `PID STARTTIME`."""

    name = "irqbalance"

    def settings(self, profile: Profile, scene: Scene) -> Iterator[Setting]:
        """See Family: what the daemon leaves alone already, and the interface's interrupts."""
        if profile.irq.policy is None or profile.irq.irqbalance != "ban" or scene.only_netns:
            return
        pid = irqbalance.running(scene.host.tree())
        nic = scene.nic(profile.nic.interface, "irq.policy")
        if pid is not None and nic.irqs:
            target = self.target(scene.host, pid)
            wanted = {irq.number for irq in nic.irqs} | self._before(scene.host, target)
            yield Setting(target, _spell(wanted), "irq.irqbalance")

    def target(self, host: Host, pid: int) -> Target:
        """The list of one daemon; the start time tells it from a later one with its id."""
        key = f"interrupts left alone by irqbalance (process {pid})"
        return Target(self.name, key, f"{pid} {start_time(host, pid)}")

    def collateral(self, profile: Profile, scene: Scene) -> Iterator[Target]:
        """See Family."""
        yield from ()

    def available(self, host: Host, target: Target) -> str | None:
        """See Family."""
        reason = why_unreadable(self.read, host, target)
        remedy = 'systemctl stop irqbalance, or irq.irqbalance = "report"'
        return None if reason is None else f"{reason}; {remedy}"

    def read(self, host: Host, target: Target) -> str:
        """See Family."""
        return _spell(irqbalance.banned(host.root, _pid(host, target)))

    def write(self, host: Host, target: Target, value: str) -> None:
        """See Family."""
        irqbalance.ban(host.root, _pid(host, target), _numbers(value))

    def same(self, target: Target, requested: str, effective: str) -> bool:
        """See Family."""
        return _numbers(requested) == _numbers(effective)

    def doubt(self, host: Host, target: Target, value: str) -> str:
        """See Family."""
        return "for as long as this irqbalance runs"

    def shell(self, target: Target, value: str) -> list[str]:
        """See Family; the kernel adds the credentials that socat does not send."""
        path = f"/run/irqbalance/irqbalance{target.where.split()[0]}.sock"
        message = f"settings ban irqs {'NONE' if value == NONE else value}"
        return [f'run sh -c \'printf "%s" "{message}" | socat -u STDIN UNIX-CONNECT:{path}\'']

    def _before(self, host: Host, target: Target) -> frozenset[int]:
        try:
            return _numbers(self.read(host, target))
        except KnobError:
            return frozenset()


def _pid(host: Host, target: Target) -> int:
    pid, started = target.where.split()
    if start_time(host, int(pid)) != started:
        raise Gone(f"irqbalance (process {pid}) has ended, and its list with it")
    return int(pid)


def _spell(numbers: frozenset[int] | set[int]) -> str:
    return " ".join(str(number) for number in sorted(numbers)) or NONE


def _numbers(value: str) -> frozenset[int]:
    return frozenset(int(word) for word in value.split() if word != NONE)
