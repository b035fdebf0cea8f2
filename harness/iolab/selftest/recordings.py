"""The recorded sessions, and what stretches of them say: each is asked once, and kept."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from iolab import stats, store, verdict
from iolab.matrix import plan_from_json
from iolab.model import Cell, Plan
from iolab.selftest.model import FAMILY, Logs, Session
from iolab.stats import Estimate

Piece = tuple[int, int, int]
"""Neighbouring blocks of a session: its number, the first block, how many."""

Place = tuple[Piece, ...]
"""Where the blocks of a drawn gate stand: one piece, or several where sessions are joined."""

_SEED = 0
_USUAL = (verdict.confidence_of(1), verdict.confidence_of(FAMILY))


class Recordings:
    """Sessions to draw from. `percent` 0 is the A/A pair's series, others those of handicaps."""

    def __init__(self, sessions: Sequence[Session]) -> None:
        """The sessions are not written to."""
        self.sessions = tuple(sessions)
        self._estimates: dict[tuple[int, Place], dict[float, Estimate]] = {}
        self._narrow: dict[tuple[int, Place, float, float], bool] = {}

    @property
    def second_per_slice(self) -> float:
        """The median session's."""
        return float(np.median([one.second_per_slice for one in self.sessions]))

    def with_blocks(self, blocks: int) -> list[int]:
        """The sessions of at least so many blocks."""
        return [at for at, one in enumerate(self.sessions) if one.blocks >= blocks]

    def disjoint(self, blocks: int) -> int:
        """How many stretches of `blocks` blocks share none: what draws rest upon."""
        return sum(one.blocks // blocks for one in self.sessions)

    def logs(self, percent: int, place: Place) -> Logs:
        """The log ratios there, piece after piece."""
        found = [
            self._series(self.sessions[at], percent)[first : first + blocks]
            for at, first, blocks in place
        ]
        return found[0] if len(found) == 1 else np.concatenate(found)

    def estimate(self, percent: int, place: Place, confidence: float) -> Estimate | None:
        """What the log ratios there say, as a gate asks them."""
        known = self._estimates.setdefault((percent, place), {})
        if confidence not in known:
            wanted = [confidence, *(one for one in _USUAL if one != confidence)]
            found = stats.estimates(self.logs(percent, place).tolist(), _SEED, wanted)
            known.update(zip(wanted, found, strict=False))
        return known.get(confidence)

    def is_narrow(self, percent: int, place: Place, confidence: float, enough: float) -> bool:
        """Whether the interval there is narrow enough for a run to stop."""
        key = (percent, place, confidence, enough)
        if key not in self._narrow:
            logs = self.logs(percent, place)
            self._narrow[key] = stats.is_narrow(logs, _SEED, confidence, enough)
        return self._narrow[key]

    @staticmethod
    def _series(session: Session, percent: int) -> Logs:
        return session.planted[percent] if percent else session.twin


def read_session(run_dir: Path) -> Session | None:
    """A recorded session, None when it holds no finished block of all its servers."""
    manifest = store.read_manifest(run_dir)
    plan = plan_from_json(manifest["plan"], str(run_dir / store.MANIFEST))
    stored = store.read_samples(run_dir)
    base = next(cell for cell in plan.cells if cell.server.label == plan.baseline)
    others = [cell for cell in plan.cells if cell is not base]
    logs = stats.cell_logs(plan, stored.samples, [(base, cell) for cell in others])
    if not logs or min(map(len, logs)) == 0:
        return None
    wall_s = sum(int(block.get("wall_ns", 0)) for block in stored.blocks) / 1e9
    slices = sum(int(block.get("slices", 0)) for block in stored.blocks)
    by_cell = dict(zip(others, map(np.asarray, logs), strict=True))
    return Session(
        twin=by_cell[_twin(plan)],
        planted={
            cell.server.handicap_percent: found
            for cell, found in by_cell.items()
            if cell.server.handicap_percent
        },
        second_per_slice=wall_s / max(1, slices),
    )


def _twin(plan: Plan) -> Cell:
    return next(cell for cell in plan.cells if cell.server.twin)


def noise(sessions: Sequence[Session]) -> dict[str, float]:
    """How noisy the A/A pairs are, block by block: spread, correlation, and by process.

    `between_sessions` is the spread of the sessions' medians, `by_chance` how much of it blocks of
    that spread explain: what is beyond, processes have for life, and no number of blocks takes it
    away.
    """
    medians = [float(np.median(one.twin)) for one in sessions]
    spread = float(np.median([1.4826 * _mad(one.twin) for one in sessions]))
    worth = float(np.median([stats.effective_blocks(one.twin) for one in sessions]))
    return {
        "block_spread": spread,
        "correlation": float(np.median([stats.lag1(one.twin) for one in sessions])),
        "between_sessions": float(np.std(medians, ddof=1)) if len(medians) > 1 else 0.0,
        # The standard error of a median of normal values (David and Nagaraja, Order Statistics).
        "by_chance": spread * math.sqrt(math.pi / 2 / worth),
    }


def _mad(values: Any) -> float:
    return float(np.median(np.abs(values - np.median(values))))


def planted(sessions: Sequence[Session], percent: int) -> dict[str, float]:
    """What a handicap amounts to in the rate here, beside what it would at full CPU load."""
    medians = [float(np.median(one.planted[percent])) for one in sessions]
    return {
        "percent": percent,
        "expected_ratio": 1 / (1 + percent / 100),
        "measured_ratio": math.exp(float(np.median(medians))),
    }
