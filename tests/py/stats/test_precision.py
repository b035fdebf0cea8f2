from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from simulated import plan, run, wave

from iolab import stats
from iolab.stats import precision
from iolab.stats.precision import STEADY_BLOCKS

RUNS = 300
MOST = 200


def test_precision_waits_for_enough_blocks() -> None:
    one = plan("base", "other")
    rates = {"base": lambda x: x, "other": lambda x: 2 * x}
    assert stats.widest_interval(one, run(STEADY_BLOCKS - 1, rates, 0.001)) == math.inf
    assert stats.widest_interval(one, run(STEADY_BLOCKS, rates, 0.001)) < 0.01
    assert stats.widest_interval(one, []) == math.inf


def test_a_width_that_is_too_large_need_not_be_exact() -> None:
    one = plan("base", "other")
    samples = run(30, {"base": lambda x: x, "other": lambda x: 2 * x}, 0.05)
    exact = stats.widest_interval(one, samples)
    assert stats.widest_interval(one, samples, exact) == exact
    assert exact / 4 < stats.widest_interval(one, samples, exact / 4) <= exact
    assert stats.widest_interval(one, run(4, {"base": lambda x: x}, 0.1), 1.0) == math.inf


def covered(rho: float, confidence: float, enough: float) -> float:
    """Share of simulated runs, stopped when their interval is narrow enough, that hold the truth.

    Both in the way the runner asks: the cheap lower bound before every block, the whole interval
    once that would do.
    """
    rng = np.random.default_rng(5)
    hits = 0
    for seed in range(RUNS):
        values = wave(rng, MOST, rho, spread=0.02)
        nr = next(
            (n for n in range(8, MOST) if stats.is_narrow(values[:n], seed, confidence, enough)),
            MOST,
        )
        found = stats.estimate(list(values[:nr]), seed, confidence)
        assert found is not None
        hits += found.low <= 1 <= found.high
    return hits / RUNS


@pytest.mark.parametrize("rho", [0.0, 0.35, 0.6])
def test_stopping_on_a_narrow_interval_spares_its_coverage(rho: float) -> None:
    assert covered(rho, 0.95, math.log1p(0.02)) >= 0.935
    assert covered(rho, 0.99, math.log1p(0.05) / 2) >= 0.975


def test_stopping_as_soon_as_there_is_an_interval_would_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(precision, "STEADY_BLOCKS", 8)
    assert covered(0.6, 0.95, math.log1p(0.02)) < 0.93
    assert covered(0.6, 0.99, math.log1p(0.05) / 2) < 0.97


def test_a_cell_that_others_disturb_in_every_slice_keeps_nobody_waiting() -> None:
    """It gets no number however long the run is; one that nobody has driven yet may."""
    one = plan("base", "other", "spun")
    rates = {"base": lambda x: x, "other": lambda x: 2 * x, "spun": lambda x: x}
    busy = {"bystanders": {"ns": 10**9, "cpu_ns": {"other": 5 * 10**8}}}
    samples = [
        replace(sample, extra=busy) if sample.cell == "spun@w" else sample
        for sample in run(STEADY_BLOCKS, rates, 0.001)
    ]
    assert stats.widest_interval(one, samples) < 0.01
    unseen = [sample for sample in samples if sample.cell != "spun@w"]
    assert stats.widest_interval(one, unseen) == math.inf
