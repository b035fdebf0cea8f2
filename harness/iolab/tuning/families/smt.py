"""Hardware threads: /sys/devices/system/cpu/smt/control, `on` or `off`, Linux 4.19.

Switching them off takes the second thread of each core off line (kernel/cpu.c, cpuhp_smt_disable).
Interrupts that were bound to such threads alone are bound to all CPUs from then on
(kernel/irq/cpuhotplug.c), which is restored; tasks as well (kernel/sched/core.c,
select_fallback_rq), which nobody could restore thread by thread, so that they are in the way.
"""

from __future__ import annotations

from collections.abc import Iterator

from iolab.topology import Topology, parse_cpu_list
from iolab.tuning.cpus import format_list
from iolab.tuning.families.base import FileFamily
from iolab.tuning.families.irq import any_interrupt
from iolab.tuning.host import Host, Tree
from iolab.tuning.knob import Setting, Target
from iolab.tuning.nic import interrupt_names
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

    def collateral(self, profile: Profile, scene: Scene) -> Iterator[Target]:
        """See Family: the interrupts of any device that serve no CPU that stays."""
        if profile.cpu.smt is not False or scene.only_netns:
            return
        tree, stay = scene.host.tree(), scene.host.topology().one_thread().online
        for number, name in interrupt_names(tree).items():
            target = any_interrupt(number, name)
            try:
                bound = parse_cpu_list(tree.read(f"proc/irq/{number}/smp_affinity_list"))
            except (OSError, ValueError):
                continue
            if not bound & stay:
                yield target

    def available(self, host: Host, target: Target) -> str | None:
        """See Family."""
        reason = super().available(host, target)
        if reason is None and (state := self.read(host, target)) not in ("on", "off"):
            return f"/{target.where} is {state!r}: it cannot be switched"
        if reason is None and state == "on":
            return _bound_task(host.tree(), host.topology())
        return reason


_PF_NO_SETAFFINITY = 0x04000000
"""Threads of the kernel that belong to a CPU and come back with it (include/linux/sched.h)."""


def _bound_task(tree: Tree, topology: Topology) -> str | None:
    """A complaint about the first thread that may run on none of the CPUs that stay."""
    stay = topology.one_thread().online
    for pid in filter(str.isdigit, tree.names("proc")):
        for thread in tree.names(f"proc/{pid}/task"):
            place = f"proc/{pid}/task/{thread}"
            try:
                allowed = _allowed(tree.read(f"{place}/status"))
                head, _, rest = tree.read(f"{place}/stat").rpartition(")")
            except (OSError, ValueError):
                continue  # it has ended
            bound = bool(allowed) and not allowed & stay
            if bound and not int(rest.split()[6]) & _PF_NO_SETAFFINITY:
                name = head.partition("(")[2]
                cpus = format_list(allowed)
                return (
                    f"thread {thread} ({name}) is bound to CPU {cpus}, which would go off line: "
                    "it would be bound to all for good; move it first (taskset -p)"
                )
    return None


def _allowed(status: str) -> frozenset[int]:
    """From the line Cpus_allowed_list of proc(5); empty where there is none."""
    lines = (line.partition(":") for line in status.splitlines())
    found = (text for key, _, text in lines if key == "Cpus_allowed_list")
    return parse_cpu_list(next(found, ""))
