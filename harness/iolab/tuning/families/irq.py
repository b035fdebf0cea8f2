"""Affinity of the interface's interrupts: /proc/irq/N/smp_affinity_list (Linux 3.0).

effective_affinity_list (Linux 4.13) says where the interrupt is delivered; it may be stale until
the next interrupt, when the move is made (kernel/irq/migration.c). Managed interrupts, spread by
the kernel, refuse with EIO, new kernels with EPERM and files that have no mode to write
(kernel/irq/proc.c, register_irq_proc). The names are the driver's: virtio's are
`virtio2-input.0`, never `eth0`, so that the device's msi_irqs decide, not a search for the
interface's name. A running irqbalance moves interrupts back, unless it is told to leave them alone
(family `irqbalance`).
"""

from __future__ import annotations

import errno
from collections.abc import Iterator

from iolab.topology import parse_cpu_list
from iolab.tuning import irqbalance
from iolab.tuning.cpus import candidates, format_list
from iolab.tuning.families.base import FileFamily, explain
from iolab.tuning.host import Host
from iolab.tuning.knob import Impossible, KnobError, Setting, Target
from iolab.tuning.nic import Irq, Nic
from iolab.tuning.profile import Profile
from iolab.tuning.scene import Scene

_MANAGED = "the kernel manages this interrupt's affinity: nobody else can set it"


class IrqAffinity(FileFamily):
    """The family `irq`: interrupts of one queue share a CPU, queues take the policy's in turn."""

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
            where = "sys/class/net/" + nic.name + "/device/msi_irqs"
            lack = Target(self.name, f"interrupts of {nic.name}", where, nic.name, nic.netns)
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
        """See Family: drivers set affinities anew when `ethtool -L` changes the queues."""
        if profile.nic.channels is not None and not scene.only_netns:
            nic = scene.nic(profile.nic.interface, "nic.channels")
            yield from (self.target(nic, irq) for irq in nic.irqs)

    def target(self, nic: Nic, irq: Irq) -> Target:
        """The affinity of an interrupt."""
        where = f"proc/irq/{irq.number}/smp_affinity_list"
        return Target(self.name, f"affinity of {irq.number} ({irq.name})", where, nic.name)

    def available(self, host: Host, target: Target) -> str | None:
        """See Family."""
        if not target.where.startswith("proc/irq/"):
            return f"{target.device} has no interrupts of its own queues"
        try:
            if not host.tree().mode(target.where) & 0o222:
                return f"/{target.where}: {_MANAGED}"
        except OSError:
            pass  # the file is not there, which is said below
        return super().available(host, target)

    def write(self, host: Host, target: Target, value: str) -> None:
        """See Family."""
        try:
            host.tree().write(target.where, value)
        except OSError as error:
            reason = _MANAGED if error.errno in (errno.EIO, errno.EPERM) else explain(error)
            raise KnobError(f"/{target.where}: {value!r} refused: {reason}") from error

    def same(self, target: Target, requested: str, effective: str) -> bool:
        """See Family."""
        try:
            return parse_cpu_list(requested) == parse_cpu_list(effective)
        except ValueError:
            return False

    def doubt(self, host: Host, target: Target, value: str) -> str:
        """See Family."""
        doubts = []
        where = target.where.replace("smp_affinity_list", "effective_affinity_list")
        try:
            effective = host.tree().read(where)
            if not parse_cpu_list(effective) <= parse_cpu_list(value):
                doubts.append(f"still delivered to CPU {effective} until the next interrupt")
        except (OSError, ValueError):
            pass
        pid = irqbalance.running(host.tree())
        if pid is not None and int(target.where.split("/")[2]) not in _left_alone(host, pid):
            doubts.append(f"irqbalance (process {pid}) may move it back")
        return "; ".join(doubts)


def _left_alone(host: Host, pid: int) -> frozenset[int]:
    try:
        return irqbalance.banned(host.root, pid)
    except KnobError:
        return frozenset()
