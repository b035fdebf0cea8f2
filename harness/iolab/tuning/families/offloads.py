"""Offloads and ntuple filters: `ethtool -k` and `-K` (ETHTOOL_SFEATURES, Linux 2.6.39).

Features marked [fixed] cannot be changed; those marked [requested on] wait for another one.
`tx`, `sg` and `tso` are groups: ethtool shows one as on when any member is, and switches all of
them on, so that off and on again is not what was. Each member is a value of its own here.

An interface that forwards loses its large receive offload (dev_disable_lro, net/core/dev.c; called
by net/ipv4/devinet.c and net/ipv6/addrconf.c), which nothing switches on again: it is restored with
the sysctl.
"""

from __future__ import annotations

from collections.abc import Iterator

from iolab.tuning import couplings
from iolab.tuning.families.base import ToolFamily, ask, fields
from iolab.tuning.families.sysctl import Sysctl
from iolab.tuning.host import Host
from iolab.tuning.knob import KnobError, Setting, Target
from iolab.tuning.nic import Nic
from iolab.tuning.profile import Profile
from iolab.tuning.scene import Scene

SHORT = {
    "rx": "rx-checksumming",
    "tx": "tx-checksumming",
    "sg": "scatter-gather",
    "tso": "tcp-segmentation-offload",
    "gso": "generic-segmentation-offload",
    "gro": "generic-receive-offload",
    "lro": "large-receive-offload",
    "ntuple": "ntuple-filters",
    "rxhash": "receive-hashing",
}
"""ethtool's short names of features; it prints the long ones."""

_UNASKED = ("tx-tcp-mangleid-segmentation",)
"""Members of a group that only their own name switches on: the kernel leaves it off as well, for it
gives segments an IP ID that is not unique (net/core/dev.c, register_netdevice)."""


class Offloads(ToolFamily):
    """The family `offloads`."""

    name = "offloads"

    def settings(self, profile: Profile, scene: Scene) -> Iterator[Setting]:
        """See Family."""
        for name, on in profile.nic.offloads.items():
            key = f"nic.offloads.{name}"
            nic = scene.nic(profile.nic.interface, key)
            for member in self._members(scene, nic, name, on):
                yield self._setting(nic, member, on, key)
        if profile.nic.ntuple is not None:
            nic = scene.nic(profile.nic.interface, "nic.ntuple")
            yield self._setting(nic, "ntuple", profile.nic.ntuple, "nic.ntuple")

    def collateral(self, profile: Profile, scene: Scene) -> Iterator[Target]:
        """See Family: of interfaces that have any, those with hardware or others below them."""
        causes = (Sysctl().target(scene, name) for name in profile.sysctl)
        for netns in {one.netns for one in causes if couplings.forwards(one.where)}:
            if netns or not scene.only_netns:
                yield from self._merging(scene.host, netns)

    def _merging(self, host: Host, netns: str) -> Iterator[Target]:
        """The large receive offload of interfaces that have it on and could lose it."""
        tree = host.tree(netns)
        for name in tree.names("sys/class/net"):
            inside = tree.names(f"sys/class/net/{name}")
            if not any(one == "device" or one.startswith("lower_") for one in inside):
                continue
            target = Target(self.name, f"lro of {name}", "lro", name, netns)
            try:
                if self._line(host, target) == "on":
                    yield target
            except KnobError:
                continue

    def _setting(self, nic: Nic, name: str, on: bool, key: str) -> Setting:
        target = Target(self.name, f"{name} of {nic.name}", name, nic.name, nic.netns)
        return Setting(target, "on" if on else "off", key)

    def _members(self, scene: Scene, nic: Nic, name: str, on: bool) -> list[str]:
        """The single features that `name` stands for; `name` itself where it is none's group.

        A member that is fixed the other way is left out when the group is switched on: no driver
        has all of them.
        """
        group = Target(self.name, name, name, nic.name, nic.netns)
        if self.available(scene.host, group) is not None:
            return [name]
        text = ask(scene.host, group, "-k", nic.name)
        lines = members_of(text, SHORT.get(name, name))
        if on:
            kept = [
                one for one, value in lines.items()
                if one not in _UNASKED and (value.startswith("on") or "[fixed]" not in value)
            ]  # fmt: skip
        else:
            kept = [one for one, value in lines.items() if value != "off [fixed]"]
            kept.sort(key=lambda one: one not in _UNASKED)  # it needs the others to come back
        return kept or [name]

    def available(self, host: Host, target: Target) -> str | None:
        """See Family."""
        reason = super().available(host, target)
        if reason is None and "[fixed]" in self._line(host, target):
            return f"{target.device}: {target.where} is fixed by the driver"
        return reason

    def read(self, host: Host, target: Target) -> str:
        """See Family."""
        return self._line(host, target).split()[0]

    def _line(self, host: Host, target: Target) -> str:
        name = SHORT.get(target.where, target.where)
        line = fields(ask(host, target, "-k", target.device)).get(name)
        if not line:
            raise KnobError(f"{target.device}: no feature {target.where!r}; ethtool -k lists them")
        return line

    def commands(self, target: Target, value: str) -> list[list[str]]:
        """See ToolFamily."""
        return [["ethtool", "-K", target.device, target.where, value]]


def members_of(text: str, group: str) -> dict[str, str]:
    """The indented lines below a group in what `ethtool -k` prints, with what they say."""
    found: dict[str, str] = {}
    above = ""
    for line in text.splitlines():
        name, _, value = line.strip().partition(": ")
        if not line.startswith("\t"):
            above = name
        elif above == group:
            found[name] = value.strip()
    return found
