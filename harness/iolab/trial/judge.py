"""The judgement: a pure function from the recording of a trial to its verdict."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace

from iolab.trial.assumptions import Scene, assumptions
from iolab.trial.couplings import comes_or_goes, is_of_a_module, is_part, why_moved
from iolab.trial.recording import Recording, Step
from iolab.trial.story import Attempt, Story, canonical, tell
from iolab.trial.trace import parse
from iolab.trial.values import comparable, flatten, same
from iolab.trial.verdict import Finding, Kind, KnobVerdict, Outcome, Verdict, display


def judge(recording: Recording) -> Verdict:
    """The verdict on a script."""
    before = _steady(recording)
    after = flatten(recording.first.after)
    story = tell(parse(recording.first.trace))
    scene = Scene(recording.interface, before, after, recording.before[1])
    knobs = [
        *_attempted(story, before, after, recording.first),
        *_side_effects(story, before, after),
    ]
    findings = [
        *assumptions(story, scene),
        *_touches(story, recording.interface),
        *_not_idempotent(recording),
        *_not_reversible(recording, before),
        *_status(story, recording.first),
    ]
    return Verdict(recording.first.status, tuple(knobs), tuple(_unique(findings)))


def _steady(recording: Recording) -> dict[str, str]:
    """The state before, without what changed although nothing was done."""
    first, second = (flatten(snapshot) for snapshot in recording.before)
    return {knob: value for knob, value in second.items() if first.get(knob) == value}


# --- knob by knob ------------------------------------------------------------------------------


def _attempted(
    story: Story, before: Mapping[str, str], after: Mapping[str, str], step: Step
) -> Iterator[KnobVerdict]:
    last: dict[str, Attempt] = {}
    for attempt in story.attempts:
        last[attempt.knob] = attempt
    end = max((attempt.at for attempt in story.attempts), default=0)
    for knob, attempt in last.items():
        was, has = before.get(knob), after.get(knob)
        outcome, detail = _outcome(attempt, was, has, after)
        unheard = attempt.hidden and attempt.at < end
        later = [one.knob for one in story.attempts if one.at > attempt.at and not one.error]
        moved = why_moved(later, knob)
        if moved and outcome in (Outcome.IGNORED, Outcome.CLAMPED):
            outcome, detail = Outcome.UNDONE, moved
        if outcome is Outcome.FAILED and (step.status == 0 or unheard):
            outcome = Outcome.SILENT
        yield KnobVerdict(knob, outcome, was, attempt.wanted, has, detail, attempt.by)
    for limit in story.limits:
        if limit.resource != "RLIMIT_CORE":
            said = _limit_verdict(limit.resource, limit.soft, limit.error, before, after, limit.by)
            silent = said.outcome is Outcome.FAILED and step.status == 0
            yield replace(said, outcome=Outcome.SILENT) if silent else said


def _outcome(
    attempt: Attempt, was: str | None, has: str | None, after: Mapping[str, str]
) -> tuple[Outcome, str]:
    if attempt.error is not None:
        return Outcome.FAILED, _failure(attempt)
    if has is None:
        return Outcome.UNREADABLE, "written, and nothing shows what became of it"
    if attempt.wanted is None:
        return (Outcome.CHANGED if was != has else Outcome.NOTHING), ""
    if same(attempt.knob, attempt.wanted, has):
        inert = _inert(attempt.knob, has, after)
        if inert:
            return Outcome.INERT, inert
        so = was is not None and same(attempt.knob, attempt.wanted, was)
        return (Outcome.NOTHING, "it was so already") if so else (Outcome.CHANGED, "")
    if was == has:
        return Outcome.IGNORED, "the kernel took the value and kept the old one"
    return Outcome.CLAMPED, "the kernel made another value of it"


_ERRORS = {
    "EOVERFLOW": "the mask has bits beyond the last CPU",
    "ERANGE": "the list names CPUs beyond the last one, or the value is out of range",
    "ENOENT": "there is no such file or name",
    "EACCES": "there is no such file",
    "EINVAL": "the kernel refuses the value",
    "EIO": "the kernel alone places this interrupt",
    "EPERM": "not permitted",
    "EOPNOTSUPP": "the driver cannot do it",
}


def _failure(attempt: Attempt) -> str:
    meaning = _ERRORS.get(attempt.error or "")
    message = " ".join(attempt.message.split())[:160]
    parts = [f"{attempt.error}{f' ({meaning})' if meaning else ''}"]
    if message:
        parts.append(f"{'message thrown away' if attempt.hidden else 'message'}: {message}")
    elif not (attempt.error or "").startswith("exit"):
        parts.append("nothing was said")
    return "; ".join(parts)


def _inert(knob: str, has: str, after: Mapping[str, str]) -> str:
    """Why a value that took has no effect; empty when it has."""
    entries = after.get("/proc/sys/net/core/rps_sock_flow_entries", "0")
    if knob.endswith("/rps_flow_cnt") and entries == "0" and has not in ("", "0"):
        return "inert while net.core.rps_sock_flow_entries is 0"
    if knob == "/proc/sys/net/core/default_qdisc":
        stale = [
            name
            for name, value in after.items()
            if re.fullmatch(r"tc/[^/]+/(root|:\d+)", name)
            and value.split()[0] not in ("mq", "noqueue", has.strip())
        ]
        if stale:
            names = sorted({name.split("/")[1] for name in stale})
            return f"{', '.join(names)} keeps its disciplines until its root is rebuilt"
    return ""


def _limit_verdict(
    resource: str,
    soft: int,
    error: str | None,
    before: Mapping[str, str],
    after: Mapping[str, str],
    by: str,
) -> KnobVerdict:
    """A limit is inherited from parent to child: the script's ends with the script."""
    knob = f"limit/{resource.removeprefix('RLIMIT_').lower()}"
    was, has, wanted = before.get(knob), after.get(knob), "unlimited" if soft < 0 else str(soft)
    if error is not None:
        return KnobVerdict(knob, Outcome.FAILED, was, wanted, has, error, by)
    if has is not None and has.split()[0] == wanted:
        return KnobVerdict(knob, Outcome.NOTHING, was, wanted, has, "it was so already", by)
    detail = "set for the script's own processes; nothing started later has it"
    return KnobVerdict(knob, Outcome.SHELL_ONLY, was, wanted, has, detail, by)


