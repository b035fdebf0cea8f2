"""From ratios to `faster`, `slower`, `same` or `unclear`, for a whole family at once. Pure.

With a threshold t, the smallest difference that matters, and an error rate of ALPHA for the whole
family (Holm for the tests, Bonferroni for the intervals, which therefore hold all at once):

* `same`: the interval lies within 1 / (1 + t) to 1 + t. Any difference is too small to matter, even
  one that is certain to exist.
* `slower`, `faster`: certainly different (adjusted p and interval agree), and a difference of the
  threshold is not ruled out.
* `unclear`: neither. The reason says why, and more blocks mostly tell.

A median does not see what happens in fewer than half of the blocks: a candidate that stands still
now and then. So a verdict holds only while the work over all blocks (stats.Work) does not say the
opposite; where it does, the verdict is `unclear`.

With intervals of half-width t / 2, which is what the gate measures to, `slower` thus begins between
half the threshold and the threshold, and a slowdown of the threshold is found.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

import numpy as np

from iolab import stats
from iolab.plain import plain
from iolab.stats import Estimate, Work

ALPHA = 0.01
"""Share of families without any difference in which some verdict may be `faster` or `slower`."""

THRESHOLD = 0.05
"""The difference that matters, unless told otherwise."""


class Effect(StrEnum):
    """The verdict on one comparison."""

    FASTER = "faster"
    SLOWER = "slower"
    SAME = "same"
    UNCLEAR = "unclear"


@dataclass(frozen=True)
class Comparison:
    """A comparison to be judged.

    `estimate` gives ratio and interval of `new` to `base` at a confidence, None without numbers;
    `trouble` is why there are none, and `workload` where it was measured. `cell` is the id of the
    cell that `new` is, None where it is none of a plan. `base_capped` and `new_capped` say why that
    side may be faster than its rate, which is a lower bound then: see `hidden`.
    """

    base: str
    new: str
    workload: str
    estimate: Callable[[float], Estimate | None]
    trouble: str | None = None
    cell: str | None = None
    base_capped: str | None = None
    new_capped: str | None = None

    @property
    def name(self) -> str:
        """What messages and files call it: the id of its cell, by which a plan finds it again."""
        return self.cell or f"{self.new}@{self.workload}"


@dataclass(frozen=True)
class Verdict:
    """A judged comparison. `required_blocks` would make an unclear one clear, at this noise."""

    name: str
    base: str
    new: str
    workload: str
    effect: Effect
    confidence: float
    threshold: float
    estimate: Estimate | None = None
    adjusted_p: float | None = None
    required_blocks: float | None = None
    reason: str | None = None

    @property
    def undecided(self) -> bool:
        """Whether there are numbers, and no verdict in them, one way or another."""
        if self.estimate is None or self.adjusted_p is None:
            return False
        found = effect_of(self.estimate, self.adjusted_p, self.confidence, self.threshold)
        return found is Effect.UNCLEAR

    def to_json(self) -> dict[str, Any]:
        """Plain data for `--json`; what is not finite is null."""
        document: dict[str, Any] = plain(asdict(self))
        return document


def paired(logs: Sequence[float], seed: int = 0) -> Callable[[float], Estimate | None]:
    """The estimate of log ratios that were measured in the same blocks."""
    return lambda confidence: stats.estimate(logs, seed, confidence)


def unpaired(
    base: Sequence[float], new: Sequence[float], seed: int = 0
) -> Callable[[float], Estimate | None]:
    """The estimate of `new` to `base`, log ratios to one baseline from two runs.

    The difference of the medians. Its interval combines those of both (Zou and Donner 2008), so
    that all that widens them widens it. The test is Mann and Whitney's, its deviate divided by the
    root of n / effective n of the series that is more correlated.
    """

    def estimate(confidence: float) -> Estimate | None:
        first = stats.estimate(base, seed, confidence)
        second = stats.estimate(new, seed, confidence)
        if first is None or second is None:
            return None
        low, high = _difference(first, second)
        work: Work | None = None
        if first.work is not None and second.work is not None:
            ends = _difference(first.work, second.work)
            work = Work(second.work.ratio / first.work.ratio, *map(math.exp, ends))
        return Estimate(
            ratio=second.ratio / first.ratio,
            low=math.exp(low),
            high=math.exp(high),
            p_value=_rank_p_value(np.asarray(base), np.asarray(new)),
            blocks=min(first.blocks, second.blocks),
            effective_blocks=min(first.effective_blocks, second.effective_blocks),
            coverage=min(first.coverage, second.coverage),
            work=work,
        )

    return estimate


def _difference(first: Estimate | Work, second: Estimate | Work) -> tuple[float, float]:
    """The interval of log(second / first) from both intervals."""

    def distances(one: Estimate | Work) -> tuple[float, float]:
        return math.log(one.ratio / one.low), math.log(one.high / one.ratio)

    (below_a, above_a), (below_b, above_b) = distances(first), distances(second)
    middle = math.log(second.ratio / first.ratio)
    return middle - math.hypot(below_b, above_a), middle + math.hypot(above_b, below_a)


def _rank_p_value(base: stats.Floats, new: stats.Floats) -> float:
    from scipy.stats import mannwhitneyu, norm

    p = max(float(mannwhitneyu(new, base).pvalue), 1e-300)
    worth = min(stats.effective_blocks(base) / len(base), stats.effective_blocks(new) / len(new))
    return float(min(1.0, max(p, 2 * norm.sf(norm.isf(p / 2) * math.sqrt(worth)))))


def confidence_of(nr_comparisons: int, alpha: float = ALPHA) -> float:
    """The confidence of each interval at which all of a family hold at once with 1 - `alpha`."""
    return 1 - alpha / max(1, nr_comparisons)


def judge(
    comparisons: Sequence[Comparison], threshold: float = THRESHOLD, alpha: float = ALPHA
) -> list[Verdict]:
    """The verdicts on a family, in its order."""
    confidence = confidence_of(len(comparisons), alpha)
    found = [comparison.estimate(confidence) for comparison in comparisons]
    # What has no number is still of the family: it was asked.
    adjusted = stats.holm([1.0 if one is None else one.p_value for one in found])
    return [
        _judge_one(comparison, one, p, confidence, threshold, alpha)
        for comparison, one, p in zip(comparisons, found, adjusted, strict=True)
    ]


def _judge_one(
    comparison: Comparison,
    found: Estimate | None,
    adjusted_p: float,
    confidence: float,
    threshold: float,
    alpha: float,
) -> Verdict:
    names = (comparison.name, comparison.base, comparison.new, comparison.workload)
    if found is None:
        why = comparison.trouble or "no block in which both were measured"
        return Verdict(*names, Effect.UNCLEAR, confidence, threshold, reason=why)
    effect = effect_of(found, adjusted_p, confidence, threshold, alpha)
    needed: float | None = None
    reason: str | None = None
    if effect is Effect.UNCLEAR:
        needed, reason = _unclear(found, adjusted_p, confidence, threshold)
    else:
        reason = hidden(comparison, effect) or contradiction(found, effect, threshold)
        effect = effect if reason is None else Effect.UNCLEAR
    return Verdict(*names, effect, confidence, threshold, found, adjusted_p, needed, reason)


def effect_of(
    found: Estimate, adjusted_p: float, confidence: float, threshold: float, alpha: float = ALPHA
) -> Effect:
    """The verdict on an estimate whose interval has the given confidence."""
    if found.coverage < confidence:
        return Effect.UNCLEAR
    limit = 1 + threshold
    if 1 / limit < found.low and found.high < limit:
        return Effect.SAME
    if adjusted_p >= alpha:
        return Effect.UNCLEAR
    if found.high < 1:
        return Effect.SLOWER
    return Effect.FASTER if found.low > 1 else Effect.UNCLEAR


def hidden(comparison: Comparison, effect: Effect) -> str | None:
    """Why the truth may be another than this verdict, None when it may not.

    The rate of a capped side is a lower bound. A ratio to a capped base is then too large at most,
    which leaves `slower` as it is and `faster` in doubt; that of a capped `new` is too small.
    """
    base, new = comparison.base_capped, comparison.new_capped
    why = {Effect.SAME: base or new, Effect.SLOWER: new, Effect.FASTER: base}.get(effect)
    words = "not told apart" if effect is Effect.SAME else str(effect)
    return None if why is None else f"{words}, but {why}"


def contradiction(found: Estimate, effect: Effect, threshold: float) -> str | None:
    """Why the work over all blocks speaks against a verdict on their median, None if it does not.

    Against `same`: certainly different, by the threshold or more. Against the others: certainly
    different in the other direction. Certainly is 95% here, for all it takes is a verdict.
    """
    work = found.work
    if work is None:
        return None
    less, more = work.high < 1, work.low > 1
    against = {
        Effect.SAME: (less or more) and abs(math.log(work.ratio)) > math.log1p(threshold),
        Effect.SLOWER: more,
        Effect.FASTER: less,
    }
    if not against.get(effect, False):
        return None
    return (
        f"{effect} by the median ({found.ratio:.3f}), but the work of all blocks together has a "
        f"ratio of {work.ratio:.3f} [{work.low:.3f} to {work.high:.3f}]: a difference that comes "
        "and goes"
    )


def _unclear(
    found: Estimate, adjusted_p: float, confidence: float, threshold: float
) -> tuple[float | None, str]:
    """How many blocks would make it clear, at this noise, and why it is not.

    They make the interval as narrow as half the threshold. Where it is that narrow already, they
    let the test bear it out, whose deviate grows with the root of the blocks; None where its p is
    no evidence at all, so that nothing can be foreseen.
    """
    enough = math.log1p(threshold) / 2
    needed = stats.required_blocks(found, enough, confidence)
    if found.coverage < confidence:
        return needed, f"{found.blocks} blocks are too few for an interval of {confidence:.4g}"
    if found.half_width > enough:
        return needed, f"the interval is +-{math.expm1(found.half_width):.1%} wide"
    return _blocks_for_p(found, adjusted_p), (
        f"the interval [{found.low:.3f} to {found.high:.3f}] is narrow and excludes 1, but the "
        f"test does not bear it out (p {adjusted_p:.2g})"
    )


def _blocks_for_p(found: Estimate, adjusted_p: float) -> float | None:
    from scipy.stats import norm

    if adjusted_p > 0.5:
        return None
    growth = float(norm.isf(ALPHA / 2) / norm.isf(adjusted_p / 2)) ** 2
    return found.blocks * max(growth, 1.0)
