"""CPUs, cores, nodes and devices as hwloc finds them, and which CPU serves and which drives."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

from iolab import hwloc
from iolab.errors import IolabError


@dataclass(frozen=True)
class Topology:
    """CPUs that are online, their NUMA nodes and the hardware threads that share a core.

    `devices` has the node of each device by its name (`eth0`) and by its PCI address
    (`0000:81:00.0`): None where it is as near to several nodes.
    """

    online: frozenset[int]
    nodes: Mapping[int, frozenset[int]]
    siblings: Mapping[int, frozenset[int]]
    devices: Mapping[str, int | None] = field(default_factory=dict)

    def on_node(self, node: int | None) -> frozenset[int]:
        """The CPUs of a node; all of them when the device belongs to none."""
        if node is None or not self.nodes.get(node):
            return self.online
        return self.nodes[node]

    def cores_first(self, cpus: Iterable[int]) -> list[int]:
        """In order, but the second hardware thread of a core only after every core had its turn."""
        chosen = sorted(set(cpus))
        rank = {
            cpu: sorted(self.siblings.get(cpu, {cpu}) & set(chosen)).index(cpu) for cpu in chosen
        }
        return sorted(chosen, key=lambda cpu: (rank[cpu], cpu))

    def one_thread(self) -> Topology:
        """The same machine once the second hardware threads of all cores are off line."""
        kept = frozenset(cpu for cpu in self.online if cpu == min(self.siblings.get(cpu, {cpu})))
        nodes = {node: cpus & kept for node, cpus in self.nodes.items()}
        return Topology(kept, nodes, {cpu: frozenset({cpu}) for cpu in kept}, self.devices)

    def node_of(self, *names: str) -> int | None:
        """The node of the device that has the first of `names` that hwloc knows; None: no node."""
        return next((self.devices[name] for name in names if name in self.devices), None)


def this_machine() -> Topology:
    """What hwloc finds here; IolabError when it cannot be asked."""
    return parse_topology(hwloc.discover())


def parse_topology(document: str) -> Topology:
    """From hwloc's XML (hwloc2.dtd), its own or what `lstopo FILE.xml` recorded elsewhere.

    A machine without NUMA has one node in it, and CPUs that are off line are in no set. IolabError
    when it is no such document.
    """
    try:
        machine = ElementTree.fromstring(document).find("object")
        if machine is None or machine.get("type") != "Machine":
            raise ValueError("its first object is no Machine")
        online = _bits(machine, "cpuset")
        nodes = {
            int(one.attrib["os_index"]): _bits(one, "cpuset") & online
            for one in _objects(machine, "NUMANode")
        }
        cores = [_bits(one, "cpuset") & online for one in _objects(machine, "Core")]
        siblings = {cpu: frozenset({cpu}) for cpu in online}
        siblings.update((cpu, core) for core in cores for cpu in core)
        return Topology(online, nodes, siblings, dict(_devices(machine, None)))
    except (ElementTree.ParseError, ValueError, KeyError) as error:
        raise IolabError(f"not a topology of hwloc 2: {error!r}", "lstopo FILE.xml") from error


def _objects(machine: Element, kind: str) -> Iterator[Element]:
    return (one for one in machine.iter("object") if one.get("type") == kind)


def _devices(place: Element, node: int | None) -> Iterator[tuple[str, int | None]]:
    """Name and PCI address of each device, with the node of what it is attached to.

    Only objects of CPUs and memory have a nodeset: bridges and devices have that of the one above
    them. A network device hangs below its PCI function, also where the kernel has another device in
    between, as virtio's.
    """
    if place.get("nodeset"):
        near = _bits(place, "nodeset")
        node = next(iter(near)) if len(near) == 1 else None
    for one in place.findall("object"):
        if one.get("type") == "OSDev" and one.get("name"):
            yield one.attrib["name"], node
        elif one.get("type") == "PCIDev" and one.get("pci_busid"):
            yield one.attrib["pci_busid"], node
        yield from _devices(one, node)


def _bits(one: Element, name: str) -> frozenset[int]:
    """hwloc's spelling of a bitmap: `0x00000001,,0x0000000f`, 32 bits each, the highest first."""
    bits = 0
    for word in one.get(name, "").split(","):
        bits = bits << 32 | int(word or "0", 16)
    return frozenset(index for index in range(bits.bit_length()) if bits >> index & 1)


@dataclass(frozen=True)
class CpuSplit:
    """CPUs of the server and of the client; `note` says what is wrong with the split, if so."""

    server: tuple[int, ...]
    client: int
    note: str | None = None


def split_cpus(allowed: Collection[int], siblings: Mapping[int, frozenset[int]]) -> CpuSplit:
    """One CPU for the server, another for the client, on different cores where possible.

    `siblings` maps a CPU to the hardware threads of its core. With a single CPU both share it,
    and the note says so: such ratios mix the cost of both sides.
    """
    cpus = sorted(allowed)
    server = cpus[0]
    if len(cpus) == 1:
        return CpuSplit((server,), server, "server and client share the only CPU")
    core = siblings.get(server, frozenset({server}))
    others = [cpu for cpu in cpus[1:] if cpu not in core]
    if others:
        return CpuSplit((server,), others[0])
    return CpuSplit((server,), cpus[1], "server and client share one core (hardware threads)")


def host_split() -> CpuSplit:
    """The split for the CPUs this process may use."""
    return split_cpus(os.sched_getaffinity(0), this_machine().siblings)


def parse_cpu_list(text: str) -> frozenset[int]:
    """The kernel's list format: `0-3,8,10-11`. Empty text is no CPU."""
    cpus: set[int] = set()
    for part in filter(None, text.strip().split(",")):
        first, dash, last = part.partition("-")
        cpus |= set(range(int(first), int(last if dash else first) + 1))
    return frozenset(cpus)
