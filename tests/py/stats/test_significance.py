from __future__ import annotations

import numpy as np
import pytest
from error_rates import family_alarms
from hypothesis import given
from hypothesis import strategies as st
from simulated import wave

from iolab import stats

RUNS = 200


def test_the_paired_test_knows_the_exact_small_case() -> None:
    # six differences of one sign: 2 / 2^6
    assert stats.paired_p_value(np.arange(1.0, 7.0)) == pytest.approx(2 / 64)
    assert stats.paired_p_value(np.zeros(5)) == 1.0


def test_holm_is_the_step_down_method() -> None:
    assert stats.holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert stats.holm([]) == []


@given(st.lists(st.floats(0, 1), max_size=20))
def test_holm_never_strengthens_and_keeps_order(p_values: list[float]) -> None:
    adjusted = stats.holm(p_values)
    pairs = sorted(zip(p_values, adjusted, strict=True))
    assert all(p <= q <= 1 for p, q in pairs)
    assert [q for _, q in pairs] == sorted(q for _, q in pairs)


@pytest.mark.parametrize("rho", [0.0, 0.35, 0.6])
def test_a_family_of_comparisons_raises_few_false_alarms(rho: float) -> None:
    # 0.05, and four standard errors of a share of 200
    assert family_alarms(rho, RUNS) <= 0.11


def test_without_the_correction_the_same_noise_raises_many() -> None:
    from scipy.stats import wilcoxon

    rng = np.random.default_rng(17)
    alarms = 0
    for _ in range(RUNS):
        found = [float(wilcoxon(wave(rng, 40, 0.6)).pvalue) for _ in range(5)]
        alarms += min(stats.holm(found)) < 0.05
    assert alarms / RUNS > 0.3
