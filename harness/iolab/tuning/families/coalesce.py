"""Interrupt coalescing: `ethtool -c` and `-C` (ETHTOOL_SCOALESCE).

How long (microseconds) or for how many frames an interrupt is held back. Adaptive coalescing lets
the driver choose (net/dim), and ignores fixed values while it is on.
"""

from __future__ import annotations

from collections.abc import Iterator

from iolab.tuning.families.base import ToolFamily, ask, fields
from iolab.tuning.host import Host
from iolab.tuning.knob import KnobError, Setting, Target
from iolab.tuning.profile import Profile
from iolab.tuning.scene import Scene


class Coalescing(ToolFamily):
    """The family `coalesce`; parameters by ethtool's names, such as `rx-usecs`."""

    name = "coalesce"

    def settings(self, profile: Profile, scene: Scene) -> Iterator[Setting]:
        """See Family: adaptive first, the others may depend on it."""
        for field, value in profile.nic.coalesce.model_dump(exclude_none=True).items():
            key = f"nic.coalesce.{field}"
            nic = scene.nic(profile.nic.interface, key)
            name = field.replace("_", "-")
            target = Target(self.name, f"{name} of {nic.name}", name, nic.name, nic.netns)
            spelled = {True: "on", False: "off"}[value] if isinstance(value, bool) else str(value)
            yield Setting(target, spelled, key)

    def read(self, host: Host, target: Target) -> str:
        """See Family."""
        text = ask(host, target, "-c", target.device)
        mode, _, side = target.where.rpartition("-")
        if mode in _PAIRS:
            value = _pair(text, _PAIRS[mode], side.upper())
        else:
            value = fields(text).get(_label(target.where), "n/a")
        if value == "n/a":
            raise KnobError(f"{target.device}: the driver has no {target.where}")
        return value

    def commands(self, target: Target, value: str) -> list[list[str]]:
        """See ToolFamily."""
        return [["ethtool", "-C", target.device, target.where, value]]


_PAIRS = {"adaptive": "Adaptive", "cqe-mode": "CQE mode"}
"""Parameters of which ethtool shows both directions on one line, and what it begins with."""


def _label(name: str) -> str:
    """What ethtool -c prints: `rx-frame-low` for what -C calls `rx-frames-low`."""
    return name.replace("-frames-", "-frame-") if name.endswith(("-low", "-high")) else name


def _pair(text: str, start: str, side: str) -> str:
    """From a line such as `Adaptive RX: off  TX: n/a`."""
    words = next((one for one in text.splitlines() if one.startswith(start)), "").split()
    label = f"{side}:"
    return words[words.index(label) + 1] if label in words else "n/a"
