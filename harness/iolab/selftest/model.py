"""What a self-test is set to, and what it found, as frozen data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

KIND = "selftest"
DOCUMENT = "selftest.json"
GATES = "gates.jsonl"
GATE_KEYS = ("percent", "budget_s", "exit_code", "first_s", "measured_s")
SCHEMA_VERSION = 1

PLANTED = (2, 5, 10, 20)
"""The planted slowdowns, as of iolab-server --handicap: percent of the time of a response."""


FAMILY = 6
"""Comparisons of the gate that is run unless told otherwise (workloads/gate.toml): one family."""


@dataclass(frozen=True)
class Settings:
    """How much is measured. `gates` are end-to-end gates: (planted percent, budget in s)."""

    engine: str = "epoll"
    size_bytes: int = 1024
    connections: int = 50
    slice_ms: int = 150
    warmup_ms: int = 20
    sessions: int = 20
    blocks: int = 120
    repetitions: int = 20
    gates: tuple[tuple[int, float], ...] = ((0, 60.0), (10, 60.0), (5, 180.0))
    draws: int = 300
    threshold: float = 0.05
    seed: int = 1

    @property
    def short(self) -> bool:
        """True when it is a trial of the path, too small to say anything about error rates."""
        return self.sessions < 20 or self.repetitions < 20 or self.draws < 200

    def threshold_for(self, percent: int) -> float:
        """The threshold at which a planted slowdown is looked for: its own size, at most ours.

        Nobody finds 2% who has said that 5% is what matters.
        """
        return min(self.threshold, percent / 100) if percent else self.threshold


Logs = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Session:
    """One recording with processes of its own: log ratios to the base, block by block.

    `twin` is the A/A pair's, `planted` those of the handicapped servers by percent. All have the
    same blocks. `second_per_slice` is the wall time of a slice with what lies between two.
    """

    twin: Logs
    planted: dict[int, Logs]
    second_per_slice: float

    @property
    def blocks(self) -> int:
        """The number of blocks."""
        return len(self.twin)


@dataclass(frozen=True)
class Rate:
    """A share of `nr` tries, with its 95% interval (Wilson 1927)."""

    hits: int
    nr: int

    @property
    def share(self) -> float:
        """The share itself, 0 without a try."""
        return self.hits / self.nr if self.nr else 0.0

    @property
    def interval(self) -> tuple[float, float]:
        """Lower and upper end."""
        if self.nr == 0:
            return 0.0, 1.0
        z, n, p = 1.959964, self.nr, self.share
        middle = (p + z * z / (2 * n)) / (1 + z * z / n)
        half = z / (1 + z * z / n) * float(np.sqrt(p * (1 - p) / n + z * z / (4 * n * n)))
        low, high = max(0.0, middle - half), min(1.0, middle + half)
        return (0.0 if self.hits == 0 else low), (1.0 if self.hits == n else high)

    def to_json(self) -> dict[str, Any]:
        """As selftest.json stores it."""
        low, high = self.interval
        return {"hits": self.hits, "nr": self.nr, "share": self.share, "low": low, "high": high}
