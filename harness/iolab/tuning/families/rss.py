"""Receive-side scaling: table and hash key, `ethtool -x` and `-X` (Linux 2.6.36, key 3.16).

The tool writes tables in which queues take turns (`default`, `equal N`, `start S equal N`) and
those in which each has one stretch (`weight W0 W1 ...`). Any other is `table Q,Q,...`, a queue for
each entry, and goes to the kernel by a small program (rss_table.py): a profile asks for none such,
but the table that was there before may be one, and has to come back. The driver makes a new table
when `ethtool -L` changes the queues.
"""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Iterator

from iolab.topology import parse_cpu_list
from iolab.tuning import rss_table
from iolab.tuning.families.base import ToolFamily, ask
from iolab.tuning.host import Host
from iolab.tuning.knob import KnobError, Setting, Target
from iolab.tuning.nic import Nic
from iolab.tuning.profile import Profile
from iolab.tuning.scene import Scene


class Rss(ToolFamily):
    """The family `rss`: `indirection`, spelled as after `ethtool -X IF`, and `hkey`."""

    name = "rss"

    def settings(self, profile: Profile, scene: Scene) -> Iterator[Setting]:
        """See Family."""
        rss = profile.nic.rss
        wanted = rss.indirection
        if wanted is not None:
            nic = scene.nic(profile.nic.interface, "nic.rss.indirection")
            yield Setting(self.target(nic, "indirection"), _spell(wanted), "nic.rss.indirection")
        if rss.hash_key is not None:
            nic = scene.nic(profile.nic.interface, "nic.rss.hash_key")
            yield Setting(self.target(nic, "hkey"), rss.hash_key, "nic.rss.hash_key")

    def collateral(self, profile: Profile, scene: Scene) -> Iterator[Target]:
        """See Family."""
        if profile.nic.channels is not None:
            yield self.target(scene.nic(profile.nic.interface, "nic.channels"), "indirection")

    def target(self, nic: Nic, what: str) -> Target:
        """Table or key of an interface."""
        return Target(self.name, f"RSS {what} of {nic.name}", what, nic.name, nic.netns)

    def read(self, host: Host, target: Target) -> str:
        """See Family."""
        text = ask(host, target, "-x", target.device)
        return _key(target, text) if target.where == "hkey" else _table(target, text)

    def commands(self, target: Target, value: str) -> list[list[str]]:
        """See ToolFamily."""
        words = ["hkey", value] if target.where == "hkey" else value.split()
        if words[0] == "table":
            return [[sys.executable, rss_table.__file__, target.device, words[1]]]
        return [["ethtool", "-X", target.device, *words]]

    def shell(self, target: Target, value: str) -> list[str]:
        """See Family: the program for irregular tables stands in the script's head."""
        if not value.startswith("table "):
            return super().shell(target, value)
        inside = ["ip", "netns", "exec", target.netns] if target.netns else []
        words = shlex.join(["run", *inside, "python3", "-c"])
        return [f'{words} "$RSS_TABLE" {shlex.join([target.device, value.split()[1]])}']

    def same(self, target: Target, requested: str, effective: str) -> bool:
        """See Family; weights say the same table by whatever numbers of one proportion."""
        if requested.startswith("weight") and effective != "default":
            size = sum(_weights(effective)) if effective.startswith("weight") else 0
            return bool(size) and _stretches(_weights(requested), size) == _trim(effective)
        return requested == effective


def _spell(wanted: int | str | tuple[int, ...]) -> str:
    if isinstance(wanted, int):
        return f"equal {wanted}"
    if isinstance(wanted, tuple):
        return f"weight {' '.join(map(str, wanted))}"
    if wanted == "default":
        return wanted
    queues = parse_cpu_list(wanted)
    first, count = min(queues), len(queues)
    if max(queues) == first + count - 1:
        return f"start {first} equal {count}" if first else f"equal {count}"
    return " ".join(["weight", *(str(int(one in queues)) for one in range(max(queues) + 1))])


def _table(target: Target, text: str) -> str:
    table, rings = _entries(text)
    if not table:
        raise KnobError(f"{target.device}: the driver has no indirection table")
    return _name(table, rings)


def _entries(text: str) -> tuple[list[int], int]:
    """The queue of each entry, and the number of queues."""
    rings = re.search(r"with (\d+) RX ring", text)
    rows = re.findall(r"^\s*\d+:((?:\s+\d+)+)\s*$", text, re.MULTILINE)
    table = [int(word) for row in rows for word in row.split()]
    return (table, int(rings[1])) if rings else ([], 0)


def _name(table: list[int], rings: int) -> str:
    """How ethtool spells the table, and every entry of one that it cannot write."""
    first, count = min(table), max(table) - min(table) + 1
    if all(ring == first + index % count for index, ring in enumerate(table)):
        if first:
            return f"start {first} equal {count}"
        return "default" if count == rings else f"equal {count}"
    if table == sorted(table):
        return " ".join(["weight", *(str(table.count(ring)) for ring in range(max(table) + 1))])
    return f"table {','.join(map(str, table))}"


def _weights(value: str) -> list[int]:
    return [int(word) for word in value.split()[1:]]


def _trim(value: str) -> list[int]:
    """The stretches of a table without queues behind the last that has one."""
    weights = _weights(value)
    while weights and not weights[-1]:
        weights.pop()
    return weights


def _stretches(weights: list[int], size: int) -> list[int]:
    """Entries of each queue when a table of `size` is filled by weights, as ethtool fills it."""
    counts, queue, partial = [0] * len(weights), 0, weights[0]
    for entry in range(size):
        while entry >= size * partial // sum(weights):
            queue += 1
            partial += weights[queue]
        counts[queue] += 1
    while counts and not counts[-1]:
        counts.pop()
    return counts


def _key(target: Target, text: str) -> str:
    found = re.search(r"RSS hash key:\s*\n\s*([0-9a-f]{2}(?::[0-9a-f]{2})+)", text)
    if found is None:
        raise KnobError(f"{target.device}: the driver shows no hash key")
    return found[1]
