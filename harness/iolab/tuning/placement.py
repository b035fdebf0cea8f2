"""Where server and clients should run: computed from the interface's NUMA node, never written.

What runs on another node than the NIC reaches packets and buffers over the interconnect. The answer
is a set of CPUs and a memory node for each side, as numactl(8) spells them; a session hands the
CPUs to what it starts.
"""

from __future__ import annotations

from dataclasses import dataclass

from iolab.tuning.cpus import format_list
from iolab.tuning.profile import Profile
from iolab.tuning.scene import Scene


@dataclass(frozen=True)
class Side:
    """CPUs to run on and the node to take memory from; None is any."""

    cpus: tuple[int, ...]
    node: int | None

    def command(self) -> str:
        """The prefix that binds a command."""
        memory = "" if self.node is None else f" --membind={self.node}"
        return f"numactl --physcpubind={format_list(self.cpus)}{memory}"


def place(profile: Profile, scene: Scene) -> dict[str, Side]:
    """`server` and `client`, those of them that the profile places."""
    wanted = profile.placement.model_dump(exclude_none=True)
    return {side: _side(str(where), profile, scene) for side, where in wanted.items()}


def _side(where: str, profile: Profile, scene: Scene) -> Side:
    topology = scene.topology
    if where == "all":
        return Side(tuple(sorted(topology.online)), None)
    nic = scene.nic(profile.nic.interface, "placement")
    home = nic.node if nic.node is not None else min(topology.nodes)
    if where == "other-node":
        home = next((node for node in sorted(topology.nodes) if node != home), home)
    return Side(tuple(topology.cores_first(topology.on_node(home))), home)
