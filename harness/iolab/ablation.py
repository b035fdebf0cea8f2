"""Which knobs of a profile carry its effect: the whole against itself without each of them. Pure.

`PROFILE` and `PROFILE~KEY` are cells of the same blocks, so each block yields a log ratio of the
two. A ratio above 1 is what the knob adds while all the others are set; knobs that only matter
together, or that make up for each other, both read as they do in that company. The steps of one
profile on one server and workload are a family, and corrected as one (Holm).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from typing import Any

from iolab import stats
from iolab.model import WITHOUT, Cell, Plan, Sample, Status
from iolab.stats import Estimate


@dataclass(frozen=True)
class Step:
    """One knob left out: `ratio` of the rate with the whole profile to that without `knob`.

    `server` is a label without the profile. `carries` needs the adjusted p below 5% and 1 outside
    the interval. `reason` says why there is no ratio.
    """

    server: str
    workload: str
    testbed: str
    profile: str
    knob: str
    ratio: Estimate | None
    adjusted_p: float | None
    carries: bool
    reason: str | None

    @property
    def place(self) -> tuple[str, str, str, str]:
        """What the steps of one family share."""
        return self.profile, self.server, self.workload, self.testbed

    def to_json(self) -> dict[str, Any]:
        """Plain data for summary.json."""
        return asdict(self)


def steps(plan: Plan, samples: Iterable[Sample]) -> list[Step]:
    """Every step of every ablation, in the plan's order; `samples` are those that count."""
    kept = list(samples)
    families: dict[tuple[str, str, str, str], list[tuple[Cell, Cell]]] = {}
    cells = {cell.id: cell for cell in plan.cells}
    for cell in plan.cells:
        profile, without_one, _ = cell.profile.partition(WITHOUT)
        whole = cells.get(replace(cell, profile=profile).id)
        if without_one and whole is not None and not cell.workload.open_loop:
            place = (profile, cell.server.label, cell.workload.name, cell.testbed)
            families.setdefault(place, []).append((cell, whole))
    return [step for pairs in families.values() for step in _family(plan, kept, pairs)]


def _family(plan: Plan, samples: list[Sample], pairs: list[tuple[Cell, Cell]]) -> list[Step]:
    logs = stats.cell_logs(plan, samples, pairs)
    found = [stats.estimate(one, plan.seed) for one in logs]
    adjusted = iter(stats.holm([one.p_value for one in found if one is not None]))
    return [
        _step(less, whole, ratio, next(adjusted) if ratio is not None else None, samples)
        for (less, whole), ratio in zip(pairs, found, strict=True)
    ]


def _step(
    less: Cell, whole: Cell, ratio: Estimate | None, p: float | None, samples: list[Sample]
) -> Step:
    profile, _, knob = less.profile.partition(WITHOUT)
    outside = ratio is not None and (ratio.low > 1 or ratio.high < 1)
    return Step(
        server=less.server.label,
        workload=less.workload.name,
        testbed=less.testbed,
        profile=profile,
        knob=knob,
        ratio=ratio,
        adjusted_p=p,
        carries=outside and p is not None and p < stats.ALPHA,
        reason=None if ratio is not None else _why(less, whole, samples),
    )


def _why(less: Cell, whole: Cell, samples: list[Sample]) -> str:
    """Why one of the two has no number."""
    for cell in (less, whole):
        mine = [sample for sample in samples if sample.cell == cell.id]
        status, reason = stats.cell_status(cell, mine)
        if status is not Status.OK:
            return f"{status}: {reason}" if cell is less else f"the whole profile: {reason}"
    return "no block holds both"
