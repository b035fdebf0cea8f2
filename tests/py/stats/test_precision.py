from __future__ import annotations

import math
from dataclasses import replace

import pytest
from error_rates import stopped_coverage
from simulated import plan, run

from iolab import stats
from iolab.stats.precision import STEADY_BLOCKS

RUNS = 300


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


@pytest.mark.parametrize("rho", [0.0, 0.35, 0.6])
def test_stopping_on_a_narrow_interval_spares_its_coverage(rho: float) -> None:
    assert stopped_coverage(rho, 0.95, math.log1p(0.02), RUNS) >= 0.935
    assert stopped_coverage(rho, 0.99, math.log1p(0.05) / 2, RUNS) >= 0.975


def test_stopping_as_soon_as_there_is_an_interval_would_not() -> None:
    assert stopped_coverage(0.6, 0.95, math.log1p(0.02), RUNS, 8) < 0.93
    assert stopped_coverage(0.6, 0.99, math.log1p(0.05) / 2, RUNS, 8) < 0.97


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
