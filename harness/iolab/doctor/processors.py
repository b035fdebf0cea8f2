"""Processors and their time: enough of them, constant, quiet, not capped, and accounted for.

Pure but for `check_cpu_accounting`, which asks the system whether control groups can be made.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from iolab.cgroup import cpu_parents
from iolab.doctor.machine import CpuTimes, Finding, Level, Machine
from iolab.tuning.cpus import format_list

BUSY_WINDOW_S = 0.3
"""How long `look.py` watches the processors, for `check_quiet`."""


def check_cpus(machine: Machine) -> Finding:
    """Server and client need a core each; two hardware threads of one core are no substitute."""
    cpus = machine.affinity
    cores = {
        machine.read(f"sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list") or str(cpu)
        for cpu in cpus
    }
    found = f"{len(cpus)} usable ({format_list(cpus)}), {len(cores)} cores"
    if len(cpus) < 2:
        remedy = "server and client share it: give this process two CPUs (taskset, cpuset)"
        return Finding("processors", Level.WARN, found, remedy)
    if len(cores) < 2:
        remedy = "hardware threads of one core disturb each other: allow CPUs of two cores"
        return Finding("processors", Level.WARN, found, remedy)
    return Finding("processors", Level.OK, found)


def check_frequency(machine: Machine) -> Finding:
    """A governor other than `performance`, and turbo, let the clock follow load and heat."""
    cpu = "sys/devices/system/cpu"
    governors = {machine.read(f"{cpu}/cpu{n}/cpufreq/scaling_governor") for n in machine.affinity}
    names = sorted(name for name in governors if name)
    if not names:
        return Finding("frequency", Level.OK, "not visible here (a virtual machine's host decides)")
    turbo = machine.read(f"{cpu}/intel_pstate/no_turbo") == "0"
    turbo = turbo or machine.read(f"{cpu}/cpufreq/boost") == "1"
    found = f"governor {', '.join(names)}; turbo {'on' if turbo else 'off'}"
    if names != ["performance"]:
        remedy = f"as root: echo performance | tee /{cpu}/cpu*/cpufreq/scaling_governor"
        return Finding("frequency", Level.WARN, found, remedy)
    if turbo:
        remedy = "the clock follows load and heat: switch turbo off to compare absolute numbers"
        return Finding("frequency", Level.WARN, found, remedy)
    return Finding("frequency", Level.OK, found)


def check_clocksource(machine: Machine) -> Finding:
    """hpet and acpi_pm are read over a bus, with a system call: a microsecond each time."""
    source = machine.read("sys/devices/system/clocksource/clocksource0/current_clocksource")
    if source in ("hpet", "acpi_pm", "jiffies"):
        remedy = "slow to read: find out why the kernel gave up tsc (dmesg | grep -i tsc)"
        return Finding("clocksource", Level.WARN, source, remedy)
    return Finding("clocksource", Level.OK, source or "not visible")


def check_quiet(machine: Machine) -> Finding:
    """Load average, and what the processors did in a short window with nothing of ours running."""
    load = (machine.read("proc/loadavg") or "0").split()[0]
    found = f"load {load}"
    if machine.busy is None:
        return Finding("quiet", Level.OK, found)
    before, after = machine.busy
    ticks = max(after.total - before.total, 1)
    used = 1 - (after.idle - before.idle) / ticks
    steal = (after.steal - before.steal) / ticks
    found += f"; in {BUSY_WINDOW_S} s: {used:.0%} busy, {steal:.0%} stolen"
    if steal > 0.02:
        return Finding("quiet", Level.WARN, found, "other guests take processor time: wait")
    if used > 0.15 or float(load) > 0.5 * max(len(machine.affinity), 1):
        return Finding("quiet", Level.WARN, found, "something else runs here: see top")
    return Finding("quiet", Level.OK, found)


def parse_cpu_times(stat: str | None) -> CpuTimes | None:
    """The sum line of /proc/stat (proc(5): user nice system idle iowait irq softirq steal)."""
    match = re.match(r"cpu +([\d ]+)", stat or "")
    ticks = [int(word) for word in match[1].split()][:8] if match else []
    if len(ticks) < 8:
        return None
    return CpuTimes(total=sum(ticks), idle=ticks[3] + ticks[4], steal=ticks[7])


def check_cgroup(machine: Machine) -> Finding:
    """A CPU quota stops all threads for the rest of each period: rates become sawteeth."""
    for line in (machine.read("proc/self/cgroup") or "").splitlines():
        number, controllers, path = line.split(":", 2)
        quota = _quota_v2(machine, path) if number == "0" else None
        if "cpu" in controllers.split(","):
            quota = _quota_v1(machine, controllers, path)
        if quota is not None:
            found = f"CPU quota of {quota:.2f} CPUs on {path}"
            return Finding("cgroup", Level.WARN, found, "run outside of it, or lift the quota")
    return Finding("cgroup", Level.OK, "no CPU quota")


def _quota_v2(machine: Machine, path: str) -> float | None:
    """The tightest cpu.max from `path` up to the root, in CPUs."""
    tightest: float | None = None
    for group in (Path(path), *Path(path).parents):
        words = (machine.read(f"sys/fs/cgroup{group}/cpu.max") or "max").split()
        if words[0] != "max" and len(words) == 2:
            quota = int(words[0]) / int(words[1])
            tightest = quota if tightest is None else min(tightest, quota)
    return tightest


def _quota_v1(machine: Machine, controllers: str, path: str) -> float | None:
    """CFS quota of the group itself, in CPUs; -1 in the file means none."""
    base = f"sys/fs/cgroup/{controllers}{path.rstrip('/')}"
    quota = int(machine.read(f"{base}/cpu.cfs_quota_us") or -1)
    period = int(machine.read(f"{base}/cpu.cfs_period_us") or 100_000)
    return quota / period if quota > 0 else None


def check_cpu_accounting(machine: Machine) -> Finding:
    """A peer that forks a process a connection is accounted by a control group."""
    parents = [place for place, _ in cpu_parents(machine.root) if os.access(place, os.W_OK)]
    if parents:
        return Finding("cpu accounting", Level.OK, f"control groups can be made in {parents[0]}")
    found = "no control group can be made: no CPU time of peers that fork (socat)"
    remedy = "run as root, or in: systemd-run --user --scope -p Delegate=yes ./iolab run ..."
    return Finding("cpu accounting", Level.WARN, found, remedy)
