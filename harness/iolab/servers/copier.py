"""Stands where a server would in role copy: there is none, the tool of each cell copies files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from iolab.model import Server


@dataclass(frozen=True)
class Copier:
    """A technique with its options; implements RunningServer. Nothing runs, nothing can end."""

    server: Server
    host: str = ""
    port: int = 0
    upstream: tuple[str, int] | None = None
    cpu_pids: tuple[int, ...] = ()
    resident_pid: int | None = None
    cpu_usage: Path | None = None

    def counters(self) -> dict[str, Any] | None:
        """See RunningServer."""
        return None

    def new_peaks(self) -> None:
        """See RunningServer."""

    def memory(self) -> dict[str, Any]:
        """See RunningServer."""
        return {}

    def failure(self) -> str | None:
        """See RunningServer."""
        return None

    def stop(self) -> None:
        """See RunningServer."""
