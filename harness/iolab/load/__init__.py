"""Load generators. One file per tool."""

from __future__ import annotations

from typing import Any, Protocol

from iolab.executor import ProcessError
from iolab.model import Workload


class UnsupportedError(ProcessError):
    """A tool that says that this cannot be done here; the message is its reason."""


class LoadSession(Protocol):
    """Clients that are connected once, driven slice by slice, and idle in between."""

    @property
    def pids(self) -> tuple[int, ...]:
        """The clients' processes."""

    def slice(self, workload: Workload, warmup_ms: int, duration_ms: int) -> dict[str, Any]:
        """Drives one slice of a workload that they were opened for; returns the tool's document.

        ProcessError when the tool failed.
        """

    def close(self) -> None:
        """Closes the connections and ends the tool."""
