"""What a run's cells are surrounded by, as the measuring loop sees it: phases, drift, stages.

A *phase* is a state of the whole host. Cells whose profile is the host's own state, or lives in a
namespace of theirs, share the phase ""; each profile that touches the host has one, and the twin of
a baseline one more, so that the A/A pair pays for a switch as the real comparisons do. A block
holds every phase once, in seeded random order.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

from iolab.model import BlockOrder, Cell, Condition, Plan

if TYPE_CHECKING:
    from iolab.troupe import Stage

AS_FOUND = ""
"""The phase in which nothing of the host is changed."""


class Surroundings(Protocol):
    """Brings the conditions of cells into force. IolabError where the host cannot be restored."""

    @property
    def unsupported(self) -> Mapping[Condition, str]:
        """The conditions that cannot be had here, with the reason."""

    def begin(self, conditions: Sequence[Condition], meet: Callable[[Condition], None]) -> None:
        """Before anything else: brings each condition into force once, and calls `meet` in it.

        Those that cannot be had are `unsupported` afterwards, and met by nobody. A profile of the
        host is applied to see whether it takes; what has to be done under each is done meanwhile,
        for to apply it once more takes its time. IolabError when the run cannot go on without one.
        """

    def phase(self, cell: Cell) -> str:
        """The phase in which a cell is driven."""

    def enter(self, phase: str) -> bool:
        """Brings a phase into force; False when it was already."""

    def drift(self) -> str | None:
        """What is not as the profiles in force have it; None when all of it is."""

    def renew(self) -> None:
        """After drift: undoes what is in force and applies it anew."""

    def not_set(self, cell: Cell) -> Sequence[str]:
        """The knobs of the cell's profile that this host lacks or that did not take."""

    def stage(self, cell: Cell) -> Stage:
        """Where the cell's server and clients are started."""


class Unchanging:
    """Surroundings of a run without profiles on one testbed: nothing is ever changed."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self.unsupported: Mapping[Condition, str] = {}

    def begin(self, conditions: Sequence[Condition], meet: Callable[[Condition], None]) -> None:
        """See Surroundings."""
        for condition in conditions:
            if condition not in self.unsupported:
                meet(condition)

    def phase(self, cell: Cell) -> str:
        """See Surroundings."""
        return AS_FOUND

    def enter(self, phase: str) -> bool:
        """See Surroundings."""
        return False

    def drift(self) -> str | None:
        """See Surroundings."""
        return None

    def renew(self) -> None:
        """See Surroundings."""

    def not_set(self, cell: Cell) -> Sequence[str]:
        """See Surroundings."""
        return ()

    def stage(self, cell: Cell) -> Stage:
        """See Surroundings."""
        return self._stage


def phases(
    plan: Plan, order: BlockOrder, phase_of: Callable[[Cell], str]
) -> list[tuple[str, list[str]]]:
    """The cells of a block by phase, in the order in which the block goes through them.

    A function of the plan's seed and the block's number. Within a phase the block's order stays.
    """
    cells = {cell.id: cell for cell in plan.cells}
    found: dict[str, list[str]] = {}
    for cell_id in order.cells:
        found.setdefault(phase_of(cells[cell_id]), []).append(cell_id)
    names = sorted(found)
    random.Random(f"{plan.seed}:{order.block}:phases").shuffle(names)
    return [(name, found[name]) for name in names]


def in_phases(plan: Plan, phase_of: Callable[[Cell], str]) -> list[tuple[int, Cell]]:
    """The cells of a plan with their numbers, those of a phase together."""
    names = list(dict.fromkeys(phase_of(cell) for cell in plan.cells))
    return sorted(enumerate(plan.cells), key=lambda item: names.index(phase_of(item[1])))
