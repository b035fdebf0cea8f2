"""An interface: its NUMA node as hwloc has it, its queues and interrupts by sysfs and /proc."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from iolab.topology import Topology
from iolab.tuning.host import Host, Tree

_QUEUE_IRQ = re.compile(
    r"(?:(?:tx-?rx|rx-?tx|input|output|rx|tx|comp|fp|queue|q)[.\-_]?"
    r"|ntfy-bl(?:oc)?k\.?"  # gve: one for each queue, those that send first
    r"|^[\w.]+-)"  # sfc and atlantic: `eth0-0`; mlx4: `mlx4-1@0000:81:00.0`
    r"(?P<queue>\d+)(?:@.*)?$",
    re.IGNORECASE,
)
"""The end of an interrupt's name; others of a device (`mlx4-async`) have no number there."""

_RTF_REJECT = 0x0200  # linux/route.h


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

    def left_with(self, rx: int, tx: int) -> Nic:
        """The interface as it will be with so many queues; those that it lacks are not made up."""
        irqs = tuple(irq for irq in self.irqs if irq.queue < max(rx, tx))
        return replace(self, rx=self.rx[:rx], tx=self.tx[:tx], irqs=irqs)


def read_nic(host: Host, topology: Topology, name: str, netns: str = "") -> Nic | None:
    """The interface as it is now, None when there is none of that name.

    hwloc sees interfaces of the host's namespace alone: one that is in another is known by its PCI
    address.
    """
    tree = host.tree(netns)
    place = f"sys/class/net/{name}"
    if not tree.exists(place):
        return None
    device = bus_device(tree, place)
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
    """The interface of the default route, of IPv4 before IPv6; None when there is none.

    The files are those of the calling thread's namespace: /proc/net is /proc/self/net, and that the
    main thread's (fs/proc/proc_net.c; thread-self: Linux 3.17).
    """
    for routes in (_ipv4_defaults(tree), _ipv6_defaults(tree)):
        if routes:
            return min(routes, key=lambda route: route[0])[1]
    return None


def _ipv4_defaults(tree: Tree) -> list[tuple[int, str]]:
    """Metric and interface: destination and mask are 0, and a refusal has `*` for its interface."""
    return [
        (int(words[6]), words[0])
        for words in _lines(tree, "proc/thread-self/net/route")
        if len(words) > 7 and (words[1], words[7]) == ("0" * 8, "0" * 8) and words[0] != "*"
    ]


def _ipv6_defaults(tree: Tree) -> list[tuple[int, str]]:
    """As above (net/ipv6/route.c, ipv6_route_seq_show): numbers are hexadecimal, without a head."""
    return [
        (int(words[5], 16), words[9])
        for words in _lines(tree, "proc/thread-self/net/ipv6_route")
        if len(words) > 9
        and (words[0], words[1]) == ("0" * 32, "00")
        and not int(words[8], 16) & _RTF_REJECT
    ]


def _lines(tree: Tree, where: str) -> list[list[str]]:
    try:
        return [line.split() for line in tree.read(where).splitlines()]
    except OSError:
        return []


def bus_device(tree: Tree, place: str) -> str | None:
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
