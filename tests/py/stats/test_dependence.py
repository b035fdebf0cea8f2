from __future__ import annotations

import numpy as np
from simulated import wave

from iolab import stats

RUNS = 200


def test_few_values_hide_less_of_their_correlation_than_they_measure() -> None:
    rng = np.random.default_rng(4)
    measured = [wave(rng, 20, 0.5) for _ in range(RUNS)]
    plain = float(np.mean([stats.lag1(values) for values in measured]))
    mended = float(np.mean([stats.correlation(values) for values in measured]))
    assert plain < 0.42
    assert 0.45 < mended < 0.62


def test_correlation_widens_the_interval_and_weakens_the_evidence() -> None:
    rng = np.random.default_rng(1)
    steps = rng.normal(0, 1, 200)
    wave = np.zeros(200)
    for at in range(1, 200):
        wave[at] = 0.9 * wave[at - 1] + steps[at]
    wave += 0.5
    shuffled = rng.permutation(wave)
    assert stats.lag1(wave) > 0.7
    assert stats.effective_blocks(wave) < 50 < stats.effective_blocks(shuffled)
    bound, free = stats.bootstrap_interval(wave), stats.bootstrap_interval(shuffled)
    assert bound[1] - bound[0] > 1.5 * (free[1] - free[0])
    assert stats.paired_p_value(wave) > stats.paired_p_value(shuffled)
