"""The checks of `doctor` on machines that do not exist: a directory imitates /proc and /sys."""

from __future__ import annotations

from dataclasses import replace

import pytest
from imitated import ETH, LO, put

from iolab.doctor import network
from iolab.doctor.machine import Level, Machine
from iolab.interfaces import Interface


@pytest.mark.parametrize(
    ("interface", "level", "found"),
    [
        (LO, "ok", "copied: loopback"),
        (ETH, "ok", "possible: scatter-gather is on"),
        (replace(ETH, driver="veth"), "ok", "copied: veth"),
        (replace(ETH, scatter_gather=False), "warn", "copied: scatter-gather is off"),
        (replace(ETH, packet_sockets=2), "warn", "copied: 2 AF_PACKET sockets"),
        (replace(ETH, scatter_gather=None), "ok", "unknown"),
        (replace(ETH, driver="tun", kind="tun"), "ok", "copied: tun or tap"),
        (replace(ETH, kind="bridge"), "ok", "unknown: a bridge over no device"),
        (replace(ETH, up=False, scatter_gather=False), "ok", "down"),
    ],
)
def test_zero_copy_is_possible_or_not_with_a_reason(
    interface: Interface, level: str, found: str
) -> None:
    finding = network.check_zero_copy(interface)
    assert (finding.level, bool(finding.remedy)) == (level, level == "warn")
    assert finding.found.startswith(found)


def test_loopback_down_fails_and_a_small_mtu_warns(machine: Machine) -> None:
    put(machine, "sys/class/net/lo/mtu", "1500")
    assert network.check_loopback(machine).level is Level.WARN
    put(machine, "sys/class/net/lo/flags", "0x8")
    assert network.check_loopback(machine).level is Level.FAIL
