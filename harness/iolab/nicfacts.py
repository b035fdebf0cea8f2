"""What a manifest says of network interfaces: what they are, and how driver and kernel set them.

The loopback device and whatever stands on a card is asked for its offloads; a card also for what
its driver and its firmware are, its rings, channels and coalescing, and where its interrupts and
queues are served. What a device or machine has not is left out, and so is the end of a veth pair:
those of containers come and go, and say nothing of a run. Sources: ethtool(8);
Documentation/ABI/testing/sysfs-class-net-queues, Documentation/core-api/irq/irq-affinity.rst of
the kernel.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from iolab.executor import Executor, ProcessError
from iolab.topology import Topology
from iolab.tuning.host import Tree, find_tool
from iolab.tuning.nic import bus_device, interrupt_names, irq_numbers

Ask = Callable[[str, str], str]
"""What `ethtool FLAG NAME` prints; empty where it says nothing."""

_IDENTITY = {"version": "driver_version", "firmware-version": "firmware"}
_SET = {"rings": "-g", "channels": "-l", "coalescing": "-c"}
_STEERING = ("rx-*/rps_cpus", "tx-*/xps_cpus")


def asker(executor: Executor) -> Ask | None:
    """Asks the host's ethtool; None where there is none."""
    tool = find_tool("ethtool")
    if tool is None:
        return None

    def ask(flag: str, name: str) -> str:
        with contextlib.suppress(ProcessError):
            done = executor.run([tool, flag, name], timeout_s=20)
            return done.stdout if done.code == 0 else ""
        return ""

    return ask


def nics(root: Path, topology: Topology | None, ask: Ask | None) -> dict[str, Any]:
    """Every interface of this network namespace by its name, but ends of veth pairs.

    `root` is `/` or a directory that imitates it. Facts that only ethtool has are missing without
    `ask`.
    """
    found: dict[str, Any] = {}
    with contextlib.suppress(OSError):
        for path in sorted((root / "sys/class/net").iterdir()):
            identity = fields(ask("-i", path.name)) if ask else {}
            if identity.get("driver") != "veth":
                found[path.name] = _plain(path, topology) | _settings(root, path, identity, ask)
    return found


def _plain(path: Path, topology: Topology | None) -> dict[str, Any]:
    """What sysfs says of any interface."""
    driver = path / "device/driver"
    return {
        "driver": driver.resolve().name if driver.exists() else None,
        "mtu": _text(path / "mtu"),
        "operstate": _text(path / "operstate"),
        "speed_mbit": _text(path / "speed"),
        "rx_queues": len(list(path.glob("queues/rx-*"))),
        "tx_queues": len(list(path.glob("queues/tx-*"))),
        "numa_node": _node(path, topology),
    }


def _node(nic: Path, topology: Topology | None) -> str | None:
    """The NUMA node of a NIC, as text like its neighbours.

    None for one without hardware, or that is as near to several. By hwloc: sysfs says it of the
    PCI function, which for virtio is the parent of `device`.
    """
    if topology is None or not (nic / "device").exists():
        return None
    node = topology.node_of(nic.name)
    return None if node is None else str(node)


def _settings(root: Path, path: Path, identity: dict[str, str], ask: Ask | None) -> dict[str, Any]:
    """How an interface is set; only what is known, so that a lack is no difference of its own."""
    card = (path / "device").exists()
    found: dict[str, Any] = {}
    if ask is not None and (card or path.name == "lo" or any(path.glob("lower_*"))):
        features = fields(ask("-k", path.name)).items()
        found["offloads"] = {name: value.split()[0] for name, value in features}
    if card:
        found |= {_IDENTITY[key]: identity[key] for key in _IDENTITY if key in identity}
        found |= {key: current(ask(flag, path.name)) for key, flag in _SET.items() if ask}
        found["irqs"] = _irqs(Tree(root), f"sys/class/net/{path.name}")
        found["steering"] = dict(_steering(path))
    return {key: value for key, value in found.items() if value}


def fields(text: str) -> dict[str, str]:
    """The lines `name: value` of what ethtool prints, but those without a value.

    `Adaptive RX: on  TX: off` is one line, as is `CQE mode RX: n/a  TX: n/a`, which has none.
    """
    pairs = (line.strip().partition(":") for line in text.splitlines())
    found = {name.strip(): value.split() for name, _, value in pairs}
    return {name: " ".join(words) for name, words in found.items() if {*words} - {"n/a", "TX:"}}


def current(text: str) -> dict[str, str]:
    """What is in force, where ethtool prints what would be possible first."""
    _, heading, rest = text.partition("Current hardware settings:")
    return fields(rest if heading else text)


def _irqs(tree: Tree, place: str) -> dict[str, str]:
    """The CPUs that may serve each interrupt of a card, by its name: numbers change with a boot."""
    device = bus_device(tree, place)
    if device is None:
        return {}
    numbers = irq_numbers(tree, device)
    found: dict[str, list[str]] = {}
    for number, name in interrupt_names(tree).items():
        cpus = _text(tree.root / f"proc/irq/{number}/smp_affinity_list")
        if number in numbers and cpus is not None:
            found.setdefault(name, []).append(cpus)
    return {name: "; ".join(cpus) for name, cpus in sorted(found.items())}


def _steering(path: Path) -> Iterator[tuple[str, str]]:
    """The masks of CPUs that RPS and XPS use, of each queue that has any."""
    for pattern in _STEERING:
        for file in sorted((path / "queues").glob(pattern)):
            mask = _text(file)  # EINVAL or ENOENT of a device with a single transmit queue
            if mask is not None and mask.strip("0,"):
                yield f"{file.parent.name}.{file.name}", mask


def _text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return None