def _side_effects(
    story: Story, before: Mapping[str, str], after: Mapping[str, str]
) -> Iterator[KnobVerdict]:
    asked = {_one_name(attempt.knob) for attempt in story.attempts if attempt.error is None}
    moved = changes(before, after)
    for knob, (was, has) in moved.items():
        shown_already = _one_name(knob) in asked or (
            _one_name(knob) != knob and _one_name(knob) in moved
        )
        intended = is_part(asked, knob) or (None in (was, has) and comes_or_goes(asked, knob))
        if not (shown_already or intended or is_of_a_module(knob)):
            reason = why_moved(asked, knob) or "no command of the script names it"
            yield KnobVerdict(knob, Outcome.SIDE_EFFECT, was, None, has, reason)


def changes(
    before: Mapping[str, str], after: Mapping[str, str]
) -> dict[str, tuple[str | None, str | None]]:
    """What differs, both values; a knob that came or went has None on one side.

    `before` comes from `_steady`, so a knob that it lacks may be one that never rests; only
    disciplines and queues are known to come anew.
    """
    old, new = comparable(before), comparable(after)
    found: dict[str, tuple[str | None, str | None]] = {}
    for knob in sorted(old.keys() | new.keys()):
        came = knob not in old and not re.match(r"tc/|module/|/sys/class/net/[^/]+/queues/", knob)
        if old.get(knob) != new.get(knob) and not came:
            found[knob] = (old.get(knob), new.get(knob))
    return found


def _one_name(knob: str) -> str:
    """Mask and list of an interrupt are one knob."""
    return re.sub(r"(/proc/irq/.*smp_affinity)_list$", r"\1", canonical(knob))


# --- the script as a whole ---------------------------------------------------------------------


def _touches(story: Story, interface: str) -> Iterator[Finding]:
    groups: dict[tuple[str, str], list[str]] = {}
    for touch in story.touches:
        groups.setdefault((touch.action, touch.by), []).append(touch.object)
    for (action, by), objects in groups.items():
        more = f" and {len(objects) - 1} more" if len(objects) > 1 else ""
        yield Finding(Kind.TOUCHES, f"{action}: {objects[0]}{more} ({by})")
    others: dict[str, list[str]] = {}
    for attempt in story.attempts:
        match = re.match(r"(?:ethtool|tc|/sys/class/net)/([^/]+)/", attempt.knob)
        if match and match[1] != interface and attempt.error is None:
            others.setdefault(match[1], []).append(attempt.knob)
    for name, knobs in others.items():
        yield Finding(
            Kind.TOUCHES, f"interface {name}, not {interface}: {len(set(knobs))} of its settings"
        )


def _not_idempotent(recording: Recording) -> Iterator[Finding]:
    """Compares the last two runs, which stand side by side."""
    runs = [step for step in recording.steps if step.kind == "run"]
    if len(runs) < 2:
        return
    earlier, later = runs[-2:]
    moved = changes(flatten(earlier.after), flatten(later.after))
    for knob, (was, has) in moved.items():
        if _one_name(knob) != knob and _one_name(knob) in moved:
            continue
        yield Finding(Kind.REPEAT, f"{display(knob)}: {was} after one run, {has} after the next")
    if earlier.status != later.status:
        text = f"exit status {earlier.status} of one run, {later.status} of the next"
        yield Finding(Kind.REPEAT, text)
    first, second = (_failures(step) for step in (earlier, later))
    for knob in sorted(second - first):
        yield Finding(Kind.REPEAT, f"{display(knob)}: fails only when the script runs again")


def _failures(step: Step) -> set[str]:
    story = tell(parse(step.trace))
    return {attempt.knob for attempt in story.attempts if attempt.error is not None}


def _not_reversible(recording: Recording, before: Mapping[str, str]) -> Iterator[Finding]:
    for step in recording.steps:
        if step.kind != "undo":
            continue
        for knob, (was, has) in changes(before, flatten(step.after)).items():
            if not is_of_a_module(knob):
                yield Finding(Kind.UNDO, f"{display(knob)}: was {was}, is {has} after the undo")
        if step.status:
            yield Finding(Kind.UNDO, f"the undo script ends with status {step.status}")


def _status(story: Story, step: Step) -> Iterator[Finding]:
    errors = [one.error for one in story.attempts] + [one.error for one in story.limits]
    failed = len(errors) - errors.count(None) + len(story.missing)
    if failed and step.status == 0:
        text = f"0, although {failed} attempt{'s' if failed > 1 else ''} failed"
        yield Finding(Kind.STATUS, text)
    elif step.status and not failed:
        words = " ".join(step.stderr.split())[:200]
        yield Finding(Kind.STATUS, f"{step.status}{f': {words}' if words else ''}")


def _unique(findings: list[Finding]) -> list[Finding]:
    return list(dict.fromkeys(findings))
