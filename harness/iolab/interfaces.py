"""Whether an interface can send without a copy, from what the kernel says of it beforehand.

The proof is in notifications (verb `zerocopy-check`); this is what to expect, and why.
"""

from __future__ import annotations

import array
import contextlib
import fcntl
import socket
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

_SIOCETHTOOL = 0x8946
_ETHTOOL_GSG = 0x18  # linux/ethtool.h: struct ethtool_value
_ETHTOOL_GDRVINFO = 0x03  # struct ethtool_drvinfo, 196 bytes; the driver's name at 4
_DRVINFO_BYTES = 196
_IFF_UP, _IFF_LOOPBACK = 0x1, 0x8
_ETH_P_ALL = 3


# Drivers whose every packet ends in a copy. veth hands it to the receiving side of its peer, tun
# and tap queue it for a process or a virtual machine: both by way of skb_orphan_frags_rx, which
# copies (drivers/net/veth.c, net/core/dev.c; tun_net_xmit, drivers/net/tun.c; Linux 4.14).
_COPIERS = {
    "veth": "veth, whose receiving side copies",
    "tun": "tun or tap, which copies for the process or virtual machine behind it",
}
# Devices that hand packets on as they are: what becomes of them is decided below.
_PASSING = {"bridge": "a bridge", "vlan": "a VLAN", "bond": "a bond", "team": "a team"}
_MIXED = {
    "macvlan": "its siblings on this host get copies, what leaves by the device below may not",
    "ipvlan": "its siblings on this host get copies, what leaves by the device below may not",
    "dummy": "it drops what it is given, so no notification ever comes",
}


@dataclass(frozen=True)
class Interface:
    """What decides whether sends are copied. None stands for unknown.

    `kind` is what the kernel calls a virtual device (DEVTYPE of its uevent, or its driver), None
    for a card. `lower` are the devices it stands on: ports of a bridge, the card under a VLAN.
    """

    name: str
    up: bool
    loopback: bool
    driver: str | None
    scatter_gather: bool | None
    packet_sockets: int | None
    """Open AF_PACKET sockets that see what it sends."""
    kind: str | None = None
    lower: tuple[Interface, ...] = ()

    @property
    def copies(self) -> str | None:
        """Why every send is copied there; None when nothing is known to force it."""
        if self.loopback:
            return "loopback, whose receiving side copies"
        if self.driver in _COPIERS:
            return _COPIERS[self.driver]
        if self.scatter_gather is False:
            return "scatter-gather is off"
        if self.packet_sockets:
            return f"{self.packet_sockets} AF_PACKET sockets see each packet"
        if self.kind in _PASSING and self.lower and all(port.copies for port in self.lower):
            ports = ", ".join(f"{port.name} ({port.copies})" for port in self.lower)
            return f"{_PASSING[self.kind]} over nothing but {ports}"
        return None

    @property
    def inherent(self) -> bool:
        """True when it copies by what it is, which no setting of its own changes."""
        ends = self.loopback or self.driver in _COPIERS
        return ends or (bool(self.lower) and all(port.inherent for port in self.lower))

    @property
    def uncertain(self) -> str | None:
        """Why it cannot be told beforehand whether sends are copied, None when it can."""
        if self.copies is not None:
            return None
        if self.scatter_gather is None:
            return "it does not tell about scatter-gather"
        if self.kind in _PASSING:
            return self._of_ports(_PASSING[self.kind])
        if self.kind in _MIXED:
            return f"{self.kind}: {_MIXED[self.kind]}"
        return f"a virtual device ({self.kind})" if self.kind is not None else None

    def _of_ports(self, what: str) -> str | None:
        """What the devices below leave open; None when none of them copies or is uncertain."""
        if not self.lower:
            return f"{what} over no device that is known"
        copying = [port.name for port in self.lower if port.copies]
        if copying:
            return f"{what}: what leaves by {', '.join(copying)} is copied, by the others maybe not"
        doubts = [f"{port.name}: {port.uncertain}" for port in self.lower if port.uncertain]
        return f"{what} over {'; '.join(doubts)}" if doubts else None


