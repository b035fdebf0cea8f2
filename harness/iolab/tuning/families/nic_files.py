"""Single files of an interface: /sys/class/net/IF/... (Documentation/ABI/testing/sysfs-class-net*).

Policies (`steering.rps` and its like) compute such values for any machine. This takes one value for
one file, as a script writes it: for a machine whose CPUs and queues are known.

A new MTU moves net.ipv6.conf.IF.mtu, which may have been less (net/ipv6/addrconf.c,
NETDEV_CHANGEMTU). A smaller one lowers that of the interfaces above, which stay so: VLANs and
macvlans (net/8021q/vlan.c, drivers/net/macvlan.c). Those of this namespace are restored.
"""

from __future__ import annotations

from collections.abc import Iterator

from iolab.tuning.cpus import same_mask
from iolab.tuning.families.base import FileFamily
from iolab.tuning.families.sysctl import Sysctl, name_of
from iolab.tuning.host import Host, Tree
from iolab.tuning.knob import Setting, Target
from iolab.tuning.profile import Profile
from iolab.tuning.scene import Scene

_UPPER = "upper_"
"""How the links to the interfaces above one begin (netdev_adjacent_sysfs_add, net/core/dev.c)."""

_MASKS = ("rps_cpus", "xps_cpus", "xps_rxqs")


class NicFiles(FileFamily):
    """The family `nic_files`. It comes after those that make queues or compute such values."""

    name = "nic_files"

    def settings(self, profile: Profile, scene: Scene) -> Iterator[Setting]:
        """See Family."""
        for file, value in profile.nic.files.items():
            key = f"nic.files.{file}"
            nic = scene.nic(profile.nic.interface, key)
            yield Setting(self._target(nic.name, file, nic.netns), str(value), key)

    def _target(self, interface: str, file: str, netns: str) -> Target:
        where = f"sys/class/net/{interface}/{file}"
        return Target(self.name, f"{file} of {interface}", where, interface, netns)

    def collateral(self, profile: Profile, scene: Scene) -> Iterator[Target]:
        """See Family."""
        if "mtu" not in profile.nic.files:
            return
        nic = scene.nic(profile.nic.interface, "nic.files.mtu")
        tree = scene.host.tree(nic.netns)
        # Restored the other way round: the lowest first, and each before what follows it.
        for name in (*reversed(_above(tree, nic.name)), nic.name):
            follower = Sysctl().target(scene, name_of(f"proc/sys/net/ipv6/conf/{name}/mtu"))
            if follower.netns == nic.netns:  # the namespace has it: otherwise it is another's file
                yield follower
            if name != nic.name:
                yield self._target(name, "mtu", nic.netns)

    def doubt(self, host: Host, target: Target, value: str) -> str:
        """See Family."""
        if target.where.endswith("/mtu"):
            return "the other end of the link must have it, too"
        return ""

    def same(self, target: Target, requested: str, effective: str) -> bool:
        """See Family."""
        if target.where.endswith(_MASKS):
            return same_mask(requested, effective)
        return super().same(target, requested, effective)


def _above(tree: Tree, name: str) -> list[str]:
    """The interfaces above one, those above them included, the lowest first."""
    found = [name]
    for one in found:
        links = tree.names(f"sys/class/net/{one}")
        uppers = (link.removeprefix(_UPPER) for link in links if link.startswith(_UPPER))
        found += [upper for upper in uppers if upper not in found]
    return found[1:]
