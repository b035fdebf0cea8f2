from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from iolab import verdict
from iolab.stats import Estimate
from iolab.verdict import Comparison, Effect, judge, paired, unpaired


def around(
    ratio: float, nr: int, noise: float = 0.02, seed: int = 1, rho: float = 0.0
) -> list[float]:
    """Log ratios of blocks around a true ratio."""
    rng = np.random.default_rng(seed)
    value, found = 0.0, []
    for _ in range(nr + 20):
        value = rho * value + rng.normal(0, noise * math.sqrt(1 - rho * rho))
        found.append(math.log(ratio) + value)
    return found[20:]


def compare(logs: list[float], name: str = "new") -> Comparison:
    return Comparison("base", name, "w", paired(logs))


def effect(logs: list[float], threshold: float = 0.05) -> Effect:
    return judge([compare(logs)], threshold)[0].effect


@pytest.mark.parametrize(
    ("ratio", "expected"),
    [(0.8, Effect.SLOWER), (0.95, Effect.SLOWER), (1.2, Effect.FASTER), (1.0, Effect.SAME)],
)
def test_verdicts_on_clear_cases(ratio: float, expected: Effect) -> None:
    assert effect(around(ratio, 60)) is expected


def test_a_certain_difference_that_does_not_matter_is_the_same() -> None:
    (found,) = judge([compare(around(0.98, 200, noise=0.01))], 0.05)
    assert found.effect is Effect.SAME
    assert found.adjusted_p is not None
    assert found.adjusted_p < 0.001
    assert effect(around(0.98, 200, noise=0.01), threshold=0.015) is Effect.SLOWER


def test_noise_is_unclear_and_says_how_many_blocks_would_do() -> None:
    (found,) = judge([compare(around(1.0, 20, noise=0.2))], 0.05)
    assert found.effect is Effect.UNCLEAR
    assert found.required_blocks is not None
    assert found.required_blocks > 200
    assert found.reason is not None
    assert "wide" in found.reason


def test_few_blocks_are_unclear_however_far_apart() -> None:
    (found,) = judge([compare(around(0.5, 5))])
    assert found.effect is Effect.UNCLEAR
    assert found.reason is not None
    assert "5 blocks are too few" in found.reason
    assert found.required_blocks is not None
    assert math.isfinite(found.required_blocks)
    assert effect(around(0.5, 12)) is Effect.SLOWER


def test_a_narrow_interval_without_a_significant_test_asks_for_what_the_test_needs() -> None:
    """By its width it would ask for fewer blocks than it had."""
    narrow = Estimate(0.965, 0.955, 0.975, 0.03, 60, 50.0, 0.995)
    wide = Estimate(0.965, 0.90, 1.03, 0.03, 60, 50.0, 0.995)
    said = {}
    for name, one in (("narrow", narrow), ("wide", wide)):
        asked = Comparison("b", "n", "w", {0.99: one}.get)
        (said[name],) = judge([asked], 0.03)
        assert said[name].effect is Effect.UNCLEAR
    assert said["narrow"].required_blocks == pytest.approx(60 * (2.576 / 2.170) ** 2, rel=1e-3)
    assert "p 0.03" in (said["narrow"].reason or "")
    assert (said["wide"].required_blocks or 0) > 60
    assert "wide" in (said["wide"].reason or "")
    assert all(one.undecided for one in said.values())
    hopeless = Comparison("b", "n", "w", {0.99: replace(narrow, p_value=0.6)}.get)
    assert judge([hopeless], 0.03)[0].required_blocks is None
    found = Comparison("b", "n", "w", {0.99: replace(narrow, p_value=0.001)}.get)
    assert not judge([found], 0.03)[0].undecided
    assert not judge([Comparison("b", "n", "w", lambda _: None)], 0.03)[0].undecided


def test_what_has_no_number_says_why_and_stays_in_the_family() -> None:
    gone = Comparison("base", "gone", "w", paired([]), "it died")
    alone = judge([compare(around(0.9, 30, 0.1))])[0]
    first, second = judge([compare(around(0.9, 30, 0.1)), gone])
    assert (second.effect, second.reason) == (Effect.UNCLEAR, "it died")
    assert first.adjusted_p is not None
    assert alone.adjusted_p is not None
    assert first.adjusted_p == pytest.approx(min(1.0, 2 * alone.adjusted_p))
    assert first.confidence == pytest.approx(0.995)


@given(st.floats(0.7, 1.4), st.integers(8, 60), st.floats(0.005, 0.2), st.integers(0, 99))
def test_swapping_the_sides_swaps_the_verdict(
    ratio: float, nr: int, noise: float, seed: int
) -> None:
    logs = around(ratio, nr, noise, seed)
    swapped = {Effect.FASTER: Effect.SLOWER, Effect.SLOWER: Effect.FASTER}
    there, back = effect(logs), effect([-x for x in logs])
    # The bootstrap draws anew: a case on the very edge may fall to either side of unclear.
    if Effect.UNCLEAR not in (there, back):
        assert back is swapped.get(there, there)


