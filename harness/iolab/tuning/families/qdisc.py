"""Root queue discipline of an interface: `tc qdisc` (tc(8), net/sched/sch_generic.c).

net.core.default_qdisc reaches an interface only when its root is made anew, so this sets the root
itself. `fq` as root replaces mq and with it the queues' own disciplines: `mq/fq` keeps them, one fq
for each transmit queue. A root that somebody gave options or a handle cannot be restored exactly
and is not touched; the kernel's own (handle 0:) comes back when ours is deleted.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from iolab.tuning.families.base import ToolFamily
from iolab.tuning.host import Host
from iolab.tuning.knob import KnobError, Setting, Target
from iolab.tuning.nic import Nic
from iolab.tuning.profile import Profile
from iolab.tuning.scene import Scene

_OURS = "10fb:"
"""Handle of a root that iolab made: it tells it from the kernel's own, and names its queues."""

_BETWEEN = "10fc:"
"""Handle of the root that stands for a moment before the kernel's own comes back: a handle in use
cannot be given to another kind."""

_HOOKS = ("ingress", "clsact")


class QueueDiscipline(ToolFamily):
    """The family `qdisc`.

    A value is `fq`, `mq/fq`, or `default fq` and `default mq/fq` for what the kernel attached by
    itself.
    """

    name = "qdisc"
    tool = "tc"

    def settings(self, profile: Profile, scene: Scene) -> Iterator[Setting]:
        """See Family: below mq there is one for each queue; a device with one queue has no mq."""
        wanted = profile.nic.qdisc
        if wanted is None:
            return
        nic = scene.nic(profile.nic.interface, "nic.qdisc")
        value = wanted.removeprefix("mq/") if len(nic.tx) == 1 else wanted
        queues = f" {len(nic.tx)}" if value.startswith("mq/") else ""
        yield Setting(self.target(nic), value + queues, "nic.qdisc")

    def collateral(self, profile: Profile, scene: Scene) -> Iterator[Target]:
        """See Family.

        A deleted root is replaced by the default of that moment; net.core.default_qdisc is
        restored after it, and the root has to be made once more.
        """
        if profile.nic.qdisc is not None or profile.nic.channels is not None:
            yield self.target(scene.nic(profile.nic.interface, "nic.qdisc"))

    def target(self, nic: Nic) -> Target:
        """The root of an interface."""
        return Target(self.name, f"root qdisc of {nic.name}", "root", nic.name, nic.netns)

    def available(self, host: Host, target: Target) -> str | None:
        """See Family."""
        reason = super().available(host, target)
        if reason is None and not self.read(host, target).startswith("default "):
            return (
                f"{target.device}: its root qdisc was set by hand and could not be restored "
                f"exactly; tc qdisc del dev {target.device} root"
            )
        return reason

    def read(self, host: Host, target: Target) -> str:
        """See Family."""
        argv = ["tc", "-j", "qdisc", "show", "dev", target.device]
        try:
            listing = json.loads(host.run(argv, target.netns).stdout or "[]")
        except ValueError as error:
            raise KnobError(f"{target.device}: tc printed no JSON") from error
        return _summary(target.device, listing)

    def write(self, host: Host, target: Target, value: str) -> None:
        """See Family."""
        try:
            super().write(host, target, value)
        except KnobError as error:
            if "kind is unknown" not in error.message:
                raise
            module = f"sch_{value.split()[0].rpartition('/')[2]}"
            raise KnobError(
                error.message, f"this kernel lacks {module}: modprobe {module}"
            ) from error

    def commands(self, target: Target, value: str) -> list[list[str]]:
        """See ToolFamily."""
        base = ["tc", "qdisc", "replace", "dev", target.device]
        if value.startswith("default "):
            # A default root has no handle and cannot be deleted: it is replaced first.
            root = [*base, "root", "handle", _BETWEEN, "pfifo"]
            return [root, ["tc", "qdisc", "del", "dev", target.device, "root"]]
        kind, _, queues = value.partition(" ")
        if not kind.startswith("mq/"):
            return [[*base, "root", "handle", _OURS, kind]]
        child = kind.removeprefix("mq/")
        leaves = [
            [*base, "parent", f"{_OURS}{queue:x}", child] for queue in range(1, int(queues) + 1)
        ]
        return [[*base, "root", "handle", _OURS, "mq"], *leaves]


def _summary(device: str, listing: list[dict[str, Any]]) -> str:
    """`default mq/fq 4`: who made the root, its kind, the kinds below mq and their number."""
    root = next((one for one in listing if one.get("root")), None)
    if root is None:
        raise KnobError(f"{device}: no root qdisc; is the interface down?")
    below = [one["kind"] for one in listing if "parent" in one and one["kind"] not in _HOOKS]
    made = "default " if root["handle"] == "0:" else ""
    if not below or root["kind"] != "mq":
        return f"{made}{root['kind']}"
    return f"{made}mq/{','.join(sorted(set(below)))} {len(below)}"
