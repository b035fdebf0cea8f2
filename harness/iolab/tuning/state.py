"""Where the journal lies: one place a host, whichever tree iolab is started from."""

from __future__ import annotations

import os
from pathlib import Path


def state_dir() -> Path:
    """/var/lib/iolab/tuning for root, below XDG_STATE_HOME for others; IOLAB_STATE overrides."""
    override = os.environ.get("IOLAB_STATE")
    if override:
        return Path(override)
    if os.geteuid() == 0:
        return Path("/var/lib/iolab/tuning")
    home = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local/state")
    return home / "iolab/tuning"
