"""Apply, verify, revert: the only module that writes knobs.

Apply is all or nothing: a knob that refuses, or comes out otherwise than asked, undoes the whole,
unless the caller wants it partial. Revert restores in reverse order, then looks at all values once
more: restoring one may have moved another (queues and their masks, a root and default_qdisc).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from iolab.errors import IolabError
from iolab.tuning import hold
from iolab.tuning import journal as journals
from iolab.tuning.families import FAMILIES
from iolab.tuning.host import Host
from iolab.tuning.journal import Entry, Journal
from iolab.tuning.knob import Gone, KnobError, Outcome, Target, judge
from iolab.tuning.planning import AFTER_CHANNELS, Item, Plan, make_plan, require
from iolab.tuning.profile import Loaded
from iolab.tuning.scene import Scene

_PASSES = 3  # restoring one value may move another, which is seen in the next pass


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
            self.optional and self.outcome is Outcome.UNAVAILABLE
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


@dataclass(frozen=True)
class Restored:
    """One value after a revert. `problem` is empty when it is as it was."""

    knob: str
    original: str
    problem: str = ""
    note: str = ""


def apply(loaded: Loaded, scene: Scene, partial: bool = False, holder: str = "") -> Applied:
    """Applies a profile. IolabError when something is in the way; nothing is written then.

    `holder` is the process that will revert it by itself; see Journal.
    """
    host = scene.host
    with journals.locked(host.state):
        _refuse_second(host)
        plan = make_plan(loaded, scene)
        if not partial:
            require(plan)
        entries = _entries(plan)
        names = {entry.target.netns for entry in entries} - {""}
        cookies = {name: host.cookie(name) for name in names}
        journal = Journal.create(host.state, plan.profile, boot_id(host), entries, cookies, holder)
        try:
            results = _write_all(journal, plan, loaded, scene, partial)
            kept = partial or all(result.good for result in results)
        except BaseException:
            _restore(host, journal)
            raise
        if kept:
            journal.finish()
        else:
            _complain(_restore(host, journal))
        return Applied(plan.profile, kept, tuple(results))


def verify(host: Host) -> list[Result]:
    """Every knob of the applied profile, read back. IolabError when none is applied."""
    journal = journals.load(host.state)
    if journal is None:
        raise IolabError("no profile is applied", "iolab tune apply PROFILE")
    results = [_verify(host, entry, journal.effective.get(n)) for n, entry in journal.wanted()]
    failed = [_failed(journal, n, reason) for n, reason in sorted(journal.failed.items())]
    return [*results, *failed]


def revert(host: Host) -> list[Restored]:
    """Restores everything the journal holds, and removes it when all is as it was.

    Nothing to do without a journal; one of an earlier boot is only removed, for its values were
    lost with that boot.
    """
    with journals.locked(host.state):
        journal = journals.load(host.state)
        if journal is None:
            return []
        if journal.boot_id != boot_id(host):
            journal.remove()
            return []
        return _restore(host, journal)


def boot_id(host: Host) -> str:
    """A value that every boot changes (random(4))."""
    try:
        return host.tree().read("proc/sys/kernel/random/boot_id")
    except OSError:
        return ""


def _refuse_second(host: Host) -> None:
    journal = journals.load(host.state)
    if journal is not None:
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
    """Writes the plan's items in order, the rest computed anew after the queues have changed."""
    results: list[Result] = []
    queue = list(enumerate(plan.items, len(plan.collateral)))
    while queue:
        number, item = queue.pop(0)
        result = _write(journal, number, item, scene.host)
        results.append(result)
        if not result.good and not partial:
            break
        wrote_channels = item.setting.target.family == "channels" and number in journal.begun
        if wrote_channels and result.good:
            queue = _plan_anew(journal, queue, loaded, scene)
    return results


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


def _write(journal: Journal, number: int, item: Item, host: Host) -> Result:
    target, asked = item.setting.target, item.setting.value
    if item.problem is not None:
        journal.fail(number, item.problem)
        return _result(item, None, Outcome.UNAVAILABLE, item.problem)
    family = FAMILIES[target.family]
    if item.unchanged:
        return _result(item, item.original, Outcome.EXACT, "as it was")
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


def _restore(host: Host, journal: Journal) -> list[Restored]:
    """Restores what was or may have been written, in passes until nothing has to be written."""
    notes = {n: _meddled(host, journal, n, entry) for n, entry in journal.to_restore()}
    problems: dict[int, str] = {}
    for _ in range(_PASSES):
        problems, wrote = {}, False
        for number, entry in journal.to_restore():
            if _replaced(host, journal, entry.target.netns):
                continue
            problem, written = _restore_one(host, entry)
            wrote = wrote or written
            if problem:
                problems[number] = problem
        if not wrote:
            break
    if not problems:
        journal.remove()
        hold.end(host.state)  # one that came to run only now, started by whoever was killed
    once: dict[Target, Restored] = {}  # collateral may be a setting as well
    for n, entry in journal.to_restore():
        one = Restored(entry.target.key, entry.original or "", problems.get(n, ""), notes[n])
        if entry.target not in once or one.problem:
            once[entry.target] = one
    return list(once.values())


def _restore_one(host: Host, entry: Entry) -> tuple[str, bool]:
    """The problem, empty when the value is as it was, and whether it had to be written."""
    target, original = entry.target, entry.original or ""
    family = FAMILIES[target.family]
    try:
        if family.read(host, target) == original:
            return "", False
        family.write(host, target, original)
        now = family.read(host, target)
    except Gone:
        return "", False
    except KnobError as error:
        return ("", False) if _vanished(host, target) else (str(error), False)
    return ("" if now == original else f"wrote {original!r}, has {now!r}"), True


def _meddled(host: Host, journal: Journal, number: int, entry: Entry) -> str:
    """Says so when somebody else changed the value after it was applied."""
    applied = journal.effective.get(number)
    if applied is None:
        return ""
    try:
        now = FAMILIES[entry.target.family].read(host, entry.target)
    except KnobError:
        return ""
    if now in (applied, entry.original):
        return ""
    return f"somebody else had changed it to {now}"


def _replaced(host: Host, journal: Journal, netns: str) -> bool:
    """True when the namespace is gone, though another may have its name now."""
    try:
        return bool(netns) and host.cookie(netns) != journal.cookies.get(netns, "")
    except Gone:
        return True


def _vanished(host: Host, target: Target) -> bool:
    """True when the interface or its namespace is gone, and its settings with it."""
    if not target.device or target.family == "limits":
        return False
    try:
        return not host.tree(target.netns).exists(f"sys/class/net/{target.device}")
    except Gone:
        return True


def _complain(restored: Iterable[Restored]) -> None:
    """IolabError when an undone application left something behind."""
    left = [f"{one.knob}: {one.problem}" for one in restored if one.problem]
    if left:
        raise IolabError(
            "\n".join(["not everything could be restored:", *left]), "iolab tune revert"
        )
