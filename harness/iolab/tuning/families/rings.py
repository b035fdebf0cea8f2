"""Descriptor rings of an interface: `ethtool -g` and `-G` (ETHTOOL_SRINGPARAM).

Drivers round the number of descriptors up, and take the link down for a moment to set it.
"""

from __future__ import annotations

from collections.abc import Iterator

from iolab.tuning.families.base import ToolFamily, ask, current_and_maximum
from iolab.tuning.host import Host
from iolab.tuning.knob import KnobError, Setting, Target
from iolab.tuning.profile import Profile
from iolab.tuning.scene import Scene


class Rings(ToolFamily):
    """The family `rings`: `rx` and `tx`, in descriptors."""

    name = "rings"

    def settings(self, profile: Profile, scene: Scene) -> Iterator[Setting]:
        """See Family."""
        for kind, wanted in (("rx", profile.nic.rx_ring), ("tx", profile.nic.tx_ring)):
            if wanted is None:
                continue
            nic = scene.nic(profile.nic.interface, f"nic.{kind}_ring")
            target = Target(self.name, f"{kind} ring of {nic.name}", kind, nic.name, nic.netns)
            value = str(wanted)
            if wanted == "max" and self.available(scene.host, target) is None:
                value = current_and_maximum(ask(scene.host, target, "-g", nic.name))[1][
                    kind.upper()
                ]
            yield Setting(target, value, f"nic.{kind}_ring")

    def read(self, host: Host, target: Target) -> str:
        """See Family."""
        current, _ = current_and_maximum(ask(host, target, "-g", target.device))
        value = current.get(target.where.upper(), "n/a")
        if not value.isdigit():
            raise KnobError(f"{target.device}: the driver has no {target.where} ring to set")
        return value

    def commands(self, target: Target, value: str) -> list[list[str]]:
        """See ToolFamily."""
        return [["ethtool", "-G", target.device, target.where, value]]
