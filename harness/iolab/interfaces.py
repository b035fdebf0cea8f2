"""Whether an interface can send without a copy, from what the kernel says of it beforehand.

The proof is in notifications (verb `zerocopy-check`); this is what to expect, and why.
"""

from __future__ import annotations

import array
import contextlib
import fcntl
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

_SIOCETHTOOL = 0x8946
_ETHTOOL_GSG = 0x18  # linux/ethtool.h: struct ethtool_value
_ETHTOOL_GDRVINFO = 0x03  # struct ethtool_drvinfo, 196 bytes; the driver's name at 4
_DRVINFO_BYTES = 196
_IFF_UP, _IFF_LOOPBACK = 0x1, 0x8
_ETH_P_ALL = 3


@dataclass(frozen=True)
class Interface:
    """What decides whether sends are copied. None stands for unknown."""

    name: str
    up: bool
    loopback: bool
    driver: str | None
    scatter_gather: bool | None
    packet_sockets: int | None
    """Open AF_PACKET sockets that see what it sends."""

    @property
    def copies(self) -> str | None:
        """Why every send is copied there; None when nothing is known to force it."""
        if self.loopback:
            return "loopback, whose receiving side copies"
        if self.driver == "veth":
            return "veth, whose receiving side copies"
        if self.scatter_gather is False:
            return "scatter-gather is off"
        if self.packet_sockets:
            return f"{self.packet_sockets} AF_PACKET sockets see each packet"
        return None


Ethtool = Callable[[str], tuple[str | None, bool | None]]
"""Driver and scatter-gather of an interface."""


def interfaces(root: Path, ethtool: Ethtool | None = None) -> tuple[Interface, ...]:
    """All of this network namespace, by name. `root` is `/` or a directory that imitates it."""
    ethtool = ethtool or ask_ethtool
    base = root / "sys/class/net"
    packets = packet_sockets(_read(root / "proc/net/packet"))
    found = []
    for name in sorted(path.name for path in base.iterdir()) if base.is_dir() else []:
        flags = int(_read(base / name / "flags") or "0", 16)
        index = int(_read(base / name / "ifindex") or "-1")
        driver, gather = ethtool(name)
        seen = None if packets is None else packets.get(0, 0) + packets.get(index, 0)
        loopback = bool(flags & _IFF_LOOPBACK)
        found.append(Interface(name, bool(flags & _IFF_UP), loopback, driver, gather, seen))
    return tuple(found)


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
