"""What a report says of sends that asked for no copy, and of those that did not ask any more."""

from __future__ import annotations

import pytest

from iolab.model import Cell, Plan, Sample, Server, Status, Workload
from iolab.report.view import CellView, ZeroCopy
from iolab.report.zerocopy import claims, tally

ALL = ZeroCopy(10, 10, 10)
SOME = ZeroCopy(10, 10, 3)
NONE = ZeroCopy(10, 10, 0)
SOME_WAIVED = ZeroCopy(10, 10, 0, waived=5)
ONLY_WAIVED = ZeroCopy(0, 0, 0, waived=5)


def plan(testbed: str = "loopback") -> Plan:
    cells = (Cell(Server("engine", "a"), Workload("w", 1, 1)),)
    return Plan("p", "", "a", cells, testbed=testbed)  # type: ignore[arg-type]


def views(**cells: ZeroCopy | None) -> list[CellView]:
    return [
        CellView(name, name, "w", "ok", None, "ranked", 1, False, zero_copy=found)
        for name, found in cells.items()
    ]


def counted(**counters: int) -> list[Sample]:
    return [Sample(0, 0, "a@w", Status.OK, None, 0, 1, None, counters)]


def test_a_cell_that_only_gave_up_asking_is_evidence_all_the_same() -> None:
    assert tally(counted(zc_sends=0, zc_notified=0, zc_copied=0, zc_waived=7)) == ZeroCopy(
        0, 0, 0, waived=7
    )
    assert tally(counted(zc_sends=0, zc_notified=0, zc_copied=0, zc_waived=0)) is None
    assert tally(counted(zc_sends=2, zc_notified=2, zc_copied=1)) == ZeroCopy(2, 2, 1)
    assert tally(counted(requests=5)) is None
    assert ONLY_WAIVED.verdict == "copied: never asked"


def test_every_kind_of_cell_is_named_once_with_its_own_reason() -> None:
    found = claims(plan(), views(all=ALL, some=SOME, waived=ONLY_WAIVED, none=NONE, plain=None))
    copied, partly, waived, rest = found
    assert "copied every send of all" in copied
    assert "copied some of the sends of some" in partly
    assert "without asking the kernel, by its own count, in waived" in waived
    assert "notifications say" not in waived
    assert rest == "No zero-copy claim of none: not on the testbed loopback, where no card sends."


def test_partly_copied_cells_are_named_beside_those_all_copied() -> None:
    first, second = claims(plan(), views(all=ALL, some=SOME))
    assert "every send of all." in first
    assert "some of the sends of some." in second


@pytest.mark.parametrize("only", [SOME_WAIVED, ONLY_WAIVED])
def test_what_the_engine_copied_is_not_laid_on_the_kernel(only: ZeroCopy) -> None:
    (said,) = claims(plan(), views(a=only))
    assert "notifications say" not in said
    assert "by copy without asking" in said


def test_a_card_that_copied_nothing_needs_no_words() -> None:
    assert claims(plan("remote"), views(a=NONE)) == []
    assert claims(plan(), views(a=None)) == []
    (said,) = claims(plan("netns"), views(a=NONE))
    assert said == "No zero-copy claim: not on the testbed netns, where no card sends."
