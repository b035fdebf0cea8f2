"""Interfaces: loopback as results elsewhere had it, and where zero-copy sends can be so. Pure."""

from __future__ import annotations

from iolab.doctor.machine import Finding, Level, Machine
from iolab.interfaces import Interface


def check_loopback(machine: Machine) -> Finding:
    """Up (IFF_UP is bit 0 of the flags), and with the MTU results elsewhere were taken with."""
    flags = machine.read("sys/class/net/lo/flags")
    mtu = machine.read("sys/class/net/lo/mtu")
    if flags is None or not int(flags, 16) & 1:
        return Finding("loopback", Level.FAIL, "down", "as root: ip link set lo up")
    if mtu != "65536":
        return Finding("loopback", Level.WARN, f"MTU {mtu}", "as root: ip link set lo mtu 65536")
    return Finding("loopback", Level.OK, f"up, MTU {mtu}")


def check_zero_copy(interface: Interface) -> Finding:
    """What to expect of zero-copy sends there. Copying is no fault, only to be known."""
    check = f"zero copy {interface.name}"
    if not interface.up:
        return Finding(check, Level.OK, "down")
    if interface.copies is None:
        if interface.uncertain is not None:
            found = f"unknown: {interface.uncertain}; test with ./iolab zerocopy-check --interface"
            return Finding(check, Level.OK, f"{found} {interface.name} --connect HOST:PORT")
        return Finding(check, Level.OK, "possible: scatter-gather is on, no AF_PACKET socket open")
    found = f"copied: {interface.copies}"
    if interface.inherent:
        return Finding(check, Level.OK, found)
    remedy = "close what captures packets (ss -0 -p shows it)"
    if interface.scatter_gather is False:
        remedy = f"as root: ethtool -K {interface.name} sg on"
    return Finding(check, Level.WARN, found, remedy)