Ethtool = Callable[[str], tuple[str | None, bool | None]]
"""Driver and scatter-gather of an interface."""


def interfaces(root: Path, ethtool: Ethtool | None = None) -> tuple[Interface, ...]:
    """All of this network namespace, by name. `root` is `/` or a directory that imitates it."""
    base = root / "sys/class/net"
    packets = packet_sockets(_read(root / "proc/net/packet"))
    names = sorted(path.name for path in base.iterdir()) if base.is_dir() else []
    found = {name: _alone(base / name, ethtool or ask_ethtool, packets) for name in names}
    return tuple(_with_lower(name, found, base, frozenset()) for name in names)


def _alone(path: Path, ethtool: Ethtool, packets: dict[int, int] | None) -> Interface:
    """One interface, without what it stands on."""
    flags = int(_read(path / "flags") or "0", 16)
    index = int(_read(path / "ifindex") or "-1")
    driver, gather = ethtool(path.name)
    seen = None if packets is None else packets.get(0, 0) + packets.get(index, 0)
    up, loopback = bool(flags & _IFF_UP), bool(flags & _IFF_LOOPBACK)
    kind = None if (path / "device").exists() else _kind(_read(path / "uevent"), driver)
    return Interface(path.name, up, loopback, driver, gather, seen, kind)


def _kind(uevent: str | None, driver: str | None) -> str:
    """What a virtual device is: DEVTYPE of its uevent where it has one, else its driver."""
    for line in (uevent or "").splitlines():
        if line.startswith("DEVTYPE="):
            return line.removeprefix("DEVTYPE=")
    return {"bonding": "bond", "802.1Q VLAN Support": "vlan"}.get(driver or "", driver or "unknown")


def _with_lower(
    name: str, all_found: Mapping[str, Interface], base: Path, above: frozenset[str]
) -> Interface:
    """An interface with those it stands on (links lower_NAME); `above` keeps cycles out."""
    below = sorted(path.name.removeprefix("lower_") for path in (base / name).glob("lower_*"))
    seen = above | {name}
    lower = tuple(
        _with_lower(one, all_found, base, seen)
        for one in below
        if one in all_found and one not in seen
    )
    return replace(all_found[name], lower=lower)


def packet_sockets(text: str | None) -> dict[int, int] | None:
    """Running AF_PACKET sockets for all protocols by interface index, 0 for every interface.

    Others see what is received alone (dev_queue_xmit_nit, net/core/dev.c, serves ptype_all). The
    columns of /proc/net/packet: sk RefCnt Type Proto (hex) Iface R(unning) ...
    """
    if text is None:
        return None
    counts: dict[int, int] = {}
    for line in text.splitlines()[1:]:
        words = line.split()
        if len(words) >= 6 and int(words[3], 16) == _ETH_P_ALL and words[5] != "0":
            counts[int(words[4])] = counts.get(int(words[4]), 0) + 1
    return counts


def ask_ethtool(name: str) -> tuple[str | None, bool | None]:
    """Driver and scatter-gather by ioctl (SIOCETHTOOL); what it does not tell is None."""
    driver, gather = None, None
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        with contextlib.suppress(OSError):
            answer = _ethtool(sock, name, struct.pack("II", _ETHTOOL_GSG, 0))
            gather = struct.unpack("II", answer)[1] != 0
        with contextlib.suppress(OSError):
            blank = struct.pack("I", _ETHTOOL_GDRVINFO).ljust(_DRVINFO_BYTES, b"\0")
            driver = _ethtool(sock, name, blank)[4:36].split(b"\0")[0].decode() or None
    return driver, gather


def _ethtool(sock: socket.socket, name: str, command: bytes) -> bytes:
    """One command; the answer is written over it. OSError as ioctl(2)."""
    data = array.array("B", command)
    address, _ = data.buffer_info()
    fcntl.ioctl(sock, _SIOCETHTOOL, struct.pack("16sP16x", name.encode(), address))
    return data.tobytes()


def _read(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return None
