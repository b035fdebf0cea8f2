"""Two journals must not hold one value: the revert that came last would restore what the other set.

Profiles in namespaces stand side by side with the host's, so that a value may be asked for twice:
`--netns N --only-netns` and `--netns N` reach the same files. The one that comes second is refused.
To be safe against an apply that runs at the same time, a journal is written before the others are
looked at: of two that begin together at least one sees the other, and neither has written a knob.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from iolab.errors import IolabError
from iolab.tuning import journal as journals
from iolab.tuning.host import Host
from iolab.tuning.identity import Identity, lives_in_namespace
from iolab.tuning.journal import Entry, Journal
from iolab.tuning.knob import Target
from iolab.tuning.state import beside, is_of_namespace

Place = tuple[str, ...]
"""What a value is, whatever its namespace is called: its cookie, file or tool's name, device."""


@dataclass(frozen=True)
class Held:
    """A profile that is applied elsewhere: where its journal lies, and the values it holds."""

    profile: str
    state: Path
    places: frozenset[Place]


def others(host: Host) -> list[Held]:
    """The journals beside the host's own one, those of an earlier boot left out."""
    found = []
    for state in beside(host.state):
        journal = journals.load(state)
        if journal is not None and journal.boot_id == journals.boot_id(host):
            found.append(Held(journal.profile, state, _places(journal)))
    return found


def refuse_overlap(journal: Journal, held: Iterable[Held]) -> None:
    """IolabError when another journal holds a value of this one."""
    mine = {_place(entry.target, journal.identity): entry for entry in journal.entries}
    for other in held:
        shared = [_named(mine[place]) for place in mine if place in other.places]
        if shared:
            more = f" and {len(shared) - 1} more" if len(shared) > 1 else ""
            raise IolabError(
                f"nothing was written: {shared[0]}{more}: "
                f"held by profile {other.profile} (journal {other.state})",
                _remedy(other),
            )


def _remedy(other: Held) -> str:
    inside = f" --netns {other.state.name}" if is_of_namespace(other.state) else ""
    return f"iolab tune revert{inside}"


def _named(entry: Entry) -> str:
    inside = f" in namespace {entry.target.netns}" if entry.target.netns else ""
    return f"{entry.target.key}{inside}"


def _places(journal: Journal) -> frozenset[Place]:
    return frozenset(_place(entry.target, journal.identity) for entry in journal.entries)


def _place(target: Target, identity: Identity) -> Place:
    """Under an older kernel without cookies, the namespace's name has to do."""
    inside = lives_in_namespace(target)
    namespace = identity.cookies.get(target.netns) or target.netns if inside else ""
    return target.family, namespace, target.where, target.device
