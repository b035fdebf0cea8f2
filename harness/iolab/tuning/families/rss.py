"""Receive-side scaling: table and hash key, `ethtool -x` and `-X` (Linux 2.6.36, key 3.16).

The tool cannot write an arbitrary table, only `default`, `equal N` and weights. A table that is
none of the first two could not be restored exactly, so that it is not touched.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from iolab.tuning.families.base import ToolFamily, ask
from iolab.tuning.host import Host
from iolab.tuning.knob import KnobError, Setting, Target
from iolab.tuning.profile import Profile
from iolab.tuning.scene import Scene


class Rss(ToolFamily):
    """The family `rss`: `indirection` (`default`, `equal N`) and `hkey`."""

    name = "rss"

    def settings(self, profile: Profile, scene: Scene) -> Iterator[Setting]:
        """See Family."""
        rss = profile.nic.rss
        wanted = rss.indirection
        if wanted is not None:
            value = wanted if isinstance(wanted, str) else f"equal {wanted}"
            yield self._setting(profile, scene, "indirection", value, "nic.rss.indirection")
        if rss.hash_key is not None:
            yield self._setting(profile, scene, "hkey", rss.hash_key, "nic.rss.hash_key")

    def _setting(self, profile: Profile, scene: Scene, what: str, value: str, key: str) -> Setting:
        nic = scene.nic(profile.nic.interface, key)
        target = Target(self.name, f"RSS {what} of {nic.name}", what, nic.name, nic.netns)
        return Setting(target, value, key)

    def read(self, host: Host, target: Target) -> str:
        """See Family."""
        text = ask(host, target, "-x", target.device)
        return _key(target, text) if target.where == "hkey" else _table(target, text)

    def commands(self, target: Target, value: str) -> list[list[str]]:
        """See ToolFamily."""
        words = ["hkey", value] if target.where == "hkey" else value.split()
        return [["ethtool", "-X", target.device, *words]]

    def same(self, target: Target, requested: str, effective: str) -> bool:
        """See Family; a key of another length is refused by the driver, not cut."""
        return requested == effective


def _table(target: Target, text: str) -> str:
    """`default` when entry i is ring i modulo their number, `equal N` when modulo fewer."""
    rings = re.search(r"with (\d+) RX ring", text)
    rows = re.findall(r"^\s*\d+:((?:\s+\d+)+)\s*$", text, re.MULTILINE)
    table = [int(word) for row in rows for word in row.split()]
    if not table or rings is None:
        raise KnobError(f"{target.device}: the driver has no indirection table")
    count = max(table) + 1
    if any(ring != index % count for index, ring in enumerate(table)):
        raise KnobError(
            f"{target.device}: its indirection table is neither `default` nor `equal N`; "
            "ethtool could not restore it exactly"
        )
    return "default" if count == int(rings[1]) else f"equal {count}"


def _key(target: Target, text: str) -> str:
    found = re.search(r"RSS hash key:\s*\n\s*([0-9a-f]{2}(?::[0-9a-f]{2})+)", text)
    if found is None:
        raise KnobError(f"{target.device}: the driver shows no hash key")
    return found[1]
