"""Apply, verify, revert; only this module and `restore` write knobs.

Apply is all or nothing: a knob that refuses, or comes out otherwise than asked, undoes the whole,
unless the caller wants it partial.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from iolab.errors import IolabError
from iolab.tuning import journal as journals
from iolab.tuning.families import FAMILIES
from iolab.tuning.host import Host
from iolab.tuning.identity import identify, require_own_namespace
from iolab.tuning.journal import Entry, Journal, boot_id
from iolab.tuning.knob import KnobError, Outcome, Target, judge
from iolab.tuning.leftovers import lost
from iolab.tuning.lock import locked
from iolab.tuning.overlap import others, refuse_overlap
from iolab.tuning.planning import AFTER_CHANNELS, Item, Plan, make_plan, require
from iolab.tuning.profile import Loaded
from iolab.tuning.restore import Restored, complain, look, restore
from iolab.tuning.scene import Scene
from iolab.tuning.undisturbed import undisturbed

_PASSES = 3  # writing one value may move another, which is written again


@dataclass(frozen=True)
class Result:
    """What became of one knob."""

    knob: str
    place: str
    requested: str
    original: str | None
    effective: str | None
    outcome: Outcome
    reason: str = ""
    optional: bool = False

    @property
    def good(self) -> bool:
        """True when nothing is to be complained of."""
        return self.outcome is Outcome.EXACT or (
            self.optional and self.outcome in (Outcome.UNAVAILABLE, Outcome.REFUSED)
        )


@dataclass(frozen=True)
class Applied:
    """The outcome of an application; `kept` is False when it was undone."""

    profile: str
    kept: bool
    results: tuple[Result, ...]

    @property
    def ok(self) -> bool:
        """True when the profile is in force whole."""
        return self.kept and all(result.good for result in self.results)


@dataclass
class _Written:
    """A setting that was written, by its number in the journal, and what became of it."""

    number: int
    item: Item
    result: Result


def apply(loaded: Loaded, scene: Scene, partial: bool = False, holder: str = "") -> Applied:
    """Applies a profile. IolabError when something is in the way; nothing is written then.

    `holder` will revert it by itself; see Journal.
    """
    host = scene.host
    with locked(host.state):
        _make_way(host)
        held = others(host)
        plan = make_plan(loaded, scene)
        if not partial:
            require(plan)
        entries = _entries(plan)
        identity = identify(host, (entry.target for entry in entries))
        journal = Journal.create(host.state, plan.profile, boot_id(host), entries, identity, holder)
        try:
            refuse_overlap(journal, [*held, *others(host)])
        except BaseException:
            journal.remove()
            raise
        try:
            results = _write_all(journal, plan, loaded, scene, partial)
            kept = partial or all(result.good for result in results)
            if kept:
                journal.finish()
        except BaseException:
            restore(host, journal)
            raise
        if not kept:
            complain(restore(host, journal))
        return Applied(plan.profile, kept, tuple(results))


def verify(host: Host) -> list[Result]:
    """Every knob of the applied profile, read back. IolabError when none is applied."""
    journal = journals.load(host.state)
    if journal is None:
        raise IolabError("no profile is applied", "iolab tune apply PROFILE")
    reason = lost(host, journal)
    if reason:
        raise IolabError(
            f"profile {journal.profile} is not applied any more: {reason}",
            f"iolab tune apply {journal.profile}",
        )
    _require_here(host, journal)
    with host.asking_once():
        results = [_verify(host, entry, journal.effective.get(n)) for n, entry in journal.wanted()]
    failed = [_failed(journal, n, reason) for n, reason in sorted(journal.failed.items())]
    return [*results, *failed]


def revert(host: Host, holder: str = "") -> list[Restored]:
    """Restores everything the journal holds, and removes it when all is as it was.

    Nothing to do without a journal; one of an earlier boot is only removed, for its values were
    lost with that boot. With `holder`, a journal of somebody else is left alone. Signals that ask
    for an end have to wait.
    """
    if holder and not _is_held(host, holder):
        return []
    with undisturbed(), locked(host.state):
        journal = journals.load(host.state)
        if journal is None:
            return []
        if journal.boot_id != boot_id(host):
            journal.remove()
            return []
        _require_here(host, journal)
        return restore(host, journal)


def _is_held(host: Host, holder: str) -> bool:
    journal = journals.load(host.state)
    return journal is not None and journal.holder == holder


def preview(host: Host) -> list[Restored]:
    """What `revert` would restore; nothing is written."""
    journal = journals.load(host.state)
    if journal is None or journal.boot_id != boot_id(host):
        return []
    _require_here(host, journal)
    return look(host, journal)


def _require_here(host: Host, journal: Journal) -> None:
    """IolabError when the journal's own namespace is not the one iolab runs in now."""
    targets = [entry.target for entry in journal.entries]
    try:
        require_own_namespace(host, journal.identity, targets)
    except IolabError as error:
        raise IolabError(f"profile {journal.profile}: {error.message}", error.remedy) from error


def _make_way(host: Host) -> None:
    """IolabError when another profile is applied; a journal whose values are lost is dropped."""
    journal = journals.load(host.state)
    if journal is None:
        return
    if lost(host, journal):
        journal.remove()
        return
    state = "is applied" if journal.finished else "is left applied in part by a run cut short"
    raise IolabError(f"profile {journal.profile} {state}", "iolab tune revert")


