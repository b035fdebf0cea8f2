"""What the gate is held to, and whether drawn gates, whole gates and the harness keep to it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from iolab import overhead
from iolab.overhead import Overhead
from iolab.selftest.model import FAMILY, Rate
from iolab.selftest.resample import Drawn

_LEAST_LOOP_S = 60.0

# From fewer, one session's luck decides: 300 draws from 5 stretches are 5 series seen 60 times.
LEAST_DISJOINT = 20
_LEAST_DRAWS = 200
_LEAST_GATES = 20
_MOST_OUTLASTING = 0.05
"""Share of drawn gates that may go on in another session, and miss what a pair has for life."""

POWER = ((10, 60.0), (5, 180.0))
"""The slowdowns that are to be found, in percent, and the time of measuring a cell for it."""


@dataclass(frozen=True)
class Target:
    """What an instrument is held to. `met` is None where too little was measured to say."""

    name: str
    wanted: str
    found: str
    met: bool | None


def targets(
    drawn: Sequence[Drawn], gates: Sequence[dict[str, Any]], rows: Sequence[dict[str, Any]]
) -> list[Target]:
    """Those of the gate; `rows` are the whole gates by kind: see evaluate.end_to_end."""
    fixed = [one for one in drawn if one.budget_s is None and one.comparisons == 1]
    by_rule = [one for one in drawn if one.budget_s is not None]
    return [
        *_alarms(drawn, fixed, by_rule),
        *(_power(by_rule, percent, seconds) for percent, seconds in POWER),
        _wrong("wrong rather than unclear", fixed, "at every length"),
        _wrong("wrong rather than unclear, by the rule", by_rule, "at every budget"),
        *_without_slowdown(gates),
        *_agreement(rows),
        *_found_by_whole_gates(rows),
    ]


def _alarms(
    drawn: Sequence[Drawn], fixed: Sequence[Drawn], by_rule: Sequence[Drawn]
) -> list[Target]:
    """False alarms: single, by the rule, and in families, by comparison and by gate."""
    families = [one for one in drawn if one.comparisons > 1 and one.percent == 0]
    share = "at most 1% of A/A comparisons after correction"
    return [
        _seldom(
            "false alarms",
            f"{share}, at every length",
            [(one, one.alarms, one.disjoint) for one in fixed if one.percent == 0],
        ),
        _seldom(
            "false alarms, by the rule",
            f"{share}, at every budget",
            [(one, one.alarms, one.disjoint) for one in by_rule if one.percent == 0],
        ),
        _seldom(
            f"false alarms, gates of {FAMILY}",
            f"{share}, at every length",
            [(one, one.alarms, one.disjoint) for one in families],
        ),
        _seldom(
            f"gates of {FAMILY} with a false alarm",
            "at most 1% of gates, at every length",
            [(one, one.alarmed, one.disjoint // one.comparisons) for one in families],
        ),
    ]


def _wrong(name: str, drawn: Sequence[Drawn], where: str) -> Target:
    return _seldom(
        name,
        "at most 1% of comparisons say faster of a slowdown, or same of one beyond the "
        f"threshold, {where}",
        [(one, one.wrong, one.disjoint) for one in drawn if one.percent],
    )


def _seldom(name: str, wanted: str, found: Sequence[tuple[Drawn, Rate, int]]) -> Target:
    """At most 1%, of each kind of gates by itself: pooling would hide one at which it is more.

    `found` has the shares, and on how many stretches without a common block they rest. Missed when
    an interval lies above 1%, met when no share does; between the two it cannot be said. Intervals
    count those stretches, of which draws are no more.
    """
    judged = [
        (one, rate, nr) for one, rate, nr in found if nr >= LEAST_DISJOINT and _sound(one, rate)
    ]
    if not judged:
        return Target(name, wanted, _too_few(found), None)
    one, rate, _ = max(judged, key=lambda each: _fair(each[1], each[2]).interval[0] + each[1].share)
    text = f"{_percent(rate)} {one.label}, the worst of {len(judged)}"
    if any(_fair(each, nr).interval[0] > 0.01 for _, each, nr in judged):
        return Target(name, wanted, text, False)
    return Target(name, wanted, text, True if rate.share <= 0.01 else None)


def _too_few(found: Sequence[tuple[Drawn, Rate, int]]) -> str:
    """Why nothing is judged, with what was found nevertheless."""
    why = (
        f"fewer than {LEAST_DISJOINT} disjoint stretches or {_LEAST_DRAWS} draws each, or more "
        f"than {_MOST_OUTLASTING:.0%} outlast their session"
    )
    if not found:
        return f"none drawn: {why}"
    one, rate, _ = max(found, key=lambda each: each[1].share)
    return f"{_percent(rate)} {one.label}, but {why}"


def _sound(one: Drawn, rate: Rate) -> bool:
    """Whether these draws are enough, and of single pairs of processes, to judge by."""
    return rate.nr >= _LEAST_DRAWS and one.outlasting.share <= _MOST_OUTLASTING


def _fair(rate: Rate, disjoint: int) -> Rate:
    """The share as of as many tries as there are disjoint stretches."""
    nr = min(rate.nr, disjoint)
    return Rate(round(rate.share * nr), nr)


def _power(by_rule: Sequence[Drawn], percent: int, seconds: float) -> Target:
    """Found in 95% of gates that stop as real ones do, within a time of measuring a cell."""
    name, wanted = f"planted {percent}%", f"found in 95% of gates within {seconds:g} s"
    kind = (percent, seconds)
    one = next((each for each in by_rule if (each.percent, each.budget_s) == kind), None)
    if one is None:
        return Target(name, wanted, "none drawn", None)
    text = f"{_percent(one.found)} in {one.seconds:.0f} s, {one.disjoint} disjoint stretches"
    if one.outlasting.hits:
        text += f"; {one.outlasting.share:.0%} outlast their session"
    enough = one.disjoint >= LEAST_DISJOINT and _sound(one, one.found)
    return Target(name, wanted, text, one.found.share >= 0.95 if enough else None)


def _without_slowdown(gates: Sequence[dict[str, Any]]) -> list[Target]:
    false = [g for g in gates if g["percent"] == 0]
    if not false:
        return []
    rate = Rate(sum(g["exit_code"] == 1 for g in false), len(false))
    met = _judge(rate, rate.hits == 0)
    return [Target("whole gates without a slowdown", "none ends with 1", _percent(rate), met)]


def _agreement(rows: Sequence[dict[str, Any]]) -> list[Target]:
    """Whether whole gates do what drawn ones promise: where not, the curves say nothing."""
    found = []
    for row in rows:
        rate = Rate(row["found"]["hits"], row["found"]["nr"])
        text = f"{_percent(rate)}, "
        text += "none drawn" if row["drawn"] is None else f"drawn {row['drawn']['share']:.1%}"
        text += f"; {row['first_s']:.0f} s measured first, {row['total_s']:.0f} s in all"
        if row["drawn_s"] is not None:
            text += f", drawn {row['drawn_s']:.0f} s"
        ok = None if row["agrees"] is None else _judge(rate, row["agrees"])
        name = f"whole gates, planted {row['percent']}%"
        found.append(Target(name, "as often found as by drawn gates", text, ok))
    return found


def _found_by_whole_gates(rows: Sequence[dict[str, Any]]) -> list[Target]:
    """The power of real gates, as far as so few can say."""
    found = []
    for row in rows:
        if (row["percent"], row["budget_s"]) in POWER:
            rate = Rate(row["found"]["hits"], row["found"]["nr"])
            wanted = f"found in 95% of gates within {row['budget_s']:g} s"
            met = _judge(rate, rate.share >= 0.95)
            name = f"planted {row['percent']}%, whole gates"
            found.append(Target(name, wanted, _percent(rate), met))
    return found


def overhead_targets(cost: Overhead) -> list[Target]:
    """What the harness may cost, and whether it does; judged from a minute of measuring on."""
    enough = cost.loop_s >= _LEAST_LOOP_S

    def one(name: str, wanted: str, share: float | None, limit: float) -> Target:
        if share is None:
            return Target(name, wanted, "not recorded", None)
        return Target(name, wanted, f"{share:.2%}", share < limit if enough else None)

    return [
        one(
            "harness outside slices",
            f"under {overhead.OUTSIDE_LIMIT:.0%} of the measuring loop's wall time",
            cost.outside,
            overhead.OUTSIDE_LIMIT,
        ),
        one(
            "harness inside slices",
            f"under {overhead.INSIDE_LIMIT:.0%} of a core",
            cost.inside,
            overhead.INSIDE_LIMIT,
        ),
    ]


def _judge(rate: Rate, ok: bool) -> bool | None:
    return ok if rate.nr >= _LEAST_GATES else None


def _percent(rate: Rate) -> str:
    low, high = rate.interval
    return f"{rate.share:.1%} of {rate.nr} [{low:.1%} to {high:.1%}]"
