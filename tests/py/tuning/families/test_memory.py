"""Huge pages, and what moves with them."""

from __future__ import annotations

from pathlib import Path

from fakehost import FakeHost, WriteProfile, snapshot
from faketools import put

from iolab.tuning import bench
from iolab.tuning.scene import Scene

FREE = "proc/sys/vm/min_free_kbytes"
PAGES = "sys/devices/system/node/node{}/hugepages/hugepages-2048kB/nr_hugepages"


def test_the_reserve_that_huge_pages_raise_comes_back(
    machine: Path, host: FakeHost, scene: Scene, write_profile: WriteProfile
) -> None:
    """As mm/khugepaged.c does where somebody wrote less: switching off leaves it raised."""

    def enable(old: str, new: str) -> str:
        if new != "never":
            put(machine, FREE, "67584")
        return " ".join(f"[{one}]" if one == new else one for one in ("always", "madvise", "never"))

    put(machine, FREE, "8192")
    put(machine, "sys/kernel/mm/transparent_hugepage/enabled", "always madvise [never]")
    host.rules["sys/kernel/mm/transparent_hugepage/enabled"] = enable
    before = snapshot(machine)
    assert bench.apply(write_profile('[memory]\nthp = "always"'), scene).ok
    assert (machine / FREE).read_text() == "67584\n"
    assert [one for one in bench.revert(host) if one.problem] == []
    assert snapshot(machine) == before


def test_each_node_gets_its_own_huge_pages_back(
    machine: Path, host: FakeHost, scene: Scene, write_profile: WriteProfile
) -> None:
    """The host's number is shared out evenly, also when it is restored (mm/hugetlb.c)."""

    def share(old: str, new: str) -> str:
        for node in range(2):
            put(machine, PAGES.format(node), str(int(new) // 2))
        return new

    put(machine, "proc/sys/vm/nr_hugepages", "6")
    put(machine, PAGES.format(1), "6")
    host.rules["proc/sys/vm/nr_hugepages"] = share
    before = snapshot(machine)
    assert bench.apply(write_profile('[sysctl]\n"vm.nr_hugepages" = 20'), scene).ok
    assert (machine / PAGES.format(0)).read_text() == "10\n"
    assert [one for one in bench.revert(host) if one.problem] == []
    assert snapshot(machine) == before
