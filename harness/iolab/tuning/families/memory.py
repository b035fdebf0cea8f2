"""Huge pages and NUMA balancing.

/sys/kernel/mm/transparent_hugepage/enabled and defrag (Linux 2.6.38; `defer+madvise` 4.11),
reserved 2 MiB pages in /sys/devices/system/node/nodeN/hugepages (2.6.32; the count falls short
where memory is fragmented), /proc/sys/kernel/numa_balancing (3.13).
"""

from __future__ import annotations

from collections.abc import Iterator

from iolab.tuning.families.base import ChoiceFamily
from iolab.tuning.knob import Setting, Target
from iolab.tuning.profile import Profile
from iolab.tuning.scene import Scene

_THP = "sys/kernel/mm/transparent_hugepage"
_PAGES = "hugepages/hugepages-2048kB/nr_hugepages"


class Memory(ChoiceFamily):
    """The family `memory`."""

    name = "memory"

    def settings(self, profile: Profile, scene: Scene) -> Iterator[Setting]:
        """See Family: huge pages are shared out evenly over the nodes."""
        if scene.only_netns:
            return
        table = profile.memory
        if table.thp is not None:
            yield self._setting("transparent_hugepage", f"{_THP}/enabled", table.thp, "thp")
        if table.thp_defrag is not None:
            where = f"{_THP}/defrag"
            yield self._setting(
                "transparent_hugepage defrag", where, table.thp_defrag, "thp_defrag"
            )
        if table.hugepages_2m is not None:
            nodes = sorted(scene.topology.nodes)
            share, rest = divmod(table.hugepages_2m, len(nodes))
            for index, node in enumerate(nodes):
                where = f"sys/devices/system/node/node{node}/{_PAGES}"
                pages = str(share + (index < rest))
                yield self._setting(f"2 MiB pages of node {node}", where, pages, "hugepages_2m")
        if table.numa_balancing is not None:
            where = "proc/sys/kernel/numa_balancing"
            value = str(int(table.numa_balancing))
            yield self._setting("numa_balancing", where, value, "numa_balancing")

    def _setting(self, name: str, where: str, value: str, key: str) -> Setting:
        return Setting(Target(self.name, name, where), value, f"memory.{key}")
