"""What this process may have: locked memory, open files, tracing, room on disk. Pure."""

from __future__ import annotations

import re

from iolab.doctor.machine import Finding, Level, Machine

CAP_IPC_LOCK = 14
"""Bit in /proc/self/status CapEff; who has it is not bound by RLIMIT_MEMLOCK (capability.h)."""

MEMLOCK_BYTES = 8 << 20
"""What zero-copy sends and registered buffers of one server may pin; Debian's default limit."""

NOFILE = 10_500
"""Descriptors for 10,000 connections and the server's own files."""


def check_memlock(machine: Machine) -> Finding:
    """Pages under zero-copy sends and registered buffers count against RLIMIT_MEMLOCK."""
    match = re.search(r"^CapEff:\s*([0-9a-f]+)", machine.read("proc/self/status") or "", re.M)
    if match and int(match[1], 16) >> CAP_IPC_LOCK & 1:
        return Finding("locked memory", Level.OK, "unlimited (CAP_IPC_LOCK)")
    limit = machine.memlock_bytes
    found = "unlimited" if limit < 0 else f"{limit >> 10} KiB"
    if 0 <= limit < MEMLOCK_BYTES:
        remedy = f"ulimit -l {MEMLOCK_BYTES >> 10} (memlock in /etc/security/limits.conf)"
        return Finding("locked memory", Level.WARN, found, remedy)
    return Finding("locked memory", Level.OK, found)


def check_nofile(machine: Machine) -> Finding:
    """The hard limit: programs raise their soft limit themselves."""
    limit = machine.nofile_hard
    found = "unlimited" if limit < 0 else f"{limit} at most"
    if 0 <= limit < 256:
        return Finding("open files", Level.FAIL, found, "ulimit -Hn: 256 is the least")
    if 0 <= limit < NOFILE:
        remedy = f"workloads of 10,000 connections need {NOFILE} (nofile in limits.conf)"
        return Finding("open files", Level.WARN, found, remedy)
    return Finding("open files", Level.OK, found)


def check_tracefs(machine: Machine) -> Finding:
    """Wanted by passes that count system calls from outside; the servers count their own."""
    if machine.read("sys/kernel/tracing/trace_clock") is not None:
        return Finding("tracefs", Level.OK, "readable")
    remedy = "only for tracing passes, as root: mount -t tracefs tracefs /sys/kernel/tracing"
    return Finding("tracefs", Level.WARN, "not mounted or not readable", remedy)


def check_disk(machine: Machine) -> Finding:
    """Workload files and raw samples."""
    found = f"{machine.free_disk_bytes / (1 << 30):.1f} GiB free for results and workload files"
    if machine.free_disk_bytes < 1 << 30:
        return Finding("disk", Level.WARN, found, "make room: 1 GiB is wanted")
    return Finding("disk", Level.OK, found)
