"""When measuring ends: the rule by which runs stop, and gates drawn from recordings. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

PAIR_WIDTH = 2
"""How many times as wide as the precision asked for an A/A pair's interval may be at the end.

Widths are differences of logarithms. A precision is half of the difference that is looked for
(gate.rule_for), so that an interval that holds the one excludes the other. A pair gives no such
verdict: it is evidence when it would show a difference of the whole size (control.lacking), and to
wait until it is narrower would cost time and prove no more.
"""


class Stop(StrEnum):
    """What ended it."""

    BLOCKS = "blocks"
    PRECISION = "precision"
    BUDGET = "budget"


@dataclass(frozen=True)
class Rule:
    """What was asked of a run: see Plan, whose fields of these names they are.

    `min_blocks` are measured in any case. Then comes the end with `max_blocks`, with every interval
    within `precision` (None: not asked for), or before a block that `budget_s` has no room for.
    """

    min_blocks: int
    max_blocks: int
    precision: float | None
    budget_s: float

    def stop(
        self, blocks: int, spent_s: float, next_s: float, narrow: Callable[[float], bool]
    ) -> Stop | None:
        """Why to stop after `blocks` blocks, which took `spent_s`; None to go on.

        The next block is expected to take `next_s`. `narrow` says whether every interval has at
        most the given half-width, a difference of logarithms; it is asked only where that decides.
        """
        if blocks < self.min_blocks:
            return None
        if blocks >= self.max_blocks:
            return Stop.BLOCKS
        if self.precision is not None and narrow(math.log1p(self.precision)):
            return Stop.PRECISION
        return Stop.BUDGET if spent_s + next_s > self.budget_s else None
