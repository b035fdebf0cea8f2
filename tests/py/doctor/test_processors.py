"""The checks of `doctor` on machines that do not exist: a directory imitates /proc and /sys."""

from __future__ import annotations

from dataclasses import replace

import pytest
from imitated import QUIET, put

from iolab.doctor import processors
from iolab.doctor.machine import CpuTimes, Level, Machine


def test_cpu_accounting_without_a_group_to_write_to(machine: Machine) -> None:
    put(machine, "proc/self/mountinfo", "30 29 0:26 / /elsewhere rw - cgroup2 cgroup2 rw")
    finding = processors.check_cpu_accounting(machine)
    assert (finding.level, "socat" in finding.found) == (Level.WARN, True)


def test_one_processor_is_too_few(machine: Machine) -> None:
    assert processors.check_cpus(replace(machine, affinity=frozenset({1}))).level is Level.WARN


def test_two_hardware_threads_of_one_core_are_too_few(machine: Machine) -> None:
    for cpu in machine.affinity:
        put(machine, f"sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list", "0-1")
    finding = processors.check_cpus(machine)
    assert (finding.level, finding.found) == (Level.WARN, "2 usable (0-1), 1 cores")


@pytest.mark.parametrize(
    ("governor", "boost", "level", "found"),
    [
        ("performance", "0", "ok", "governor performance; turbo off"),
        ("performance", "1", "warn", "governor performance; turbo on"),
        ("powersave", "0", "warn", "governor powersave; turbo off"),
    ],
)
def test_governor_and_turbo(
    machine: Machine, governor: str, boost: str, level: str, found: str
) -> None:
    for cpu in machine.affinity:
        put(machine, f"sys/devices/system/cpu/cpu{cpu}/cpufreq/scaling_governor", governor)
    put(machine, "sys/devices/system/cpu/cpufreq/boost", boost)
    finding = processors.check_frequency(machine)
    assert (finding.level, finding.found) == (level, found)


def test_slow_clocksource_warns(machine: Machine) -> None:
    put(machine, "sys/devices/system/clocksource/clocksource0/current_clocksource", "hpet")
    assert processors.check_clocksource(machine).level is Level.WARN


@pytest.mark.parametrize(
    ("after", "load", "level"),
    [
        (CpuTimes(1060, 560, 5), "0.10", "ok"),
        (CpuTimes(1060, 530, 5), "0.10", "warn"),
        (CpuTimes(1060, 555, 10), "0.10", "warn"),
        (CpuTimes(1060, 560, 5), "1.50", "warn"),
    ],
)
def test_quiet(machine: Machine, after: CpuTimes, load: str, level: str) -> None:
    put(machine, "proc/loadavg", f"{load} 0 0 1/90 1")
    assert processors.check_quiet(replace(machine, busy=(QUIET[0], after))).level == level


def test_a_quota_of_a_parent_group_counts(machine: Machine) -> None:
    put(machine, "sys/fs/cgroup/user.slice/cpu.max", "150000 100000")
    put(machine, "sys/fs/cgroup/user.slice/one.scope/cpu.max", "max 100000")
    finding = processors.check_cgroup(machine)
    assert finding.level is Level.WARN
    assert "1.50 CPUs" in finding.found


def test_a_quota_of_the_first_version(machine: Machine) -> None:
    put(machine, "proc/self/cgroup", "4:cpu,cpuacct:/box\n0::/")
    put(machine, "sys/fs/cgroup/cpu,cpuacct/box/cpu.cfs_quota_us", "-1")
    assert processors.check_cgroup(machine).level is Level.OK
    put(machine, "sys/fs/cgroup/cpu,cpuacct/box/cpu.cfs_quota_us", "50000")
    assert processors.check_cgroup(machine).level is Level.WARN


def test_cpu_times_of_proc_stat() -> None:
    text = "cpu  10 1 5 100 20 0 3 7 0 0\ncpu0 1 1 1 1 1 1 1 1 1 1"
    assert processors.parse_cpu_times(text) == CpuTimes(total=146, idle=120, steal=7)
    assert processors.parse_cpu_times("intr 5") is None
    assert processors.parse_cpu_times(None) is None
