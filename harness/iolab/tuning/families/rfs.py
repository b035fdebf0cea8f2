"""Receive flow steering: packets go to the CPU where their socket is read. Linux 2.6.35.

Two tables: /proc/sys/net/core/rps_sock_flow_entries for the host, and rps_flow_cnt of each receive
queue. Either alone is inert: rps_flow_cnt does nothing while the global table has 0 entries
(net/core/dev.c, get_rps_cpu). Both are rounded up to powers of two.
"""

from __future__ import annotations

from collections.abc import Iterator

from iolab.tuning.families.base import RxQueueFamily
from iolab.tuning.host import Host
from iolab.tuning.knob import Setting, Target
from iolab.tuning.profile import Profile
from iolab.tuning.scene import Scene

GLOBAL = "proc/sys/net/core/rps_sock_flow_entries"


class Rfs(RxQueueFamily):
    """The family `rfs`. The global table belongs to the host, whatever the namespace."""

    name = "rfs"
    file = "rps_flow_cnt"

    def settings(self, profile: Profile, scene: Scene) -> Iterator[Setting]:
        """See Family."""
        entries = profile.steering.rfs_entries
        if entries is None:
            return
        key = "steering.rfs_entries"
        if not scene.only_netns:
            yield Setting(Target(self.name, "rps_sock_flow_entries", GLOBAL), str(entries), key)
        nic = scene.nic(profile.nic.interface, key)
        share = _power_of_two_below(entries // max(1, len(nic.rx)))
        for queue in nic.rx:
            yield Setting(self.target(nic.name, nic.netns, queue), str(share), key)

    def doubt(self, host: Host, target: Target, value: str) -> str:
        """See Family."""
        if target.where == GLOBAL or value.strip() == "0":
            return ""
        try:
            inert = host.tree().read(GLOBAL).strip() == "0"
        except OSError:
            return ""
        return "inert: net.core.rps_sock_flow_entries is 0" if inert else ""


def _power_of_two_below(count: int) -> int:
    return 1 << (count.bit_length() - 1) if count else 0
