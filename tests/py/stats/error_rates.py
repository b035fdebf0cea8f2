"""How often intervals hold the truth, and families of nothing raise an alarm, in made-up noise.

The tests bound these shares, and docs/method.md shows them as this prints them:

    PYTHONPATH=harness .venv/bin/python tests/py/stats/error_rates.py

Noise is a first-order autoregressive series (simulated.wave). Seeds are fixed, so that the counts
are the same everywhere; only another NumPy may draw others.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable
from unittest import mock

import numpy as np
from simulated import wave

from iolab import stats
from iolab.stats import precision

RHOS = (0.0, 0.35, 0.6)
LENGTHS = (12, 20, 30, 60, 120)
MOST = 200
"""Blocks at which a simulated run ends in any case."""


def interval_coverage(nr: int, rho: float, runs: int) -> tuple[float, float]:
    """Shares of `runs` series of `nr` blocks whose 95%, and 99%, interval holds the truth."""
    rng = np.random.default_rng(nr)
    hits = strict = 0
    for seed in range(runs):
        values = list(wave(rng, nr, rho) + 0.1)
        usual, wide = stats.estimate(values, seed), stats.estimate(values, seed, 0.99)
        assert usual is not None
        assert wide is not None
        hits += usual.low <= math.exp(0.1) <= usual.high
        strict += wide.low <= math.exp(0.1) <= wide.high
    return hits / runs, strict / runs


def family_alarms(rho: float, runs: int, nr: int = 40, size: int = 5) -> float:
    """Share of `runs` families of comparisons of nothing with nothing that raise an alarm.

    A family has `size` series of `nr` blocks, and an alarm is a corrected p below 0.05.
    """
    rng = np.random.default_rng(17)
    alarms = 0
    for _ in range(runs):
        found = [stats.paired_p_value(wave(rng, nr, rho)) for _ in range(size)]
        alarms += min(stats.holm(found)) < 0.05
    return alarms / runs


def stopped_coverage(
    rho: float, confidence: float, enough: float, runs: int, least: int = precision.STEADY_BLOCKS
) -> float:
    """Share of `runs` runs, stopped when their interval is narrow enough, that hold the truth.

    `enough` is the half-width, as a logarithm, at which they stop, and `least` the fewest blocks at
    which they may.
    """
    rng = np.random.default_rng(5)
    hits = 0
    with mock.patch.object(precision, "STEADY_BLOCKS", least):
        for seed in range(runs):
            values = wave(rng, MOST, rho, spread=0.02)
            nr = next(
                (
                    n
                    for n in range(8, MOST)
                    if stats.is_narrow(values[:n], seed, confidence, enough)
                ),
                MOST,
            )
            found = stats.estimate(list(values[:nr]), seed, confidence)
            assert found is not None
            hits += found.low <= 1 <= found.high
    return hits / runs


# --- tables --------------------------------------------------------------------------------------


def intervals() -> Iterable[str]:
    """Coverage by length and correlation."""
    yield f"| blocks | {' | '.join(f'correlation {rho:g}' for rho in RHOS)} |"
    yield "|--:|" + "--:|" * len(RHOS)
    for nr in LENGTHS:
        found = [interval_coverage(nr, rho, 400) for rho in RHOS]
        yield f"| {nr} | {' | '.join(f'{a:.1%}, {b:.1%}' for a, b in found)} |"


def families() -> Iterable[str]:
    """False alarms by correlation."""
    yield f"| {' | '.join(f'correlation {rho:g}' for rho in RHOS)} |"
    yield "|" + "--:|" * len(RHOS)
    yield f"| {' | '.join(f'{family_alarms(rho, 400):.1%}' for rho in RHOS)} |"


def stopping() -> Iterable[str]:
    """Coverage of runs that stop when they are precise enough."""
    kinds = ((0.95, math.log1p(0.02)), (0.99, math.log1p(0.05) / 2))
    yield "| correlation of neighbours | 95% intervals | 99% intervals | with a floor of 8 blocks |"
    yield "|---|--:|--:|--:|"
    for rho in RHOS:
        held = [stopped_coverage(rho, level, enough, 300) for level, enough in kinds]
        early = [stopped_coverage(rho, level, enough, 300, 8) for level, enough in kinds]
        floor = ", ".join(f"{share:.1%}" for share in early)
        yield f"| {rho:g} | {held[0]:.1%} | {held[1]:.1%} | {floor} |"


TABLES = {"intervals": intervals, "families": families, "stopping": stopping}


def main() -> None:
    """Prints the tables that are named, all of them unless any is."""
    for name in sys.argv[1:] or TABLES:
        print(f"{name}:\n", *TABLES[name](), sep="\n", end="\n\n")


if __name__ == "__main__":
    main()
