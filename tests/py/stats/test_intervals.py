from __future__ import annotations

import numpy as np
import pytest

from iolab import stats


def test_order_interval_is_the_textbook_one() -> None:
    # n = 10: ranks 2 and 9 cover with 1 - 2 * 11 / 1024; n = 6: the range, with 1 - 2 / 64.
    low, high, coverage = stats.order_interval(np.arange(1.0, 11.0))
    assert (low, high) == (2.0, 9.0)
    assert coverage == pytest.approx(1 - 22 / 1024)
    assert stats.order_interval(np.arange(6.0))[2] == pytest.approx(1 - 2 / 64)


def test_too_few_blocks_give_the_range_with_its_true_coverage() -> None:
    assert stats.order_interval(np.array([3.0, 1.0, 2.0])) == (1.0, 3.0, pytest.approx(0.75))
    assert stats.order_interval(np.array([3.0])) == (3.0, 3.0, 0.0)


def test_an_interval_of_correlated_values_is_that_of_fewer() -> None:
    values = np.arange(40.0)
    assert stats.order_interval(values, effective=40)[:2] == stats.order_interval(values)[:2]
    low, high, coverage = stats.order_interval(values, effective=10.7)
    assert (low, high) == (7.0, 32.0)  # ranks 2 and 9 of 10, stretched over 40
    assert coverage == pytest.approx(1 - 22 / 1024)
    assert stats.order_interval(values, effective=3) == (0.0, 39.0, pytest.approx(0.75))
