"""What is read of interfaces, on a directory that imitates /proc and /sys and on this host."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from iolab.interfaces import Interface, interfaces, packet_sockets

HEADER = "sk               RefCnt Type Proto  Iface R Rmem   User   Inode\n"
ALL = "0000000000000000 3      3    0003   2     1 0      0      4242\n"
IPV4 = "0000000000000000 3      2    0800   2     1 0      0      4243\n"
EVERYWHERE = "0000000000000000 3      3    0003   0     1 0      0      4244\n"
STOPPED = "0000000000000000 3      3    0003   2     0 0      0      4245\n"
ETH = Interface("eth0", True, False, "virtio_net", True, 0)


def imitate(root: Path, packet: str) -> Path:
    """A host with lo and eth0, index 2."""
    for name, flags, index in (("lo", "0x9", 1), ("eth0", "0x1003", 2)):
        base = root / "sys/class/net" / name
        base.mkdir(parents=True)
        (base / "flags").write_text(f"{flags}\n")
        (base / "ifindex").write_text(f"{index}\n")
    (root / "proc/net").mkdir(parents=True)
    (root / "proc/net/packet").write_text(packet)
    return root


def ethtool(name: str) -> tuple[str | None, bool | None]:
    """As if asked."""
    return (None, True) if name == "lo" else ("virtio_net", True)


@pytest.mark.parametrize(
    ("lines", "seen"),
    [
        ("", 0),
        (ALL, 1),
        (ALL + EVERYWHERE, 2),
        (IPV4, 0),
        (STOPPED, 0),
    ],
)
def test_packet_sockets_that_see_what_is_sent(tmp_path: Path, lines: str, seen: int) -> None:
    eth, lo = interfaces(imitate(tmp_path, HEADER + lines), ethtool)
    assert eth == replace(ETH, packet_sockets=seen)
    assert (lo.loopback, lo.packet_sockets) == (True, 1 if EVERYWHERE in lines else 0)


def test_without_proc_nothing_is_claimed_of_packet_sockets(tmp_path: Path) -> None:
    imitate(tmp_path, HEADER)
    (tmp_path / "proc/net/packet").unlink()
    assert packet_sockets(None) is None
    assert interfaces(tmp_path, ethtool)[0].packet_sockets is None


def test_what_forces_a_copy_comes_with_the_first_reason() -> None:
    assert ETH.copies is None
    assert "loopback" in (replace(ETH, loopback=True, scatter_gather=False).copies or "")
    assert "scatter-gather" in (replace(ETH, scatter_gather=False, packet_sockets=1).copies or "")
    assert replace(ETH, packet_sockets=None, scatter_gather=None, driver=None).copies is None


def test_loopback_of_this_host_copies() -> None:
    lo = next(found for found in interfaces(Path("/")) if found.loopback)
    assert lo.scatter_gather is True
    assert "loopback" in (lo.copies or "")