@pytest.mark.parametrize("rho", [0.0, 0.5])
def test_families_without_a_difference_raise_hardly_an_alarm(rho: float) -> None:
    alarms = wrong = 0
    for seed in range(150):
        family = [compare(around(1.0, 40, 0.05, 1000 * seed + k, rho), str(k)) for k in range(4)]
        effects = [found.effect for found in judge(family)]
        alarms += any(one in (Effect.SLOWER, Effect.FASTER) for one in effects)
        ten = [compare(around(0.9, 40, 0.05, 1000 * seed + k, rho), str(k)) for k in range(4)]
        wrong += any(found.effect in (Effect.SAME, Effect.FASTER) for found in judge(ten))
    assert alarms <= 5  # of 150 at 1%
    assert wrong <= 5


def test_a_planted_slowdown_is_found() -> None:
    found = [effect(around(1 / 1.1, 60, 0.05, seed, 0.3)) for seed in range(40)]
    assert found.count(Effect.SLOWER) >= 38
    found = [effect(around(1 / 1.05, 150, 0.05, seed, 0.3)) for seed in range(40)]
    assert found.count(Effect.SLOWER) >= 38


def now_and_then(share: float, ratio: float, nr: int, seed: int) -> list[float]:
    """A candidate that is `ratio` as fast in a random `share` of its slices, and else the same."""
    rng = np.random.default_rng(1000 + seed)
    steady = around(1.0, nr, 0.03, seed)
    return [x + math.log(ratio) * (rng.random() < share) for x in steady]


def test_a_slowdown_that_comes_and_goes_is_never_the_same() -> None:
    """The median holds still while fewer than half of the slices are slow."""
    series = [now_and_then(0.3, 0.5, 60, seed) for seed in range(60)]
    found = [judge([compare(logs)])[0] for logs in series]
    assert [one.effect for one in found].count(Effect.SAME) <= 1
    said = [one.reason or "" for one in found if one.effect is Effect.UNCLEAR]
    assert any("comes and goes" in reason for reason in said)
    two = [judge([Comparison("b", "n", "w", unpaired(around(1, 60), one))])[0] for one in series]
    assert [one.effect for one in two].count(Effect.SAME) <= 3


def test_what_does_not_come_and_go_is_still_the_same() -> None:
    """Neither plain noise nor that of a machine that stalls both sides alike raises a doubt."""
    plain = [effect(around(1.0, 40, 0.03, seed)) for seed in range(60)]
    assert plain.count(Effect.SAME) >= 58
    rng = np.random.default_rng(3)
    stalls = [list(rng.standard_t(2, 60) * 0.015) for _ in range(60)]
    found = [judge([compare(logs)])[0] for logs in stalls]
    assert sum("comes and goes" in (one.reason or "") for one in found) <= 2
    assert [one.effect for one in found].count(Effect.SAME) >= 55


def test_work_against_a_clear_median_is_a_doubt_too() -> None:
    """A little slower in most blocks, several times as fast in the others."""
    logs = [-0.08 + 0.001 * (at % 5) if at % 3 else 1.2 for at in range(60)]
    for sign, wrong, right in (
        (1, Effect.SLOWER, Effect.FASTER),
        (-1, Effect.FASTER, Effect.SLOWER),
    ):
        found = paired([sign * x for x in logs])(0.99)
        assert found is not None
        assert f"{wrong} by the median" in (verdict.contradiction(found, wrong, 0.05) or "")
        assert verdict.contradiction(found, right, 0.05) is None


def test_two_runs_are_compared_by_their_ratios() -> None:
    base, slower = around(1.5, 60, seed=1), around(1.2, 60, seed=2)
    found = unpaired(base, slower)(0.99)
    assert found is not None
    assert found.low < 0.8 < found.high
    assert found.p_value < 1e-6
    back = unpaired(slower, base)(0.99)
    assert back is not None
    assert back.low == pytest.approx(1 / found.high)
    assert unpaired([], base)(0.99) is None


def test_unpaired_intervals_cover() -> None:
    hits = alarms = 0
    for seed in range(150):
        base = around(1.3, 40, 0.05, seed, 0.3)
        found = unpaired(base, around(1.3, 30, 0.05, 5000 + seed, 0.3))(0.95)
        assert found is not None
        hits += found.low <= 1 <= found.high
        alarms += found.p_value < 0.05
    assert hits >= 140
    assert alarms <= 15


def test_verdicts_print_as_plain_json() -> None:
    import json

    infinite = Estimate(1.0, 0.0, math.inf, 1.0, 3, 3.0, 0.5)
    document = verdict.Verdict(
        "n", "b", "n", "w", Effect.UNCLEAR, 0.99, 0.05, infinite, 1.0, math.inf
    ).to_json()
    text = json.dumps(document, allow_nan=False)
    assert '"effect": "unclear"' in text
    assert '"required_blocks": null' in text
