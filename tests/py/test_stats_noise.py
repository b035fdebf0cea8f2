"""What intervals and tests say of noise in which nothing differs, neighbours resembling each other.

Simulated with fixed seeds, so that the counts are the same on every machine; the bounds leave room
for another NumPy.
"""

from __future__ import annotations

import math

import numpy as np
import pytest

from iolab import stats

RUNS = 200


def wave(rng: np.random.Generator, nr: int, rho: float, spread: float = 0.05) -> stats.Floats:
    """A first-order autoregressive series of the given standard deviation, mean 0."""
    steps = rng.normal(0, spread * math.sqrt(1 - rho * rho), nr + 60)
    values = np.zeros(nr + 60)
    for at in range(1, nr + 60):
        values[at] = rho * values[at - 1] + steps[at]
    return values[60:]


@pytest.mark.parametrize("rho", [0.0, 0.35, 0.6])
@pytest.mark.parametrize("nr", [30, 60])
def test_intervals_cover_in_correlated_noise(nr: int, rho: float) -> None:
    rng = np.random.default_rng(nr)
    hits = strict = 0
    for seed in range(RUNS):
        values = list(wave(rng, nr, rho) + 0.1)
        usual, wide = stats.estimate(values, seed), stats.estimate(values, seed, 0.99)
        assert usual is not None
        assert wide is not None
        hits += usual.low <= math.exp(0.1) <= usual.high
        strict += wide.low <= math.exp(0.1) <= wide.high
    assert hits / RUNS >= 0.92
    assert strict / RUNS >= 0.97


@pytest.mark.parametrize("rho", [0.0, 0.35, 0.6])
def test_a_family_of_comparisons_raises_few_false_alarms(rho: float) -> None:
    rng = np.random.default_rng(17)
    alarms = 0
    for _ in range(RUNS):
        found = [stats.paired_p_value(wave(rng, 40, rho)) for _ in range(5)]
        alarms += min(stats.holm(found)) < 0.05
    assert alarms / RUNS <= 0.11  # 0.05, and four standard errors of a share of 200


def test_without_the_correction_the_same_noise_raises_many() -> None:
    from scipy.stats import wilcoxon

    rng = np.random.default_rng(17)
    alarms = 0
    for _ in range(RUNS):
        found = [float(wilcoxon(wave(rng, 40, 0.6)).pvalue) for _ in range(5)]
        alarms += min(stats.holm(found)) < 0.05
    assert alarms / RUNS > 0.3


def test_a_wider_confidence_makes_a_wider_interval() -> None:
    values = list(wave(np.random.default_rng(2), 60, 0.3))
    usual, wide = stats.estimate(values), stats.estimate(values, confidence=0.999)
    assert usual is not None
    assert wide is not None
    assert wide.half_width > 1.3 * usual.half_width
    assert wide.ratio == usual.ratio
    assert wide.p_value == usual.p_value


def test_an_interval_of_correlated_values_is_that_of_fewer() -> None:
    values = np.arange(40.0)
    assert stats.order_interval(values, effective=40)[:2] == stats.order_interval(values)[:2]
    low, high, coverage = stats.order_interval(values, effective=10.7)
    assert (low, high) == (7.0, 32.0)  # ranks 2 and 9 of 10, stretched over 40
    assert coverage == pytest.approx(1 - 22 / 1024)
    assert stats.order_interval(values, effective=3) == (0.0, 39.0, pytest.approx(0.75))


def test_few_values_hide_less_of_their_correlation_than_they_measure() -> None:
    rng = np.random.default_rng(4)
    measured = [wave(rng, 20, 0.5) for _ in range(RUNS)]
    plain = float(np.mean([stats.lag1(values) for values in measured]))
    mended = float(np.mean([stats.correlation(values) for values in measured]))
    assert plain < 0.42
    assert 0.45 < mended < 0.62
