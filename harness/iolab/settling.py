"""Slices that are driven and thrown away until a host that was just retuned runs steadily."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

MOST = 6
"""Slices at most: a machine that wobbles more than this would otherwise never be measured."""

STEADY = math.log(1.1)
"""Two slices in a row whose rates differ by less are steady."""


@dataclass(frozen=True)
class Settled:
    """How the settling after a switch to `phase` went, as stored with the block."""

    phase: str
    slices: int
    steady: bool


def settle(phase: str, rate: Callable[[], float]) -> Settled:
    """Drives slices by `rate` (units per second; 0: no measurement) until two resemble."""
    last = 0.0
    for number in range(1, MOST + 1):
        now = rate()
        if last > 0 and now > 0 and abs(math.log(now / last)) < STEADY:
            return Settled(phase, number, steady=True)
        last = now
    return Settled(phase, MOST, steady=False)
