"""Transmit packet steering: which queue a CPU sends on. xps_cpus: Linux 2.6.38, xps_rxqs: 4.19.

/sys/class/net/IF/queues/tx-N/xps_cpus and xps_rxqs; a device with one transmit queue has the files,
and reading them gives ENOENT (net/core/net-sysfs.c). With xps_rxqs a socket sends on the queue of
the pair that it receives on; it wins over xps_cpus.
"""

from __future__ import annotations

from collections.abc import Iterator

from iolab.topology import parse_cpu_list
from iolab.tuning.cpus import Policy, candidates, format_mask, same_mask, share_out
from iolab.tuning.families.base import FileFamily, remakes_queues
from iolab.tuning.host import Host
from iolab.tuning.knob import Setting, Target
from iolab.tuning.nic import Nic
from iolab.tuning.profile import Profile
from iolab.tuning.scene import Scene


class Xps(FileFamily):
    """The family `xps`: two masks for each transmit queue."""

    name = "xps"

    def settings(self, profile: Profile, scene: Scene) -> Iterator[Setting]:
        """See Family: every CPU is given to exactly one queue, so that none is left to the hash."""
        policy = profile.steering.xps
        if policy is None:
            return
        nic = scene.nic(profile.nic.interface, "steering.xps")
        cpus, rxqs = ["0"] * len(nic.tx), ["0"] * len(nic.tx)
        if policy == "rx-queues":
            rxqs = [format_mask({queue}) for queue in nic.tx]
        elif policy != "off":
            cpus = self._masks(policy, nic, profile, scene)
        for queue, cpu_mask, rx_mask in zip(nic.tx, cpus, rxqs, strict=True):
            yield Setting(self.target(nic, queue, "xps_rxqs"), rx_mask, "steering.xps")
            yield Setting(self.target(nic, queue, "xps_cpus"), cpu_mask, "steering.xps")

    def _masks(self, policy: Policy, nic: Nic, profile: Profile, scene: Scene) -> list[str]:
        reserve = parse_cpu_list(profile.steering.reserve)
        order = candidates(policy, scene.topology, nic.node, reserve)
        every = scene.topology.online if policy == "one-per-queue" else order
        return [format_mask(one) for one in share_out(len(nic.tx), every, order)]

    def collateral(self, profile: Profile, scene: Scene) -> Iterator[Target]:
        """See Family: `ethtool -L` clears the maps (netif_reset_xps_queues_gt), drivers may too."""
        if remakes_queues(profile):
            nic = scene.nic(profile.nic.interface, "nic")
            for queue in nic.tx:
                yield self.target(nic, queue, "xps_rxqs")
                yield self.target(nic, queue, "xps_cpus")

    def target(self, nic: Nic, queue: int, file: str) -> Target:
        """A mask of a queue."""
        where = f"sys/class/net/{nic.name}/queues/tx-{queue}/{file}"
        return Target(self.name, f"{file} of {nic.name} tx-{queue}", where, nic.name, nic.netns)

    def available(self, host: Host, target: Target) -> str | None:
        """See Family."""
        reason = super().available(host, target)
        if reason and "ENOENT" in reason:
            return f"{target.device} has one transmit queue: there is nothing to steer"
        return reason

    def same(self, target: Target, requested: str, effective: str) -> bool:
        """See Family."""
        return same_mask(requested, effective)
