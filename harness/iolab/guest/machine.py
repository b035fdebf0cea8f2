"""QEMU's command line for the guest. Pure: nothing is started here.

Two NUMA nodes of two CPUs. A virtio NIC with four queue pairs stands behind a PCI expander bridge
of the second node, so that its local CPUs are 2 and 3; an e1000e on the first node has interrupt
coalescing, which virtio of this QEMU has not; a virtio disk without content has managed interrupts.

QEMU runs in a network namespace of its own, with the taps in it: they vanish with it, whatever
ends it, and no packet reaches the host's network.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path

from iolab.guest.parts import Parts

QUEUE_PAIRS = 4
CPUS = 4
NIC_NODE = 1

_MEMORY_MIB = 512  # per node
_TAPS = {"tap0": " multi_queue", "tap1": ""}

OUTSIDE_HOST = "198.18.0.1"
"""The other end of the virtio NIC's wire: the tap, in QEMU's namespace (RFC 2544's addresses)."""


@dataclass(frozen=True)
class Machine:
    """What a guest is started with. `share` is the writable directory, `console` its log."""

    parts: Parts
    initramfs: Path
    share: Path
    console: Path
    terminal: Path | None = None
    """A socket for the shell's terminal; None when a command runs without one."""
    kvm: bool = False
    """Hardware acceleration; without it QEMU emulates."""
    outside: tuple[str, ...] = ()
    """A command beside QEMU in its namespace, for the guest to talk to; it ends with QEMU."""
    user_namespace: bool = False
    """Not root: QEMU and its taps get a user namespace too."""


def command(machine: Machine) -> list[str]:
    """The command that makes namespace and taps and becomes QEMU, which keeps its process id."""
    taps = [
        f"ip tuntap add dev {name} mode tap{queues} && ip link set {name} up"
        for name, queues in _TAPS.items()
    ]
    taps.append(f"ip address add {OUTSIDE_HOST}/24 dev tap0 && ip link set lo up")
    if machine.outside:
        # Its parent becomes QEMU, with whose death it gets the signal.
        beside = shlex.join(["setpriv", "--pdeathsig", "KILL", "--", *machine.outside])
        taps.append(f"{{ {beside} >/dev/null 2>&1 </dev/null & }}")
    script = " && ".join([*taps, f"exec {shlex.join(qemu(machine))}"])
    namespaces = ["--net", *(["--user", "--map-root-user"] if machine.user_namespace else [])]
    # Said again: who enters a user namespace loses the death signal that the executor has set.
    die_with_harness = ["setpriv", "--pdeathsig", "KILL", "--"]
    return ["unshare", *namespaces, "--", *die_with_harness, "sh", "-c", script]


def qemu(machine: Machine) -> list[str]:
    """QEMU's own arguments."""
    return [
        str(machine.parts.qemu),
        *("-machine", "q35", "-cpu", "max", *_accelerator(machine.kvm)),
        *("-nodefaults", "-no-user-config", "-no-reboot", "-display", "none"),
        *("-kernel", str(machine.parts.kernel), "-initrd", str(machine.initramfs)),
        *("-append", "console=ttyS0 quiet loglevel=4 panic=-1 net.ifnames=0"),
        *_topology(),
        *_nics(),
        *_disk(),
        *_share("host", Path("/"), readonly=True),
        *_share("share", machine.share, readonly=False),
        *("-device", "virtio-rng-pci,bus=pcie.0"),
        *_consoles(machine),
    ]


def _accelerator(kvm: bool) -> list[str]:
    return ["-accel", "kvm" if kvm else "tcg,thread=multi"]


def _topology() -> list[str]:
    words = ["-smp", f"{CPUS},sockets=2,cores=2,threads=1", "-m", f"{2 * _MEMORY_MIB}M"]
    for node in (0, 1):
        words += ["-object", f"memory-backend-ram,id=memory{node},size={_MEMORY_MIB}M"]
        words += ["-numa", f"node,nodeid={node},cpus={2 * node}-{2 * node + 1},memdev=memory{node}"]
    return words


def _nics() -> list[str]:
    """Vectors: two for each pair, one for the control queue, one for configuration changes."""
    vectors = 2 * QUEUE_PAIRS + 2
    return [
        *("-device", f"pxb-pcie,id=far,bus=pcie.0,bus_nr=128,numa_node={NIC_NODE}"),
        *("-device", "pcie-root-port,id=downstream,bus=far,chassis=1"),
        *("-netdev", _tap("net0", "tap0", f",queues={QUEUE_PAIRS}")),
        *(
            "-device",
            "virtio-net-pci,netdev=net0,bus=downstream,mac=52:54:00:00:00:02,mq=on,"
            f"vectors={vectors},rss=on,hash=on,romfile=",
        ),
        *("-netdev", _tap("net1", "tap1")),
        *("-device", "e1000e,netdev=net1,bus=pcie.0,mac=52:54:00:00:01:02,romfile="),
    ]


def _tap(name: str, device: str, more: str = "") -> str:
    """RSS of virtio is done by QEMU itself here, so the kernel's vhost stays out."""
    return f"tap,id={name},ifname={device},script=no,downscript=no,vhost=off{more}"


def _disk() -> list[str]:
    """Four queues, whose interrupts the kernel manages itself (irq_create_affinity_masks)."""
    return [
        *("-blockdev", "driver=null-co,node-name=nothing,size=1048576,read-zeroes=on"),
        *("-device", "virtio-blk-pci,drive=nothing,num-queues=4,vectors=5,bus=pcie.0"),
    ]


def _share(tag: str, path: Path, *, readonly: bool) -> list[str]:
    """`remap`: the host's files may be of several devices, whose inode numbers could collide."""
    options = f"local,id={tag},path={_quote(path)},security_model=none,multidevs=remap"
    return [
        *("-fsdev", f"{options}{',readonly=on' if readonly else ''}"),
        *("-device", f"virtio-9p-pci,fsdev={tag},mount_tag={tag},bus=pcie.0"),
    ]


def _consoles(machine: Machine) -> list[str]:
    words = ["-chardev", f"file,id=log,path={_quote(machine.console)}", "-serial", "chardev:log"]
    if machine.terminal is not None:
        socket = f"socket,id=terminal,path={_quote(machine.terminal)},server=on,wait=off"
        words += ["-chardev", socket, "-serial", "chardev:terminal"]
    return words


def _quote(path: Path) -> str:
    """A path in an option of QEMU, where a comma separates options."""
    return str(path).replace(",", ",,")
