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
    (root / "sys/class/net/eth0/device").mkdir()
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


VETH = Interface("veth0", True, False, "veth", True, 0, "veth")
TAP = Interface("tap0", True, False, "tun", True, 0, "tun")
BRIDGE = Interface("br0", True, False, "bridge", True, 0, "bridge")


def over(*lower: Interface, kind: str = "bridge") -> Interface:
    return replace(BRIDGE, kind=kind, lower=lower)


@pytest.mark.parametrize(
    ("interface", "copied", "unknown"),
    [
        (ETH, None, None),
        (VETH, "veth, whose receiving side", None),
        (TAP, "tun or tap, which copies", None),
        (BRIDGE, None, "over no device"),
        (over(VETH, TAP), "a bridge over nothing but veth0 (veth, whose", None),
        (over(ETH), None, None),
        (over(ETH, VETH), None, "what leaves by veth0 is copied"),
        (over(replace(ETH, scatter_gather=None), kind="bond"), None, "a bond over eth0: it does"),
        (over(ETH, kind="vlan"), None, None),
        (over(replace(ETH, scatter_gather=False), kind="vlan"), "a VLAN over nothing but", None),
        (over(over(VETH), kind="vlan"), "a VLAN over nothing but br0", None),
        (over(ETH, kind="macvlan"), None, "its siblings on this host get copies"),
        (replace(BRIDGE, kind="dummy"), None, "drops what it is given"),
        (replace(BRIDGE, kind="wireguard"), None, "a virtual device (wireguard)"),
    ],
)
def test_each_kind_of_device_copies_or_not_or_cannot_be_known(
    interface: Interface, copied: str | None, unknown: str | None
) -> None:
    for said, wanted in ((interface.copies, copied), (interface.uncertain, unknown)):
        assert (said is None) == (wanted is None), said
        assert (wanted or "") in (said or "")


def test_only_what_no_setting_changes_is_inherent() -> None:
    assert VETH.inherent
    assert over(VETH, TAP).inherent
    assert not replace(ETH, scatter_gather=False).inherent
    assert not over(VETH, replace(ETH, scatter_gather=False)).inherent


def test_kinds_and_what_devices_stand_on_are_read(tmp_path: Path) -> None:
    root = imitate(tmp_path, HEADER)
    net = root / "sys/class/net"
    for name, uevent in (("br0", "DEVTYPE=bridge\nINTERFACE=br0\n"), ("tap0", "INTERFACE=tap0\n")):
        (net / name).mkdir()
        (net / name / "uevent").write_text(uevent)
    for port in ("tap0", "eth0"):
        (net / "br0" / f"lower_{port}").mkdir()
    (net / "eth0" / "lower_br0").mkdir()  # a circle, which the kernel does not make
    drivers = {"br0": "bridge", "tap0": "tun", "eth0": "virtio_net", "lo": None}
    found = {one.name: one for one in interfaces(root, lambda name: (drivers[name], True))}
    assert {name: one.kind for name, one in found.items()} == {
        "br0": "bridge",
        "eth0": None,
        "lo": "unknown",
        "tap0": "tun",
    }
    assert [port.name for port in found["br0"].lower] == ["eth0", "tap0"]
    assert "what leaves by tap0 is copied" in (found["br0"].uncertain or "")


def test_loopback_of_this_host_copies() -> None:
    lo = next(found for found in interfaces(Path("/")) if found.loopback)
    assert lo.scatter_gather is True
    assert "loopback" in (lo.copies or "")
