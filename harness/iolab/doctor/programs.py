"""The kernel, our engines, tools and peers: is here what is measured, and what measures? Pure."""

from __future__ import annotations

import re

from iolab.doctor.machine import Finding, Level, Machine, Peer


def check_kernel(machine: Machine) -> Finding:
    """openat2 (file lookup) came with 5.6, the io_uring set-up flags used here with 6.1."""
    match = re.match(r"(\d+)\.(\d+)", machine.kernel)
    version = (int(match[1]), int(match[2])) if match else (0, 0)
    if version < (5, 6):
        return Finding("kernel", Level.FAIL, machine.kernel, "openat2 needs Linux 5.6 or later")
    if version < (6, 1):
        remedy = "Linux 6.1 or later runs every engine (Debian 12 has it)"
        return Finding("kernel", Level.WARN, machine.kernel, remedy)
    return Finding("kernel", Level.OK, machine.kernel)


def check_engines(machine: Machine) -> Finding:
    """What the built server says about itself; not built is no failure, a verb will build it."""
    if machine.describe is None:
        remedy = "./iolab setup"
        return Finding("engines", Level.WARN, machine.describe_problem or "not built", remedy)
    engines = machine.describe.engines
    lame = [f"{engine.name}: {engine.reason}" for engine in engines if not engine.usable]
    found = f"{len(engines) - len(lame)} of {len(engines)} usable"
    if not lame:
        return Finding("engines", Level.OK, found)
    level = Level.FAIL if len(lame) == len(engines) else Level.WARN
    return Finding("engines", level, f"{found}; {'; '.join(lame)}", "they will be left out")


def check_io_uring(machine: Machine) -> Finding:
    """The switch of Linux 6.6 (Documentation/admin-guide/sysctl/kernel.rst, io_uring_disabled)."""
    switch = machine.read("proc/sys/kernel/io_uring_disabled")
    remedy = "as root: sysctl kernel.io_uring_disabled=0"
    if switch == "2":
        return Finding("io_uring", Level.WARN, "switched off for everyone", remedy)
    if switch == "1":
        return Finding("io_uring", Level.WARN, "only for root and kernel.io_uring_group", remedy)
    return Finding("io_uring", Level.OK, "not switched off")


def check_tools(machine: Machine) -> Finding:
    """Programs from Debian packages, most of them of another name."""
    packages = {
        "wrk": "wrk", "gnuplot": "gnuplot-nox", "ip": "iproute2", "ethtool": "ethtool",
        "perf": "linux-perf",
    }  # fmt: skip
    missing = [tool for tool in packages if machine.which(tool) is None]
    if not missing:
        return Finding("tools", Level.OK, ", ".join(packages))
    names = " ".join(packages[tool] for tool in missing)
    remedy = f"as root: apt-get install --no-install-recommends {names}"
    return Finding("tools", Level.WARN, f"missing: {', '.join(missing)}", remedy)


def check_peer(peer: Peer) -> Finding:
    """A server of others; without it, the matrices that name it leave its cells out."""
    check = f"peer {peer.name}"
    if peer.lack is not None:
        return Finding(check, Level.WARN, peer.lack, peer.remedy)
    return Finding(check, Level.OK, peer.version or "of unknown version")
