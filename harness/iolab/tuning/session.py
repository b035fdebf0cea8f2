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

from iolab.errors import IolabError
from iolab.tuning import bench
from iolab.tuning.bench import Applied, Result
from iolab.tuning.journal import holder_of
from iolab.tuning.placement import Side, place
from iolab.tuning.profile import Loaded
from iolab.tuning.restore import Restored
from iolab.tuning.scene import Scene


@dataclass
class Session:
    """An applied profile. `placement` says where server and client are to run."""

    scene: Scene
    applied: Applied
    placement: dict[str, Side]
    reverted: bool = False

    def verify(self) -> list[Result]:
        """The knobs that are not as applied; empty when there was no drift."""
        return [result for result in bench.verify(self.scene.host) if not result.good]

    def revert(self) -> list[Restored]:
        """Restores the host; the second call does nothing. IolabError when something is left."""
        if self.reverted:
            return []
        restored = bench.revert(self.scene.host)
        left = [f"{one.knob}: {one.problem}" for one in restored if one.problem]
        if left:
            raise IolabError("\n".join(["not restored:", *left]), "iolab tune revert")
        self.reverted = True
        return restored


@contextmanager
def session(loaded: Loaded, scene: Scene, partial: bool = False) -> Iterator[Session]:
    """Applies the profile and reverts it at the end.

    `scene` says where: a testbed with namespaces gives one with `netns` and `only_netns`.
    IolabError when the profile does not take whole and `partial` is not given.
    """
    applied = bench.apply(loaded, scene, partial, holder_of(os.getpid()))
    if not applied.kept:
        bad = [f"{one.place}: {one.knob}: {one.outcome}" for one in applied.results if not one.good]
        raise IolabError("\n".join([f"profile {applied.profile} did not take:", *bad]))
    tuned = Session(scene, applied, place(loaded.profile, scene))
    try:
        yield tuned
    finally:
        tuned.revert()
