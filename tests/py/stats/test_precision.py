from __future__ import annotations

import math

from simulated import plan, run

from iolab import stats


def test_precision_waits_for_enough_blocks() -> None:
    one = plan("base", "other")
    rates = {"base": lambda x: x, "other": lambda x: 2 * x}
    assert stats.widest_interval(one, run(4, rates, 0.001)) == math.inf
    assert stats.widest_interval(one, run(12, rates, 0.001)) < 0.01
    assert stats.widest_interval(one, []) == math.inf


def test_a_width_that_is_too_large_need_not_be_exact() -> None:
    one = plan("base", "other")
    samples = run(30, {"base": lambda x: x, "other": lambda x: 2 * x}, 0.05)
    exact = stats.widest_interval(one, samples)
    assert stats.widest_interval(one, samples, exact) == exact
    assert exact / 4 < stats.widest_interval(one, samples, exact / 4) <= exact
    assert stats.widest_interval(one, run(4, {"base": lambda x: x}, 0.1), 1.0) == math.inf
