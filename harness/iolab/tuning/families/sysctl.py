"""sysctl: files below /proc/sys (sysctl(8), Documentation/admin-guide/sysctl/).

A network namespace has its own files below /proc/sys/net (net/sysctl_net.c); there are fewer of
them than on the host, and some are there to be read only: the kernel's answer, not a list of ours,
says which value belongs to the namespace. Some sysctls move others (couplings.py): those are
restored as well.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from iolab.tuning.couplings import interface_of, is_one_way, moved_by, restored_by_partner
from iolab.tuning.families.base import FileFamily
from iolab.tuning.host import Host
from iolab.tuning.knob import Impossible, KnobError, Setting, Target
from iolab.tuning.profile import Profile
from iolab.tuning.scene import Scene

_ROUTER = re.compile(r"proc/sys/net/ipv6/conf/(?!default/)[^/]+/forwarding")
"""Who is a router takes no advice from others (rt6_purge_dflt_routers, net/ipv6/addrconf.c)."""


class Sysctl(FileFamily):
    """The family `sysctl`."""

    name = "sysctl"

    def settings(self, profile: Profile, scene: Scene) -> Iterator[Setting]:
        """See Family."""
        for name, value in profile.sysctl.items():
            target = self.target(scene, name)
            if target.netns or not scene.only_netns:
                self._refuse_one_way(scene.host, target, str(value))
                yield Setting(target, str(value), f"sysctl.{name}")

    def collateral(self, profile: Profile, scene: Scene) -> Iterator[Target]:
        """See Family: what the kernel couples with the profile's sysctls."""
        for name, value in profile.sysctl.items():
            cause = self.target(scene, name)
            left_out = scene.only_netns and not cause.netns
            if left_out or self._is_there(scene.host, cause, str(value)):
                continue
            for where in moved_by(scene.host.tree(cause.netns), cause.where):
                target = self.target(scene, name_of(where))
                if target.netns or not scene.only_netns:
                    yield target

    def target(self, scene: Scene, name: str) -> Target:
        """The file of a sysctl: the namespace's own where it has one that can be set."""
        where = path_of(name)
        tree = scene.host.tree(scene.netns)
        own = scene.netns if where.startswith("proc/sys/net/") and tree.writable(where) else ""
        return Target(self.name, name, where, interface_of(where), own)

    def _refuse_one_way(self, host: Host, target: Target, value: str) -> None:
        if is_one_way(target.where, value) and not self._is_there(host, target, value):
            raise Impossible(
                f"sysctl.{target.key}",
                f"{value!r} cannot be undone before the next boot, so that no revert could",
                "set it outside of profiles, or leave it out",
            )

    def _is_there(self, host: Host, target: Target, value: str) -> bool:
        try:
            return self.same(target, value, self.read(host, target))
        except KnobError:
            return False

    def available(self, host: Host, target: Target) -> str | None:
        """See Family."""
        reason = super().available(host, target)
        if reason and "no such file" in reason:
            return f"{reason} (unknown sysctl, or its module is not loaded)"
        return reason

    def doubt(self, host: Host, target: Target, value: str) -> str:
        """See Family."""
        if target.where.endswith("/disable_ipv6") and value != "0":
            return "takes IPv6 addresses and routes away; a revert brings back automatic ones only"
        if _ROUTER.fullmatch(target.where) and value != "0":
            return "drops default routes learnt from routers; a revert waits for their next message"
        return ""

    def shell(self, target: Target, value: str) -> list[str]:
        """See Family."""
        if restored_by_partner(target.where, value):
            # A step of an undo script is a function, which has to hold a command.
            return [f"# {value} is not written: setting its partner makes it so", ":"]
        return super().shell(target, value)


def path_of(name: str) -> str:
    """The file of a sysctl's name. As in sysctl(8), the separator is whichever comes first.

    `net.ipv4.conf.eth0/100.rp_filter` and `net/ipv4/conf/eth0.100/rp_filter` are the same.
    """
    first = next((char for char in name if char in "./"), ".")
    swapped = name if first == "/" else name.translate(str.maketrans("./", "/."))
    return f"proc/sys/{swapped}"


def name_of(where: str) -> str:
    """The name of a sysctl's file, with dots: the inverse of `path_of`."""
    return where.removeprefix("proc/sys/").translate(str.maketrans("./", "/."))
