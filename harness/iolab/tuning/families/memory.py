"""Huge pages and NUMA balancing.

/sys/kernel/mm/transparent_hugepage/enabled and defrag (Linux 2.6.38; `defer+madvise` 4.11),
reserved 2 MiB pages in /sys/devices/system/node/nodeN/hugepages (2.6.32; the count falls short
where memory is fragmented), /proc/sys/kernel/numa_balancing (3.13).

Some values move with others. Transparent huge pages raise vm.min_free_kbytes when they are switched
on, and a smaller value that somebody wrote does not come back when they are switched off
(mm/khugepaged.c, set_recommended_min_free_kbytes). vm.nr_hugepages shares pages out over the nodes
as it likes, whatever each of them had.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from iolab.tuning.families.base import ChoiceFamily
from iolab.tuning.families.sysctl import Sysctl, path_of
from iolab.tuning.knob import Setting, Target
from iolab.tuning.profile import Profile
from iolab.tuning.scene import Scene

_THP = "sys/kernel/mm/transparent_hugepage"
_NODES = "sys/devices/system/node"
_PAGES = "nr_hugepages"
_2M = "hugepages-2048kB"
_NODE = re.compile(r"node\d+")
_OF_THE_HOST = ("proc/sys/vm/nr_hugepages", "proc/sys/vm/nr_hugepages_mempolicy")


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
                pages = str(share + (index < rest))
                yield Setting(self._pages(f"node{node}", _2M), pages, "memory.hugepages_2m")
        if table.numa_balancing is not None:
            where = "proc/sys/kernel/numa_balancing"
            value = str(int(table.numa_balancing))
            yield self._setting("numa_balancing", where, value, "numa_balancing")

    def collateral(self, profile: Profile, scene: Scene) -> Iterator[Target]:
        """See Family."""
        if scene.only_netns:
            return
        if profile.memory.thp is not None:
            yield Sysctl().target(scene, "vm.min_free_kbytes")
        if any(path_of(name) in _OF_THE_HOST for name in profile.sysctl):
            tree = scene.host.tree()
            for node in filter(_NODE.fullmatch, tree.names(_NODES)):
                sizes = tree.names(f"{_NODES}/{node}/hugepages")
                yield from (self._pages(node, size) for size in sizes)

    def _pages(self, node: str, size: str) -> Target:
        """How many huge pages of a size, such as `hugepages-2048kB`, a node keeps."""
        of = "2 MiB pages" if size == _2M else size
        name = f"{of} of node {node.removeprefix('node')}"
        return Target(self.name, name, f"{_NODES}/{node}/hugepages/{size}/{_PAGES}")

    def _setting(self, name: str, where: str, value: str, key: str) -> Setting:
        return Setting(Target(self.name, name, where), value, f"memory.{key}")
