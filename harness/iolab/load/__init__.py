"""Load generators. One file per tool."""

from __future__ import annotations

from typing import Any, Protocol


class LoadSession(Protocol):
    """The clients of one cell: connected once, driven slice by slice, idle in between."""

    def slice(self, warmup_ms: int, duration_ms: int) -> dict[str, Any]:
        """Drives one slice and returns the tool's document; ProcessError when the tool failed."""

    def close(self) -> None:
        """Closes the connections and ends the tool."""
