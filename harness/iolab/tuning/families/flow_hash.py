"""Header fields that the NIC hashes for RSS: `ethtool -n IF rx-flow-hash`, `-N` (ETHTOOL_SRXFH)."""

from __future__ import annotations

from collections.abc import Iterator

from iolab.tuning.families.base import ToolFamily, ask
from iolab.tuning.host import Host
from iolab.tuning.knob import KnobError, Setting, Target
from iolab.tuning.profile import Profile
from iolab.tuning.scene import Scene

_LETTERS = {
    "L2DA": "m",
    "VLAN tag": "v",
    "L3 proto": "t",
    "IP SA": "s",
    "IP DA": "d",
    "L4 bytes 0 & 1": "f",
    "L4 bytes 2 & 3": "n",
}


class FlowHash(ToolFamily):
    """The family `flow_hash`; a value is ethtool's letters, such as `sdfn`."""

    name = "flow_hash"

    def settings(self, profile: Profile, scene: Scene) -> Iterator[Setting]:
        """See Family."""
        for flow, letters in profile.nic.flow_hash.model_dump(exclude_none=True).items():
            key = f"nic.flow_hash.{flow}"
            nic = scene.nic(profile.nic.interface, key)
            name = f"flow hash {flow} of {nic.name}"
            yield Setting(Target(self.name, name, flow, nic.name, nic.netns), letters, key)

    def read(self, host: Host, target: Target) -> str:
        """See Family."""
        text = ask(host, target, "-n", target.device, "rx-flow-hash", target.where)
        letters = "".join(letter for words, letter in _LETTERS.items() if words in text)
        if not letters:
            raise KnobError(f"{target.device}: the driver hashes no {target.where} flows")
        return letters

    def commands(self, target: Target, value: str) -> list[list[str]]:
        """See ToolFamily."""
        return [["ethtool", "-N", target.device, "rx-flow-hash", target.where, value]]

    def same(self, target: Target, requested: str, effective: str) -> bool:
        """See Family."""
        return set(requested) == set(effective)
