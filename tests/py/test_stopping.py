from __future__ import annotations

import math

import pytest

from iolab import gate
from iolab.stopping import PAIR_WIDTH, Rule, Stop

RULE = Rule(min_blocks=8, max_blocks=100, precision=0.02, budget_s=60.0)


def narrow(wanted: float) -> bool:
    return True


def wide(wanted: float) -> bool:
    return False


@pytest.mark.parametrize(
    ("blocks", "spent_s", "next_s", "stop"),
    [
        (7, 999.0, 1.0, None),  # the least number is measured in any case
        (8, 59.0, 1.0, None),
        (8, 59.0, 1.1, Stop.BUDGET),
        (100, 10.0, 1.0, Stop.BLOCKS),
    ],
)
def test_blocks_and_budget_end_what_stays_wide(
    blocks: int, spent_s: float, next_s: float, stop: Stop | None
) -> None:
    assert RULE.stop(blocks, spent_s, next_s, wide) is stop


def test_precision_ends_it_first_once_there_are_enough_blocks() -> None:
    assert RULE.stop(7, 999.0, 1.0, narrow) is None
    assert RULE.stop(8, 999.0, 1.0, narrow) is Stop.PRECISION
    without = Rule(8, 100, None, 60.0)
    assert without.stop(8, 1.0, 1.0, narrow) is None


def test_widths_are_asked_for_as_logarithms_and_only_where_they_decide() -> None:
    asked: list[float] = []

    def spy(wanted: float) -> bool:
        asked.append(wanted)
        return False

    RULE.stop(7, 0.0, 1.0, spy)
    RULE.stop(100, 0.0, 1.0, spy)
    assert asked == []
    RULE.stop(9, 0.0, 1.0, spy)
    assert asked == [pytest.approx(math.log1p(0.02))]


def test_a_gates_rule_follows_its_family_and_threshold() -> None:
    one, six = gate.rule_for(1, 0.05, 60.0), gate.rule_for(6, 0.05, 360.0)
    assert one.precision == six.precision == pytest.approx(math.sqrt(1.05) - 1)
    assert (one.min_blocks, six.min_blocks) == (8, 11)  # 1 - 2 / 2^n holds 99%, 99.83%
    assert (one.budget_s, six.budget_s) == (60.0, 360.0)


def test_a_gate_that_ends_with_its_precision_has_pairs_that_show_its_threshold() -> None:
    """What the pairs are waited for and what they are judged by (control.lacking) is one width."""
    precision = gate.rule_for(6, 0.05, 360.0).precision
    assert precision is not None
    assert PAIR_WIDTH * math.log1p(precision) == pytest.approx(math.log1p(0.05))
