"""What an estimate says of series whose truth is known.

Simulated with fixed seeds, so that the counts are the same on every machine; the bounds leave room
for another NumPy.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from error_rates import interval_coverage
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
    # An interval of 99.9% takes 11 independent blocks at all, of which this noise makes 10 of 20.
    assert stats.required_blocks(replace(result, effective_blocks=10.0), 1.0, 0.999) == 22
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
    usual, wide = interval_coverage(nr, rho, RUNS)
    assert usual >= 0.92
    assert wide >= 0.97


def test_a_slice_without_a_byte_counts_against_its_server() -> None:
    still = stats.rate_logs({0: 10.0, 1: 0.0, 2: 0.0, 3: 7.0}, {0: 10.0, 1: 10.0, 2: 0.0, 4: 1.0})
    assert still == [0.0, pytest.approx(math.log(1e-3))]
    back = stats.rate_logs({0: 10.0, 1: 10.0}, {0: 10.0, 1: 0.0})
    assert back == [0.0, pytest.approx(math.log(1e3))]


def test_work_sees_what_the_median_does_not() -> None:
    """Half as fast in a third of the blocks: shares of 1/2 and 1/3, 4/9 on average."""
    logs = [math.log(0.5) if at % 3 == 0 else 0.0 for at in range(60)]
    found, back = stats.estimate(logs), stats.estimate([-x for x in logs])
    assert found is not None
    assert back is not None
    assert (found.ratio, found.work is not None) == (1.0, True)
    assert found.work is not None
    assert back.work is not None
    assert found.work.ratio == pytest.approx(4 / 5)
    assert found.work.low < 0.8 < found.work.high < 1
    assert back.work.ratio == pytest.approx(5 / 4)
    few = stats.estimate(logs[:5])
    assert few is not None
    assert few.work is None


def test_several_confidences_at_once_are_those_one_by_one() -> None:
    values = list(np.random.default_rng(4).normal(0.01, 0.05, 40))
    wanted = (0.9, 0.95, 0.99, 1 - 0.01 / 6)
    for logs in (values, values[:4], []):
        one_by_one = [stats.estimate(logs, 3, confidence) for confidence in wanted]
        assert stats.estimates(logs, 3, wanted) == [one for one in one_by_one if one is not None]
        assert len(one_by_one) == 4


def test_what_a_run_stops_by_is_the_width_of_its_estimate() -> None:
    values = list(np.random.default_rng(4).normal(0.01, 0.05, 40))
    found = stats.estimate(values, 3, 0.99)
    assert found is not None
    assert stats.is_narrow(values, 3, 0.99, found.half_width + 1e-12)
    assert not stats.is_narrow(values, 3, 0.99, found.half_width - 1e-12)
