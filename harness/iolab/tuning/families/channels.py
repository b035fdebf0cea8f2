"""Queues of an interface: `ethtool -l` and `-L` (ETHTOOL_SCHANNELS, Linux 3.0; veth since 5.15).

Changing them makes and removes queues and lets the driver set interrupt affinities, RSS, RPS and
XPS anew: it comes first when a profile is applied, last but for those when it is reverted.
"""

from __future__ import annotations

from collections.abc import Iterator

from iolab.tuning.families.base import ToolFamily, ask, current_and_maximum
from iolab.tuning.host import Host
from iolab.tuning.knob import KnobError, Setting, Target
from iolab.tuning.nic import Nic
from iolab.tuning.profile import Profile
from iolab.tuning.scene import Scene

_KINDS = ("rx", "tx", "combined")


class Channels(ToolFamily):
    """The family `channels`. A value is what follows `ethtool -L IF`: `combined 4`, `rx 2 tx 2`."""

    name = "channels"

    def settings(self, profile: Profile, scene: Scene) -> Iterator[Setting]:
        """See Family."""
        wanted = profile.nic.channels
        if wanted is None:
            return
        nic = scene.nic(profile.nic.interface, "nic.channels")
        target = self.target(nic)
        if super().available(scene.host, target) is not None:
            yield Setting(target, str(wanted), "nic.channels")
            return
        maximum = _counts(ask(scene.host, target, "-l", nic.name))[1]
        count = {"max": 1 << 20, "per-core": _cores(scene, nic)}.get(str(wanted), 0) or int(wanted)
        yield Setting(target, _spell(maximum, count, wanted == count), "nic.channels")

    def target(self, nic: Nic) -> Target:
        """The channels of an interface."""
        return Target(self.name, f"channels of {nic.name}", "channels", nic.name, nic.netns)

    def read(self, host: Host, target: Target) -> str:
        """See Family."""
        current, maximum = _counts(ask(host, target, "-l", target.device))
        used = [f"{kind} {current.get(kind, 0)}" for kind in _KINDS if maximum.get(kind)]
        if not used:
            raise KnobError(f"{target.device}: the driver offers no channels to set")
        return " ".join(used)

    def commands(self, target: Target, value: str) -> list[list[str]]:
        """See ToolFamily."""
        return [["ethtool", "-L", target.device, *value.split()]]

    def doubt(self, host: Host, target: Target, value: str) -> str:
        """See Family."""
        return "affinities, RSS, RPS and XPS of its queues were set anew by this"


def queues_of(value: str) -> tuple[int, int]:
    """The receive and transmit queues that a value of this family means."""
    words = value.split()
    counts = {kind: int(count) for kind, count in zip(words[::2], words[1::2], strict=True)}
    both = counts.get("combined", 0)
    return both + counts.get("rx", 0), both + counts.get("tx", 0)


def _counts(text: str) -> tuple[dict[str, int], dict[str, int]]:
    """Current and maximum counts of the kinds that the driver knows."""
    halves = current_and_maximum(text)
    kinds = [{key.lower(): value for key, value in half.items()} for half in halves]
    current, maximum = (
        {kind: int(half[kind]) for kind in _KINDS if half.get(kind, "n/a").isdigit()}
        for half in kinds
    )
    return current, maximum


def _cores(scene: Scene, nic: Nic) -> int:
    """The cores of the interface's node."""
    topology = scene.topology
    local = topology.on_node(nic.node)
    return len({min(topology.siblings.get(cpu, {cpu}) & local) for cpu in local})


def _spell(maximum: dict[str, int], count: int, literal: bool) -> str:
    """`combined N` where the driver has that, else as many of rx and tx.

    Only a number that the profile states is passed on above the maximum, for the driver to refuse.
    """
    if maximum.get("combined"):
        value = count if literal else min(count, maximum["combined"])
        idle = [f"{kind} 0" for kind in ("rx", "tx") if maximum.get(kind)]
        return " ".join([*idle, f"combined {value}"])
    return " ".join(
        f"{kind} {count if literal else min(count, maximum[kind])}"
        for kind in ("rx", "tx")
        if maximum.get(kind)
    )
