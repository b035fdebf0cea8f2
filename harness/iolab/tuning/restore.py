"""Restoring what a journal holds: in reverse order, where it is now, until nothing moves any more.

Restoring one value may move another (queues and their masks, a root and default_qdisc), so that all
are looked at again after each pass. A value whose namespace, interface or process is gone went with
it, which is said: nothing was restored there.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from iolab.errors import IolabError
from iolab.tuning import hold
from iolab.tuning.families import FAMILIES
from iolab.tuning.host import Host
from iolab.tuning.identity import Finder, interface_of
from iolab.tuning.journal import Entry, Journal
from iolab.tuning.knob import Gone, KnobError, Target
from iolab.tuning.undisturbed import undisturbed

_PASSES = 3


@dataclass(frozen=True)
class Restored:
    """One value after a revert. `problem` is empty when it is as it was, or `gone` says why not."""

    knob: str
    original: str
    problem: str = ""
    note: str = ""
    gone: str = ""


@dataclass
class _Work:
    """A value to restore and what became of it. `target` is None for what cannot be reached."""

    entry: Entry
    target: Target | None
    note: str = ""
    problem: str = ""
    gone: str = ""


def restore(host: Host, journal: Journal) -> list[Restored]:
    """Restores what was or may have been written; removes the journal when all is as it was.

    Signals that ask for an end have to wait.
    """
    with undisturbed():
        return _restore(host, journal)


def _restore(host: Host, journal: Journal) -> list[Restored]:
    works = _works(host, journal)
    for _ in range(_PASSES):
        wrote = [_restore_one(host, work, work.target) for work in works if work.target]
        if not any(wrote):
            break
    else:
        _read_all(host, works)
    if not any(work.problem for work in works):
        journal.remove()
        hold.end(host.state)  # one that came to run only now, started by whoever was killed
    return _report(works)


def look(host: Host, journal: Journal) -> list[Restored]:
    """What `restore` would restore; nothing is written."""
    return _report(_works(host, journal))


def complain(restored: Iterable[Restored]) -> None:
    """IolabError when an undone application left something behind."""
    left = [f"{one.knob}: {one.problem}" for one in restored if one.problem]
    if left:
        raise IolabError(
            "\n".join(["not everything could be restored:", *left]), "iolab tune revert"
        )


def _works(host: Host, journal: Journal) -> list[_Work]:
    finder = Finder(host, journal.identity)
    with host.asking_once():
        return [
            _locate(host, finder, entry, journal.effective.get(number))
            for number, entry in journal.to_restore()
        ]


def _locate(host: Host, finder: Finder, entry: Entry, applied: str | None) -> _Work:
    """Where the value is now, with a remark when that is elsewhere, or somebody has changed it."""
    try:
        target = finder.find(entry.target)
    except Gone as error:
        return _Work(entry, None, gone=error.message)
    except KnobError as error:
        return _Work(entry, None, problem=str(error))
    notes = [_meddled(host, entry, target, applied)]
    if target != entry.target:
        inside = f" in namespace {target.netns}" if target.netns else ""
        notes.append(f"found as {target.device or '/' + target.where}{inside}")
    return _Work(entry, target, "; ".join(filter(None, notes)))


def _meddled(host: Host, entry: Entry, target: Target, applied: str | None) -> str:
    """Says so when somebody else changed the value after it was applied."""
    if applied is None:
        return ""
    try:
        now = FAMILIES[target.family].read(host, target)
    except KnobError:
        return ""
    if now in (applied, entry.original):
        return ""
    return f"somebody else had changed it to {now}"


def _restore_one(host: Host, work: _Work, target: Target) -> bool:
    """True when it had to be written; `work` has what came of it."""
    family, original = FAMILIES[target.family], work.entry.original or ""
    work.problem = ""
    try:
        if family.read(host, target) == original:
            return False
        family.write(host, target, original)
        now = family.read(host, target)
    except KnobError as error:
        _note_failure(host, work, target, error)
        return False
    if now != original:
        work.problem = f"wrote {original!r}, has {now!r}"
    return True


def _note_failure(host: Host, work: _Work, target: Target, error: KnobError) -> None:
    """A value that cannot be read or written is gone when its process or interface is."""
    if isinstance(error, Gone) or _vanished(host, target):
        work.target, work.gone = None, error.message
    else:
        work.problem = str(error)


def _vanished(host: Host, target: Target) -> bool:
    """True when the interface went while it was being restored."""
    name = interface_of(target)
    try:
        return bool(name) and not host.tree(target.netns).exists(f"sys/class/net/{name}")
    except Gone:
        return True


def _read_all(host: Host, works: Iterable[_Work]) -> None:
    """Finds what another value has moved since it was restored."""
    for work in works:
        if work.target is None or work.problem:
            continue
        try:
            now = FAMILIES[work.target.family].read(host, work.target)
        except KnobError as error:
            _note_failure(host, work, work.target, error)
            continue
        if now != work.entry.original:
            work.problem = f"was restored, and another value moved it to {now!r}"


def _report(works: Iterable[_Work]) -> list[Restored]:
    """One line a target: collateral may be a setting as well."""
    once: dict[Target, Restored] = {}
    for work in works:
        entry = work.entry
        one = Restored(entry.target.key, entry.original or "", work.problem, work.note, work.gone)
        if entry.target not in once or one.problem:
            once[entry.target] = one
    return list(once.values())
