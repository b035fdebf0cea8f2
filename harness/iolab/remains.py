"""Whether a killed run may have left something. Each start asks: it imports next to nothing."""

from __future__ import annotations

from pathlib import Path

from iolab.tuning.state import journalled, namespace_states, of_root

BED_PREFIX = "iolab-bed"
"""How the names of a testbed's namespaces begin; see testbed/netns.py."""
NAMED_NAMESPACES = Path("/run/netns")
"""Where ip-netns(8) keeps them."""


def something_remains() -> bool:
    """True when there is a journal, or a namespace that was tuned or belongs to a testbed."""
    beds = NAMED_NAMESPACES.glob(f"{BED_PREFIX}-*")
    return bool(journalled() or namespace_states() or of_root() or any(beds))