def _entries(plan: Plan, known: dict[Target, str | None] | None = None) -> list[Entry]:
    """Journal entries of a plan: collateral first, so that it is restored last.

    `known` has the originals that were read before anything was written; with it, what is not in it
    did not exist then.
    """
    collateral = [] if known is not None else [Entry(*pair, None) for pair in plan.collateral]
    settings = [
        Entry(
            item.setting.target,
            known.get(item.setting.target) if known is not None else item.original,
            item.setting.value,
            item.place,
            item.optional,
        )
        for item in plan.items
    ]
    return [*collateral, *settings]


def _write_all(
    journal: Journal, plan: Plan, loaded: Loaded, scene: Scene, partial: bool
) -> list[Result]:
    """Writes the plan's items in order, the rest computed anew after the queues have changed.

    Then reads everything again: a knob may have moved one that was written before it.
    """
    written: list[_Written] = []
    queue = list(enumerate(plan.items, len(plan.collateral)))
    while queue:
        number, item = queue.pop(0)
        one = _Written(number, item, _write(journal, number, item, scene.host))
        written.append(one)
        if not one.result.good and not partial:
            return [each.result for each in written]
        wrote_channels = item.setting.target.family == "channels" and number in journal.begun
        if wrote_channels and one.result.good:
            queue = _plan_anew(journal, queue, loaded, scene)
    return [each.result for each in _settle(journal, written, scene.host)]


def _plan_anew(
    journal: Journal, queue: list[tuple[int, Item]], loaded: Loaded, scene: Scene
) -> list[tuple[int, Item]]:
    known: dict[Target, str | None] = {}
    for entry in journal.entries:
        known.setdefault(entry.target, entry.original)
    fresh = make_plan(loaded, scene, AFTER_CHANNELS)
    first = len(journal.entries)
    journal.supersede([number for number, _ in queue], _entries(fresh, known))
    return list(enumerate(fresh.items, first))


def _settle(journal: Journal, written: list[_Written], host: Host) -> list[_Written]:
    """Writes once more what another knob has moved, and says of which it moves all the same."""
    for _ in range(_PASSES):
        with host.asking_once():
            moved = [one for one in written if _has_moved(host, one)]
        if not moved:
            return written
        for one in moved:
            again = replace(one.item, unchanged=False)
            one.result = _write(journal, one.number, again, host)
    for one in written:
        if _has_moved(host, one):
            one.result = _moved(journal, one, host)
    return written


def _has_moved(host: Host, one: _Written) -> bool:
    """True for a value that was as asked and is not any more, or cannot be read any more."""
    if one.result.outcome is not Outcome.EXACT:
        return False
    target = one.item.setting.target
    family = FAMILIES[target.family]
    try:
        return not family.same(target, one.item.setting.value, family.read(host, target))
    except KnobError:
        return True


def _moved(journal: Journal, one: _Written, host: Host) -> Result:
    target = one.item.setting.target
    try:
        now = FAMILIES[target.family].read(host, target)
    except KnobError as error:
        journal.fail(one.number, error.message)
        return _result(one.item, None, Outcome.REFUSED, str(error))
    reason = "took its value, and another knob of the profile moved it"
    journal.fail(one.number, f"{reason}: asked for {one.item.setting.value}, has {now}")
    return _result(one.item, now, Outcome.DIFFERENT, reason)


def _write(journal: Journal, number: int, item: Item, host: Host) -> Result:
    target, asked = item.setting.target, item.setting.value
    if item.problem is not None:
        journal.fail(number, item.problem)
        return _result(item, None, Outcome.UNAVAILABLE, item.problem)
    family = FAMILIES[target.family]
    if item.unchanged:
        return _result(item, item.original, Outcome.EXACT, "as it was")
    if number not in journal.begun:
        journal.begin(number)
    try:
        before = family.read(host, target)
        family.write(host, target, asked)
        now = family.read(host, target)
    except KnobError as error:
        journal.fail(number, error.message)
        return _result(item, None, Outcome.REFUSED, str(error))
    outcome = judge(family, target, asked, before, now)
    journal.wrote(number, now)
    if outcome is not Outcome.EXACT:
        journal.fail(number, f"{outcome}: asked for {asked}, has {now}")
    return _result(item, now, outcome, family.doubt(host, target, asked))


def _result(item: Item, effective: str | None, outcome: Outcome, reason: str) -> Result:
    target = item.setting.target
    return Result(
        target.key, item.place, item.setting.value, item.original, effective, outcome, reason,
        item.optional,
    )  # fmt: skip


def _verify(host: Host, entry: Entry, applied: str | None) -> Result:
    family, asked = FAMILIES[entry.target.family], entry.requested or ""
    try:
        now = family.read(host, entry.target)
    except KnobError as error:
        return Result(
            entry.target.key, entry.place, asked, entry.original, None, Outcome.UNAVAILABLE,
            error.message, entry.optional,
        )  # fmt: skip
    outcome = judge(family, entry.target, asked, entry.original, now)
    reason = family.doubt(host, entry.target, asked)
    if outcome is not Outcome.EXACT and applied is not None:
        reason = f"was {applied} when it was applied"
    return Result(entry.target.key, entry.place, asked, entry.original, now, outcome, reason)


def _failed(journal: Journal, number: int, reason: str) -> Result:
    entry = journal.entries[number]
    outcome = Outcome.REFUSED if number in journal.begun else Outcome.UNAVAILABLE
    return Result(
        entry.target.key, entry.place, entry.requested or "", entry.original, None, outcome,
        f"not applied: {reason}", entry.optional,
    )  # fmt: skip
