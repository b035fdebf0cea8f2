"""Where journals lie: one place a host, whichever tree iolab is started from.

The host has a journal, and each network namespace that was tuned alone: profiles that live in
namespaces stand side by side. Each start of iolab looks here: it imports next to nothing.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

FILE = "journal.jsonl"
"""A journal's name in its state directory."""
OF_ROOT = Path("/var/lib/iolab/tuning")
_NETNS = "netns"


def state_dir(netns: str = "") -> Path:
    """/var/lib/iolab/tuning for root, below XDG_STATE_HOME for others; IOLAB_STATE overrides.

    `netns` is the namespace that alone is tuned; empty for the host.
    """
    override = os.environ.get("IOLAB_STATE")
    if override:
        base = Path(override)
    elif os.geteuid() == 0:
        base = OF_ROOT
    else:
        home = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local/state")
        base = home / "iolab/tuning"
    return base / _NETNS / netns if netns else base


def beside(state: Path) -> list[Path]:
    """The state directories with a journal, of this host, other than `state`."""
    base = state.parent.parent if is_of_namespace(state) else state
    return [one for one in _journalled(base) if one != state]


def is_of_namespace(state: Path) -> bool:
    """True for the state directory of a namespace that alone is tuned."""
    return state.parent.name == _NETNS


def journalled() -> list[Path]:
    """The state directories that hold a journal. No value is in two of them: see overlap.py."""
    return _journalled(state_dir())


def namespace_states() -> list[Path]:
    """The state directories of namespaces that were tuned alone, with a journal or without."""
    return sorted(one for one in state_dir().glob(f"{_NETNS}/*") if one.is_dir())


def of_root() -> list[Path]:
    """The state directories with a journal of root's, for others to mind; root minds its own."""
    return [] if state_dir() == OF_ROOT or "IOLAB_STATE" in os.environ else _journalled(OF_ROOT)


def _journalled(base: Path) -> list[Path]:
    return [path.parent for path in [*sorted(base.glob(f"{_NETNS}/*/{FILE}")), *base.glob(FILE)]]


def forget(state: Path) -> None:
    """Removes the state directory of a namespace that goes, unless there is something to revert."""
    if not (state / FILE).exists():
        shutil.rmtree(state, ignore_errors=True)
