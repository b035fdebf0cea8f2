"""A profile in force for the length of a `with`: what `iolab run` uses for each cell.

    with session(profile, scene) as tuned:
        ...                     # a block
        tuned.verify()          # drift invalidates it

Leaving it reverts, whatever was raised inside; a process that is killed leaves its journal, which
the next start of any verb finds.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count

from iolab.errors import IolabError
from iolab.tuning import bench
from iolab.tuning.bench import Applied, Result
from iolab.tuning.journal import holder_of
from iolab.tuning.placement import Side, place
from iolab.tuning.profile import Loaded
from iolab.tuning.restore import Restored
from iolab.tuning.scene import Scene

_NUMBERS = count(1)


@dataclass
class Session:
    """An applied profile. `placement` says where server and client are to run.

    `holder` tells its journal from one that somebody wrote after reverting this one.
    """

    scene: Scene
    applied: Applied
    placement: dict[str, Side]
    holder: str
    reverted: bool = False

    def verify(self) -> list[Result]:
        """The knobs that are not as applied; empty when there was no drift."""
        return [result for result in bench.verify(self.scene.host) if not result.good]

    def revert(self) -> list[Restored]:
        """Restores the host; the second call does nothing. IolabError when something is left."""
        if self.reverted:
            return []
        restored = _revert(self.scene, self.holder)
        self.reverted = True
        return restored


@contextmanager
def session(loaded: Loaded, scene: Scene, partial: bool = False) -> Iterator[Session]:
    """Applies the profile and reverts it at the end.

    `scene` says where: a testbed with namespaces gives one with `netns` and `only_netns`.
    IolabError when the profile does not take whole and `partial` is not given.
    """
    placement = place(loaded.profile, scene)
    holder = f"{holder_of(os.getpid())} {next(_NUMBERS)}"
    tuned = None
    try:
        applied = bench.apply(loaded, scene, partial, holder)
        if not applied.kept:
            raise IolabError(
                "\n".join([f"profile {applied.profile} did not take:", *_bad(applied)])
            )
        tuned = Session(scene, applied, placement, holder)
        yield tuned
    finally:
        if tuned is not None:
            tuned.revert()
        else:  # interrupted as apply returned, or nothing is there to revert
            _revert(scene, holder)


def _bad(applied: Applied) -> list[str]:
    return [f"{one.place}: {one.knob}: {one.outcome}" for one in applied.results if not one.good]


def _revert(scene: Scene, holder: str) -> list[Restored]:
    restored = bench.revert(scene.host, holder)
    left = [f"{one.knob}: {one.problem}" for one in restored if one.problem]
    if left:
        raise IolabError("\n".join(["not restored:", *left]), "iolab tune revert")
    return restored
