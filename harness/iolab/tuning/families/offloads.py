"""Offloads and ntuple filters: `ethtool -k` and `-K` (ETHTOOL_SFEATURES, Linux 2.6.39).

Features marked [fixed] cannot be changed; those marked [requested on] wait for another one.
"""

from __future__ import annotations

from collections.abc import Iterator

from iolab.tuning.families.base import ToolFamily, ask, fields
from iolab.tuning.host import Host
from iolab.tuning.knob import KnobError, Setting, Target
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


class Offloads(ToolFamily):
    """The family `offloads`."""

    name = "offloads"

    def settings(self, profile: Profile, scene: Scene) -> Iterator[Setting]:
        """See Family."""
        for name, on in profile.nic.offloads.items():
            yield self._setting(profile, scene, name, on, f"nic.offloads.{name}")
        if profile.nic.ntuple is not None:
            yield self._setting(profile, scene, "ntuple", profile.nic.ntuple, "nic.ntuple")

    def _setting(self, profile: Profile, scene: Scene, name: str, on: bool, key: str) -> Setting:
        nic = scene.nic(profile.nic.interface, key)
        target = Target(self.name, f"{name} of {nic.name}", name, nic.name, nic.netns)
        return Setting(target, "on" if on else "off", key)

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
