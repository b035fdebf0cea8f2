"""Affinity of the interface's interrupts: /proc/irq/N/smp_affinity_list (Linux 3.0).

effective_affinity_list (Linux 4.13) says where the interrupt is delivered; it may be stale until
the next interrupt, when the move is made (kernel/irq/migration.c). Managed interrupts, spread by
the kernel, refuse with EIO, new kernels with EPERM and files that have no mode to write
(kernel/irq/proc.c, register_irq_proc). The names are the driver's: virtio's are
`virtio2-input.0`, never `eth0`, so that the device's msi_irqs decide, not a search for the
interface's name. A running irqbalance moves interrupts back, unless it is told to leave them alone
(family `irqbalance`). A driver that asks for its vectors anew gets other numbers, and the old ones
may go to another device: an interrupt is found again by its device and name.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from dataclasses import replace

from iolab.topology import parse_cpu_list
from iolab.tuning import irqbalance
from iolab.tuning.cpus import candidates, format_list
from iolab.tuning.families.base import FileFamily, explain, remakes_queues, who, why_unreadable
from iolab.tuning.host import Host
from iolab.tuning.knob import Gone, Impossible, KnobError, Setting, Target
from iolab.tuning.nic import Irq, Nic, interrupt_names, irq_numbers, queue_of
from iolab.tuning.profile import Profile
from iolab.tuning.scene import Scene

_MANAGED = "the kernel manages this interrupt's affinity: nobody else can set it"

_ANY = "-"
"""In the place of a device: whichever has an interrupt of that name."""


class IrqAffinity(FileFamily):
    """The family `irq`: interrupts of one queue share a CPU, queues take the policy's in turn.

    A target's `where` is `NUMBER NAME DEVICE`, of which the number may be an old one.
    """

    name = "irq"

    def settings(self, profile: Profile, scene: Scene) -> Iterator[Setting]:
        """See Family."""
        policy = profile.irq.policy
        if policy is None or scene.only_netns:
            return
        nic = scene.nic(profile.nic.interface, "irq.policy")
        self._mind_irqbalance(profile, scene)
        reserve = parse_cpu_list(profile.irq.reserve)
        cpus = candidates(policy, scene.topology, nic.node, reserve)
        queues = sorted({irq.queue for irq in nic.irqs})
        for irq in nic.irqs:
            cpu = cpus[queues.index(irq.queue) % len(cpus)]
            yield Setting(self.target(nic, irq), format_list({cpu}), "irq.policy")
        if not nic.irqs:
            lack = Target(self.name, f"interrupts of {nic.name}", "", nic.name, nic.netns)
            yield Setting(lack, "", "irq.policy")

    def _mind_irqbalance(self, profile: Profile, scene: Scene) -> None:
        pid = irqbalance.running(scene.host.tree())
        if pid is not None and profile.irq.irqbalance == "refuse":
            raise Impossible(
                "irq.policy",
                f"irqbalance runs (process {pid}) and would move the interrupts back",
                'systemctl stop irqbalance, or irq.irqbalance = "ban" or "report"',
            )

    def collateral(self, profile: Profile, scene: Scene) -> Iterator[Target]:
        """See Family: drivers set affinities anew as they ask for interrupts anew."""
        if remakes_queues(profile) and not scene.only_netns:
            nic = scene.nic(profile.nic.interface, "nic")
            yield from (self.target(nic, irq) for irq in nic.irqs)

    def target(self, nic: Nic, irq: Irq) -> Target:
        """The affinity of an interrupt."""
        where = f"{irq.number} {irq.name} {irq.device}"
        return Target(self.name, f"affinity of {irq.number} ({irq.name})", where, nic.name)

    def available(self, host: Host, target: Target) -> str | None:
        """See Family."""
        if not target.where:
            return f"{target.device} has no interrupts of its own queues"
        reason = why_unreadable(self.read, host, target)
        if reason is None and not host.tree().mode(_file(host, target)) & 0o222:
            reason = f"/{_file(host, target)}: {_MANAGED}"
        if reason is None and not host.tree().writable(_file(host, target)):
            reason = f"/{_file(host, target)}: not writable; {who()}"
        return reason

    def read(self, host: Host, target: Target) -> str:
        """See Family."""
        return super().read(host, replace(target, where=_file(host, target)))

    def write(self, host: Host, target: Target, value: str) -> None:
        """See Family."""
        where = _file(host, target)
        try:
            host.tree().write(where, value)
        except OSError as error:
            reason = _MANAGED if error.errno in (errno.EIO, errno.EPERM) else explain(error)
            raise KnobError(f"/{where}: {value!r} refused: {reason}") from error

    def same(self, target: Target, requested: str, effective: str) -> bool:
        """See Family."""
        try:
            return parse_cpu_list(requested) == parse_cpu_list(effective)
        except ValueError:
            return False

    def doubt(self, host: Host, target: Target, value: str) -> str:
        """See Family."""
        try:
            number = _number(host, target)
        except KnobError:
            return ""
        doubts = []
        try:
            effective = host.tree().read(f"proc/irq/{number}/effective_affinity_list")
            if not parse_cpu_list(effective) <= parse_cpu_list(value):
                doubts.append(f"still delivered to CPU {effective} until the next interrupt")
        except (OSError, ValueError):
            pass
        pid = irqbalance.running(host.tree())
        if pid is not None and number not in _left_alone(host, pid):
            doubts.append(f"irqbalance (process {pid}) may move it back")
        return "; ".join(doubts)

    def shell(self, target: Target, value: str) -> list[str]:
        """See Family: a script knows the numbers of now."""
        number = target.where.split()[0]
        return super().shell(
            replace(target, where=f"proc/irq/{number}/smp_affinity_list", netns=""), value
        )


def any_interrupt(number: int, name: str) -> Target:
    """The affinity of an interrupt whose device does not matter."""
    return Target(IrqAffinity.name, f"affinity of {number} ({name})", f"{number} {name} {_ANY}")


def _file(host: Host, target: Target) -> str:
    return f"proc/irq/{_number(host, target)}/smp_affinity_list"


def _number(host: Host, target: Target) -> int:
    """The number that an interrupt has now. Gone when its device has none such.

    A name that is not there any more may be that of a renamed interface: an interrupt of the same
    device, number and queue is the same one.
    """
    if not target.where:
        raise KnobError(f"{target.device} has no interrupts of its own queues")
    then, name, device = target.where.split()
    names = interrupt_names(host.tree())
    numbers = frozenset(names) if device == _ANY else irq_numbers(host.tree(), device)
    here = sorted(number for number in numbers if names.get(number) == name)
    if not here:
        queue = queue_of(name)
        here = [one for one in numbers & {int(then)} if queue_of(names.get(one, "")) == queue]
    if not here:
        raise Gone(f"interrupt {name} is gone, and its affinity with it")
    return int(then) if int(then) in here else here[0]


def _left_alone(host: Host, pid: int) -> frozenset[int]:
    try:
        return irqbalance.banned(host.root, pid)
    except KnobError:
        return frozenset()
