"""sysctl: files below /proc/sys (sysctl(8), Documentation/admin-guide/sysctl/).

A network namespace has its own files below /proc/sys/net (net/sysctl_net.c); there are fewer of
them than on the host, and some are there to be read only: the kernel's answer, not a list of ours,
says which value belongs to the namespace.
"""

from __future__ import annotations

from collections.abc import Iterator

from iolab.tuning.families.base import FileFamily
from iolab.tuning.host import Host
from iolab.tuning.knob import Setting, Target
from iolab.tuning.profile import Profile
from iolab.tuning.scene import Scene


class Sysctl(FileFamily):
    """The family `sysctl`."""

    name = "sysctl"

    def settings(self, profile: Profile, scene: Scene) -> Iterator[Setting]:
        """See Family."""
        for name, value in profile.sysctl.items():
            target = self.target(scene, name)
            if target.netns or not scene.only_netns:
                yield Setting(target, str(value), f"sysctl.{name}")

    def target(self, scene: Scene, name: str) -> Target:
        """The file of a sysctl: the namespace's own where it has one that can be set."""
        where = path_of(name)
        tree = scene.host.tree(scene.netns)
        own = scene.netns if where.startswith("proc/sys/net/") and tree.writable(where) else ""
        return Target(self.name, name, where, netns=own)

    def available(self, host: Host, target: Target) -> str | None:
        """See Family."""
        reason = super().available(host, target)
        if reason and "no such file" in reason:
            return f"{reason} (unknown sysctl, or its module is not loaded)"
        return reason


def path_of(name: str) -> str:
    """The file of a sysctl's name. As in sysctl(8), the separator is whichever comes first.

    `net.ipv4.conf.eth0/100.rp_filter` and `net/ipv4/conf/eth0.100/rp_filter` are the same.
    """
    first = next((char for char in name if char in "./"), ".")
    swapped = name if first == "/" else name.translate(str.maketrans("./", "/."))
    return f"proc/sys/{swapped}"
