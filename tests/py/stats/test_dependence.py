from __future__ import annotations

import math

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


def drift(rng: np.random.Generator, nr: int) -> stats.Floats:
    """White noise with 15% of its variance in a slow drift: little of it is seen at lag 1."""
    noise = rng.normal(0, math.sqrt(0.85), nr)
    return np.asarray(noise + wave(rng, nr, 0.95, math.sqrt(0.15)), dtype=np.float64)


def test_a_slow_drift_below_much_noise_is_seen() -> None:
    rng = np.random.default_rng(6)
    drifting = [drift(rng, 120) for _ in range(RUNS)]
    white = [rng.normal(0, 1, 120) for _ in range(RUNS)]
    by_lag1 = [(1 - r) / (1 + r) for r in map(stats.correlation, drifting)]
    worth = [stats.effective_blocks(values) / 120 for values in drifting]
    assert float(np.mean(by_lag1)) > 0.75
    assert float(np.mean(worth)) < 0.65
    # And what does not drift still counts for most of what it is, at the lengths of gates as well.
    assert float(np.mean([stats.effective_blocks(values) / 120 for values in white])) > 0.8
    short = [stats.effective_blocks(rng.normal(0, 1, 30)) / 30 for _ in range(RUNS)]
    assert float(np.mean(short)) > 0.7
