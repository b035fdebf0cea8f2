"""Hardware threads go off line: plans are for the CPUs that stay, and what moves comes back."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from fakehost import FakeHost, WriteProfile, snapshot
from faketools import put

from iolab.errors import IolabError
from iolab.executor import HostExecutor
from iolab.topology import Topology
from iolab.tuning import bench
from iolab.tuning.scene import Scene

CONTROL = "sys/devices/system/cpu/smt/control"
CORES = (frozenset({0, 1}), frozenset({2, 3}))
ALL = frozenset(range(4))


@dataclass
class Threads(FakeHost):
    """Two cores of two threads; CPUs 1 and 3 go off line with smt/control."""

    def topology(self) -> Topology:
        whole = Topology(ALL, {0: ALL}, {cpu: core for core in CORES for cpu in core})
        return whole.one_thread() if self.is_off() else whole

    def is_off(self) -> bool:
        return (self.root / CONTROL).read_text() == "off\n"

    def switch(self, old: str, new: str) -> str:
        """kernel/irq/cpuhotplug.c: an interrupt that loses its last CPU is bound to all."""
        for file in self.root.glob("proc/irq/*/smp_affinity_list"):
            if new == "off" and file.read_text().strip() in ("1", "3"):
                file.write_text("0-3\n")
        return new

    def bind(self, old: str, new: str) -> str:
        if new in ("1", "3") and self.is_off():
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        return new

    def govern(self, old: str, new: str) -> str:
        if self.is_off():
            raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))
        return new


@pytest.fixture
def threads(machine: Path, tmp_path: Path) -> Iterator[Threads]:
    made = Threads(HostExecutor(), machine, tmp_path / "state")
    made.rules = {CONTROL: made.switch, "proc/irq/*/smp_affinity_list": made.bind}
    for cpu in range(4):
        policy = f"sys/devices/system/cpu/cpufreq/policy{cpu}"
        put(machine, f"{policy}/related_cpus", str(cpu))
        if cpu % 2:
            made.rules[f"{policy}/scaling_governor"] = made.govern
    put(machine, "proc/irq/9/smp_affinity_list", "3")
    with (machine / "proc/interrupts").open("a") as file:
        file.write("  9:  0 0 0 0 IO-APIC 9-fasteoi acpi\n")
    yield made
    made.close()


PROFILE = """
[cpu]
smt = false
governor = "performance"
[irq]
policy = "all"
[steering]
xps = "one-per-queue"
"""


def test_plans_are_for_the_cpus_that_stay_and_all_comes_back(
    machine: Path, threads: Threads, write_profile: WriteProfile
) -> None:
    before = snapshot(machine)
    applied = bench.apply(write_profile(PROFILE), Scene(threads))
    assert applied.ok, [one for one in applied.results if not one.good]
    lists = {
        (machine / f"proc/irq/{number}/smp_affinity_list").read_text() for number in range(41, 49)
    }
    assert lists == {"0\n", "2\n"}
    assert (machine / "proc/irq/9/smp_affinity_list").read_text() == "0-3\n"
    assert all(one.good for one in bench.verify(threads))
    assert [one for one in bench.revert(threads) if one.problem] == []
    assert snapshot(machine) == before


@pytest.mark.parametrize(("flags", "complains"), [("64", True), (str(0x04000040), False)])
def test_a_thread_that_would_lose_its_binding_is_in_the_way(
    machine: Path, threads: Threads, write_profile: WriteProfile, flags: str, complains: bool
) -> None:
    put(machine, "proc/77/task/78/status", "Name:\tdb\nCpus_allowed_list:\t1,3")
    put(machine, "proc/77/task/78/stat", f"78 (db) S 1 77 77 0 -1 {flags} 0 0")
    loaded = write_profile("[cpu]\nsmt = false")
    if not complains:  # a thread of the kernel's own for that CPU
        assert bench.apply(loaded, Scene(threads)).ok
        return
    with pytest.raises(IolabError, match=r"cpu\.smt: .*thread 78 \(db\) is bound to CPU 1,3"):
        bench.apply(loaded, Scene(threads))
    assert threads.changes == 0
