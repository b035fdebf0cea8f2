"""An interface: its NUMA node as hwloc has it, its queues and interrupts by sysfs and /proc."""

from __future__ import annotations

import re
from dataclasses import dataclass

from iolab.topology import Topology
from iolab.tuning.host import Host, Tree

_QUEUE_IRQ = re.compile(
    r"(?:tx-?rx|rx-?tx|input|output|rx|tx|comp|fp|queue|q)[.\-_]?(?P<queue>\d+)(?:@.*)?$",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Irq:
    """An interrupt of one queue. virtio calls it `virtio2-input.0`, others `eth0-TxRx-0`.

    `device` is the directory of the PCI function that raises it, below the root.
    """

    number: int
    name: str
    queue: int
    device: str


@dataclass(frozen=True)
class Nic:
    """An interface. `node` is None when the device belongs to no NUMA node, or is virtual."""

    name: str
    netns: str
    node: int | None
    rx: tuple[int, ...]
    tx: tuple[int, ...]
    irqs: tuple[Irq, ...]


def read_nic(host: Host, topology: Topology, name: str, netns: str = "") -> Nic | None:
    """The interface as it is now, None when there is none of that name.

    hwloc sees interfaces of the host's namespace alone: one that is in another is known by its PCI
    address.
    """
    tree = host.tree(netns)
    place = f"sys/class/net/{name}"
    if not tree.exists(place):
        return None
    device = _bus_device(tree, place)
    address = (device or "").rpartition("/")[2]
    return Nic(
        name=name,
        netns=netns,
        node=topology.node_of(address) if netns else topology.node_of(name, address),
        rx=_queues(tree, place, "rx-"),
        tx=_queues(tree, place, "tx-"),
        irqs=_irqs(host.tree(), tree, device),
    )


def default_interface(tree: Tree) -> str | None:
    """The interface of the default route (/proc/net/route), None when there is none."""
    try:
        lines = tree.read("proc/net/route").splitlines()[1:]
    except OSError:
        return None
    for line in lines:
        fields = line.split()
        if len(fields) > 7 and fields[1] == "00000000" and fields[7] == "00000000":
            return fields[0]
    return None


def _bus_device(tree: Tree, place: str) -> str | None:
    """The device that has the interrupts.

    Of virtio it stands one level above `device`: the link leads to virtioN, whose parent is the
    PCI function.
    """
    if not tree.exists(f"{place}/device"):
        return None
    device = tree.real(f"{place}/device")
    parent = device.rpartition("/")[0]
    if not tree.exists(f"{device}/msi_irqs") and tree.exists(f"{parent}/msi_irqs"):
        return parent
    return device


def _queues(tree: Tree, place: str, prefix: str) -> tuple[int, ...]:
    names = tree.names(f"{place}/queues")
    return tuple(int(name[len(prefix) :]) for name in names if name.startswith(prefix))


def _irqs(host_tree: Tree, tree: Tree, device: str | None) -> tuple[Irq, ...]:
    """The interrupts of the device that serve a queue, by queue and number."""
    if device is None:
        return ()
    numbers, found = irq_numbers(tree, device), []
    for number, name in interrupt_names(host_tree).items():
        queue = queue_of(name) if number in numbers else None
        if queue is not None:
            found.append(Irq(number, name, queue, device))
    return tuple(sorted(found, key=lambda irq: (irq.queue, irq.number)))


def queue_of(name: str) -> int | None:
    """The queue that an interrupt of this name serves, None when its name says none."""
    match = _QUEUE_IRQ.search(name)
    return int(match["queue"]) if match is not None else None


def irq_numbers(tree: Tree, device: str) -> frozenset[int]:
    """The numbers that a PCI function's interrupts have now; a driver may ask for them anew."""
    return frozenset(int(name) for name in tree.names(f"{device}/msi_irqs") if name.isdigit())


def interrupt_names(tree: Tree) -> dict[int, str]:
    """The action of each numbered line of /proc/interrupts: its last word."""
    try:
        lines = tree.read("proc/interrupts").splitlines()
    except OSError:
        return {}
    names = {}
    for line in lines:
        number, colon, rest = line.strip().partition(":")
        words = rest.split()
        if colon and number.isdigit() and words:
            names[int(number)] = words[-1]
    return names
