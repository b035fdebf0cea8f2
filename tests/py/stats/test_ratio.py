"""What an estimate says of series whose truth is known.

Simulated with fixed seeds, so that the counts are the same on every machine; the bounds leave room
for another NumPy.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from simulated import wave

from iolab import stats

LOGS = st.lists(st.floats(-3, 3), min_size=1, max_size=40)
RUNS = 200


@given(LOGS)
def test_an_estimate_lies_inside_its_interval(logs: list[float]) -> None:
    result = stats.estimate(logs)
    assert result is not None
    slack = 1 + 1e-9
    assert result.low <= result.ratio * slack
    assert result.ratio <= result.high * slack
    assert 0 <= result.p_value <= 1
    assert 1 <= result.effective_blocks <= len(logs)


@given(LOGS)
def test_swapping_the_two_sides_inverts_the_verdict(logs: list[float]) -> None:
    there, back = stats.estimate(logs), stats.estimate([-x for x in logs])
    assert there is not None
    assert back is not None
    assert there.ratio == pytest.approx(1 / back.ratio)
    assert there.p_value == pytest.approx(back.p_value)
    low, high, _ = stats.order_interval(np.array(logs))
    other_low, other_high, _ = stats.order_interval(-np.array(logs))
    assert (low, high) == (-other_high, -other_low)


def test_required_blocks_grow_with_the_square() -> None:
    result = stats.Estimate(1.0, math.exp(-0.1), math.exp(0.1), 1.0, 20, 20.0, 0.95)
    assert stats.required_blocks(result, 0.05) == pytest.approx(80)
    with pytest.raises(ValueError, match="above 0"):
        stats.required_blocks(result, 0)


def test_a_wider_confidence_makes_a_wider_interval() -> None:
    values = list(wave(np.random.default_rng(2), 60, 0.3))
    usual, wide = stats.estimate(values), stats.estimate(values, confidence=0.999)
    assert usual is not None
    assert wide is not None
    assert wide.half_width > 1.3 * usual.half_width
    assert wide.ratio == usual.ratio
    assert wide.p_value == usual.p_value


def test_intervals_cover_the_median_as_often_as_they_say() -> None:
    rng = np.random.default_rng(3)
    hits = 0
    for _ in range(400):
        result = stats.estimate(list(rng.normal(0.1, 1.0, 20)))
        assert result is not None
        hits += result.low <= math.exp(0.1) <= result.high
    assert hits / 400 >= 0.94


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
