"""Receive packet steering: /sys/class/net/IF/queues/rx-N/rps_cpus, Linux 2.6.35.

The CPU that takes the interrupt hashes each packet and hands it to one of these CPUs by an
inter-processor interrupt (net/core/dev.c, get_rps_cpu). With a hardware queue for each CPU it only
adds work; it helps devices with fewer queues than CPUs, and veth.
"""

from __future__ import annotations

from collections.abc import Iterator

from iolab.topology import parse_cpu_list
from iolab.tuning.cpus import candidates, format_mask, one_each, same_mask
from iolab.tuning.families.base import RxQueueFamily
from iolab.tuning.knob import Setting, Target
from iolab.tuning.profile import Profile
from iolab.tuning.scene import Scene


class Rps(RxQueueFamily):
    """The family `rps`: a mask for each receive queue."""

    name = "rps"
    file = "rps_cpus"

    def settings(self, profile: Profile, scene: Scene) -> Iterator[Setting]:
        """See Family."""
        policy = profile.steering.rps
        if policy is None:
            return
        nic = scene.nic(profile.nic.interface, "steering.rps")
        reserve = parse_cpu_list(profile.steering.reserve)
        if policy == "off":
            masks = ["0"] * len(nic.rx)
        else:
            cpus = candidates(policy, scene.topology, nic.node, reserve)
            sets = (
                [[cpu] for cpu in one_each(len(nic.rx), cpus)]
                if policy == "one-per-queue"
                else [cpus] * len(nic.rx)
            )
            masks = [format_mask(one) for one in sets]
        for queue, mask in zip(nic.rx, masks, strict=True):
            yield Setting(self.target(nic.name, nic.netns, queue), mask, "steering.rps")

    def same(self, target: Target, requested: str, effective: str) -> bool:
        """See Family."""
        return same_mask(requested, effective)
