"""Error rates from a recorded self-test, with the targets they are held to."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from iolab import overhead, stats, store
from iolab.errors import IolabError
from iolab.matrix import plan_from_json
from iolab.model import Cell, Plan
from iolab.overhead import Overhead
from iolab.selftest import resample
from iolab.selftest.model import (
    GATE_KEYS,
    GATES,
    KIND,
    PLANTED,
    SCHEMA_VERSION,
    Rate,
    Session,
    Settings,
)
from iolab.selftest.resample import Drawn
from iolab.selftest.resume import read_settings

# Blocks of drawn gates: enough to see the curve rise, from the fewest that can tell anything.
LENGTHS = (8, 12, 20, 30, 45, 60, 90, 120, 180, 240, 360)

_LEAST_LOOP_S = 60.0

# From fewer, one session's luck decides: 300 draws from 5 stretches are 5 series seen 60 times.
LEAST_DISJOINT = 20
_LEAST_DRAWS = 200


@dataclass(frozen=True)
class Target:
    """What an instrument is held to. `met` is None where too little was measured to say."""

    name: str
    wanted: str
    found: str
    met: bool | None


def read_session(run_dir: Path) -> Session | None:
    """A recorded session, None when it holds no finished block of all its servers."""
    manifest = store.read_manifest(run_dir)
    plan = plan_from_json(manifest["plan"], str(run_dir / store.MANIFEST))
    stored = store.read_samples(run_dir)
    base = next(cell for cell in plan.cells if cell.server.label == plan.baseline)
    others = [cell for cell in plan.cells if cell is not base]
    logs = stats.cell_logs(plan, stored.samples, [(base, cell) for cell in others])
    if not logs or min(map(len, logs)) == 0:
        return None
    wall_s = sum(int(block.get("wall_ns", 0)) for block in stored.blocks) / 1e9
    slices = sum(int(block.get("slices", 0)) for block in stored.blocks)
    by_cell = dict(zip(others, map(np.asarray, logs), strict=True))
    return Session(
        twin=by_cell[_twin(plan)],
        planted={
            cell.server.handicap_percent: found
            for cell, found in by_cell.items()
            if cell.server.handicap_percent
        },
        second_per_slice=wall_s / max(1, slices),
    )


def _twin(plan: Plan) -> Cell:
    return next(cell for cell in plan.cells if cell.server.twin)


def evaluate(run_dir: Path) -> dict[str, Any]:
    """The document of selftest.json from what was recorded; the same files give the same numbers.

    IolabError when fewer than two sessions are whole.
    """
    manifest = store.read_manifest(run_dir)
    settings = read_settings(manifest, run_dir / store.MANIFEST)
    sessions = [
        session
        for directory in sorted(run_dir.glob(f"session-*/{store.MANIFEST}"))
        if (session := read_session(directory.parent)) is not None
    ]
    if len(sessions) < 2:
        raise IolabError(
            f"{run_dir}: {len(sessions)} whole sessions, two at least are needed",
            "./iolab selftest records anew",
        )
    drawn = draw_all(sessions, settings)
    gates = list(store.read_jsonl(run_dir / GATES, GATE_KEYS))
    cost = read_overhead(run_dir)
    return {
        "schema_version": SCHEMA_VERSION,
        "kind": KIND,
        "run": run_dir.resolve().name,
        "short": settings.short,
        "settings": {**asdict(settings), "gates": [list(gate) for gate in settings.gates]},
        "sessions": len(sessions),
        "blocks": [session.blocks for session in sessions],
        "noise": noise(sessions),
        "planted": [planted(sessions, percent) for percent in PLANTED],
        "aa": false_alarms(drawn),
        "curves": [_curve_point(one, settings) for one in drawn],
        "end_to_end": end_to_end(gates, drawn),
        "overhead": cost.to_json(),
        "targets": [asdict(target) for target in (*targets(drawn, gates), *overhead_targets(cost))],
    }


def read_overhead(run_dir: Path) -> Overhead:
    """What the harness cost in all sessions and whole gates together."""
    total = Overhead()
    for pattern in ("session-*", "gates/*"):
        for path in sorted(run_dir.glob(f"{pattern}/{store.MANIFEST}")):
            samples = store.read_samples(path.parent).samples
            found = overhead.of_run(samples, store.read_manifest(path.parent))
            if found.loop_s:  # one that was interrupted has no end to measure to
                total += found
    return total


def draw_all(sessions: Sequence[Session], settings: Settings) -> list[Drawn]:
    """Every planted slowdown, and none, at every length that the sessions have."""
    found = []
    for percent in (0, *PLANTED):
        for blocks in LENGTHS:
            threshold = settings.threshold_for(percent)
            one = resample.draw(sessions, percent, blocks, threshold, settings.draws, settings.seed)
            if one is not None:
                found.append(one)
    return found


def noise(sessions: Sequence[Session]) -> dict[str, float]:
    """How noisy the A/A pairs are, block by block: spread, correlation, and by process.

    `between_sessions` is the spread of the sessions' medians: what processes have by chance and
    no number of blocks takes away.
    """
    medians = [float(np.median(one.twin)) for one in sessions]
    return {
        "block_spread": float(np.median([1.4826 * _mad(one.twin) for one in sessions])),
        "correlation": float(np.median([stats.lag1(one.twin) for one in sessions])),
        "between_sessions": float(np.std(medians, ddof=1)) if len(medians) > 1 else 0.0,
    }


def _mad(values: Any) -> float:
    return float(np.median(np.abs(values - np.median(values))))


def planted(sessions: Sequence[Session], percent: int) -> dict[str, float]:
    """What a handicap amounts to in the rate here, beside what it would at full CPU load."""
    medians = [float(np.median(one.planted[percent])) for one in sessions]
    return {
        "percent": percent,
        "expected_ratio": 1 / (1 + percent / 100),
        "measured_ratio": math.exp(float(np.median(medians))),
    }


def false_alarms(drawn: Iterable[Drawn]) -> list[dict[str, Any]]:
    """A/A comparisons by length: single ones, and whole gates."""
    return [
        {
            "blocks": one.blocks,
            "seconds": one.seconds,
            "disjoint": one.disjoint,
            "alarms": one.alarms.to_json(),
            "gates": one.found.to_json(),
            "unclear": one.unclear.to_json(),
        }
        for one in drawn
        if one.percent == 0
    ]


def _curve_point(one: Drawn, settings: Settings) -> dict[str, Any]:
    return {
        "percent": one.percent,
        "threshold": settings.threshold_for(one.percent),
        "blocks": one.blocks,
        "seconds": one.seconds,
        "found": one.found.to_json(),
        "unclear": one.unclear.to_json(),
        "wrong": one.wrong.to_json(),
    }


def end_to_end(gates: Sequence[dict[str, Any]], drawn: Sequence[Drawn]) -> list[dict[str, Any]]:
    """Whole gates by what was planted, beside what drawing says for the time they took.

    `first_s` is the median time of the first measurement, `total_s` that of all of them: a
    regression takes two.
    """
    found = []
    kinds = dict.fromkeys((int(g["percent"]), float(g["budget_s"])) for g in gates)
    for percent, budget_s in kinds:
        mine = [g for g in gates if (g["percent"], g["budget_s"]) == (percent, budget_s)]
        rate = Rate(sum(g["exit_code"] == 1 for g in mine), len(mine))
        vague = Rate(sum(g["exit_code"] == 2 for g in mine), len(mine))
        seconds = float(np.median([g["first_s"] for g in mine]))
        near = at_seconds(drawn, percent, seconds)
        low, high = rate.interval
        agrees = None if near is None else low - 1e-9 <= near.found.share <= high + 1e-9
        found.append(
            {
                "percent": percent,
                "budget_s": budget_s,
                "first_s": seconds,
                "total_s": float(np.median([g["measured_s"] for g in mine])),
                "found": rate.to_json(),
                "unclear": vague.to_json(),
                "drawn": None if near is None else near.found.to_json(),
                "agrees": agrees,
            }
        )
    return found


def at_seconds(drawn: Iterable[Drawn], percent: int, seconds: float) -> Drawn | None:
    """The longest drawn gates of that slowdown that end within `seconds`, None for none."""
    fitting = [one for one in drawn if one.percent == percent and one.seconds <= seconds]
    return max(fitting, key=lambda one: one.blocks, default=None)


def targets(drawn: Sequence[Drawn], gates: Sequence[dict[str, Any]]) -> list[Target]:
    """What the gate is held to, and whether it is."""
    found = [
        _seldom(
            "false alarms",
            "at most 1% of A/A comparisons after correction, at every length",
            [(one, one.alarms) for one in drawn if one.percent == 0],
        ),
        _power(drawn, 10, 60.0),
        _power(drawn, 5, 180.0),
        _seldom(
            "wrong rather than unclear",
            "at most 1% of comparisons say faster of a slowdown, or same of one beyond the "
            "threshold, at every length",
            [(one, one.wrong) for one in drawn if one.percent],
        ),
    ]
    false = [g for g in gates if g["percent"] == 0]
    if false:
        rate = Rate(sum(g["exit_code"] == 1 for g in false), len(false))
        ok = _judge(rate, 20, rate.hits == 0)
        found.append(
            Target("whole gates without a slowdown", "none ends with 1", _percent(rate), ok)
        )
    return [*found, *_agreement(gates, drawn)]


def _agreement(gates: Sequence[dict[str, Any]], drawn: Sequence[Drawn]) -> list[Target]:
    """Whether whole gates do what drawn ones promise: where not, the curves say nothing."""
    found = []
    for row in end_to_end(gates, drawn):
        rate = Rate(row["found"]["hits"], row["found"]["nr"])
        text = f"{_percent(rate)}, "
        text += "none drawn" if row["drawn"] is None else f"drawn {row['drawn']['share']:.1%}"
        text += f"; {row['first_s']:.0f} s measured first, {row['total_s']:.0f} s in all"
        ok = None if row["agrees"] is None else _judge(rate, 20, row["agrees"])
        name = f"whole gates, planted {row['percent']}%"
        found.append(Target(name, "as often found as by drawn gates", text, ok))
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


def _seldom(name: str, wanted: str, found: Sequence[tuple[Drawn, Rate]]) -> Target:
    """At most 1%, at each length by itself: pooling would hide a length at which it is more.

    Missed when the interval of a length lies above 1%, met when no share does; between the two
    it cannot be said. Intervals count disjoint stretches, of which draws are no more.
    """
    judged = [(one, rate) for one, rate in found if _enough(one, rate)]
    if not judged:
        return Target(name, wanted, f"fewer than {LEAST_DISJOINT} disjoint stretches or "
                      f"{_LEAST_DRAWS} draws at every length", None)  # fmt: skip
    one, rate = max(judged, key=lambda each: _fair(*each).interval[0] + each[1].share)
    text = f"{_percent(rate)} at {one.blocks} blocks, the worst of {len(judged)}"
    if any(_fair(*each).interval[0] > 0.01 for each in judged):
        return Target(name, wanted, text, False)
    return Target(name, wanted, text, True if rate.share <= 0.01 else None)


def _enough(one: Drawn, rate: Rate) -> bool:
    return rate.nr >= _LEAST_DRAWS and one.disjoint >= LEAST_DISJOINT


def _fair(one: Drawn, rate: Rate) -> Rate:
    """The share as of as many tries as there are disjoint stretches."""
    nr = min(rate.nr, one.disjoint)
    return Rate(round(rate.share * nr), nr)


def _power(drawn: Sequence[Drawn], percent: int, seconds: float) -> Target:
    """Found in 95% of gates within a time of measuring a cell."""
    wanted = f"found in 95% of gates within {seconds:g} s"
    near = at_seconds(drawn, percent, seconds)
    if near is None:
        return Target(f"planted {percent}%", wanted, "no session is long enough", None)
    text = f"{_percent(near.found)} at {near.seconds:.0f} s, {near.disjoint} disjoint stretches"
    met = near.found.share >= 0.95 if _enough(near, near.found) else None
    return Target(f"planted {percent}%", wanted, text, met)


def _judge(rate: Rate, least: int, ok: bool) -> bool | None:
    return ok if rate.nr >= least else None


def _percent(rate: Rate) -> str:
    low, high = rate.interval
    return f"{rate.share:.1%} of {rate.nr} [{low:.1%} to {high:.1%}]"
