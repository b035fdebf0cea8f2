"""The document of a self-test: error rates from what was recorded, with their targets."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from iolab import overhead, stats, store
from iolab.errors import IolabError
from iolab.overhead import Overhead
from iolab.selftest import resample
from iolab.selftest.by_rule import draw_by_rule
from iolab.selftest.model import (
    FAMILY,
    GATE_KEYS,
    GATES,
    KIND,
    PLANTED,
    SCHEMA_VERSION,
    Rate,
    Settings,
)
from iolab.selftest.recordings import Recordings, noise, planted, read_session
from iolab.selftest.resample import Drawn
from iolab.selftest.resume import read_settings
from iolab.selftest.targets import POWER, overhead_targets, targets

# Blocks of drawn gates: enough to see the curve rise, from the fewest that can tell anything.
LENGTHS = (8, 12, 20, 30, 45, 60, 90, 120, 180, 240, 360)

_MOST_BY_RULE = 200
"""Gates drawn to the stopping rule, of each kind: such a draw costs as much as twenty others."""


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
    gates = list(store.read_jsonl(run_dir / GATES, GATE_KEYS))
    stats.preload()
    drawn = draw_all(Recordings(sessions), settings)
    rows = end_to_end(gates, drawn)
    cost = read_overhead(run_dir)
    held = [*targets(drawn, gates, rows), *overhead_targets(cost)]
    return {
        "schema_version": SCHEMA_VERSION,
        "kind": KIND,
        "run": run_dir.resolve().name,
        "short": settings.short,
        "settings": {**asdict(settings), "gates": [list(gate) for gate in settings.gates]},
        "sessions": len(sessions),
        "blocks": [session.blocks for session in sessions],
        "family": FAMILY,
        "noise": noise(sessions),
        "planted": [planted(sessions, percent) for percent in PLANTED],
        "aa": false_alarms(drawn),
        "curves": [_curve_point(one, settings) for one in drawn if one.budget_s is None],
        "by_rule": [_by_rule(one, settings) for one in drawn if one.budget_s is not None],
        "end_to_end": rows,
        "overhead": cost.to_json(),
        "targets": [asdict(target) for target in held],
    }


def read_overhead(run_dir: Path) -> Overhead:
    """What the harness cost in all sessions and whole gates together."""
    total = Overhead()
    for pattern in ("session-*", "gates/*"):
        for path in sorted(run_dir.glob(f"{pattern}/{store.MANIFEST}")):
            manifest = store.read_manifest(path.parent)
            if "outcome" not in manifest:  # one that was interrupted has no end to measure to
                continue
            found = overhead.of_run(store.read_samples(path.parent).samples, manifest)
            if found.loop_s:
                total += found
    return total


def draw_all(recordings: Recordings, settings: Settings) -> list[Drawn]:
    """Every planted slowdown, and none: at every length that sessions have, and by the rule."""
    found: list[Drawn | None] = []
    for comparisons in (1, FAMILY):
        for percent in (0, *PLANTED):
            threshold = settings.threshold_for(percent)
            found += [
                resample.draw(
                    recordings, percent, blocks, threshold, settings.draws, settings.seed,
                    comparisons,
                )
                for blocks in LENGTHS
            ]  # fmt: skip
    for percent, budget_s in dict.fromkeys([*settings.gates, (0, POWER[0][1]), *POWER]):
        threshold, nr = settings.threshold_for(percent), min(settings.draws, _MOST_BY_RULE)
        found.append(draw_by_rule(recordings, percent, budget_s, threshold, nr, settings.seed))
    return [one for one in found if one is not None]


def false_alarms(drawn: Iterable[Drawn]) -> list[dict[str, Any]]:
    """A/A comparisons by length: single ones, those of families, and whole gates."""
    return [
        {
            "comparisons": one.comparisons,
            "blocks": one.blocks,
            "seconds": one.seconds,
            "disjoint": one.disjoint,
            "alarms": one.alarms.to_json(),
            "alarmed": one.alarmed.to_json(),
            "gates": one.found.to_json(),
            "unclear": one.unclear.to_json(),
        }
        for one in drawn
        if one.percent == 0 and one.budget_s is None
    ]


def _curve_point(one: Drawn, settings: Settings) -> dict[str, Any]:
    return {
        "percent": one.percent,
        "comparisons": one.comparisons,
        "threshold": settings.threshold_for(one.percent),
        "blocks": one.blocks,
        "seconds": one.seconds,
        "found": one.found.to_json(),
        "unclear": one.unclear.to_json(),
        "wrong": one.wrong.to_json(),
        "accused": one.accused.to_json(),
    }


def _by_rule(one: Drawn, settings: Settings) -> dict[str, Any]:
    """Gates that were drawn to where a real one ends: see by_rule.py."""
    return {
        "percent": one.percent,
        "budget_s": one.budget_s,
        "threshold": settings.threshold_for(one.percent),
        "blocks": one.blocks,
        "seconds": one.seconds,
        "disjoint": one.disjoint,
        "found": one.found.to_json(),
        "unclear": one.unclear.to_json(),
        "alarms": one.alarms.to_json(),
        "wrong": one.wrong.to_json(),
        "outlasting": one.outlasting.to_json(),
        "unfinished": one.unfinished.to_json(),
    }


def end_to_end(gates: Sequence[dict[str, Any]], drawn: Sequence[Drawn]) -> list[dict[str, Any]]:
    """Whole gates by what was planted, beside drawn ones of that budget, which stop as they do.

    `first_s` is the median time of the first measurement, `total_s` that of all of them: a
    regression takes two. `drawn_s` is that of the drawn ones' first. Whether they agree cannot be
    said where the recordings were not long enough for drawn ones to end.
    """
    found = []
    kinds = dict.fromkeys((int(g["percent"]), float(g["budget_s"])) for g in gates)
    for percent, budget_s in kinds:
        mine = [g for g in gates if (g["percent"], g["budget_s"]) == (percent, budget_s)]
        rate = Rate(sum(g["exit_code"] == 1 for g in mine), len(mine))
        vague = Rate(sum(g["exit_code"] == 2 for g in mine), len(mine))
        like = alike(drawn, percent, budget_s)
        low, high = rate.interval
        agrees = like is not None and low - 1e-9 <= like.found.share <= high + 1e-9
        found.append(
            {
                "percent": percent,
                "budget_s": budget_s,
                "first_s": float(np.median([g["first_s"] for g in mine])),
                "total_s": float(np.median([g["measured_s"] for g in mine])),
                "found": rate.to_json(),
                "unclear": vague.to_json(),
                "drawn": None if like is None else like.found.to_json(),
                "drawn_unclear": None if like is None else like.unclear.to_json(),
                "drawn_s": None if like is None else like.seconds,
                "agrees": None if like is None or like.unfinished.hits else agrees,
            }
        )
    return found


def alike(drawn: Iterable[Drawn], percent: int, budget_s: float) -> Drawn | None:
    """The drawn gates of that slowdown that stop as whole ones of that budget do, None for none."""
    kind = (percent, budget_s)
    return next((one for one in drawn if (one.percent, one.budget_s) == kind), None)
