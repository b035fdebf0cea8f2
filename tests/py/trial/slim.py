"""Cuts a recording down to what judging it needs, so that it can stand beside the tests.

Snapshots after the first hold what differs from it only; `unpack` makes a recording of it again.

`python -m slim RECORDING... DIRECTORY` takes what `iolab tune validate --keep` has left. Kept are
the traces, every file that differs between snapshots or that a trace names, and what describes the
machine; dropped are some two thousand settings that nobody touched.
"""

from __future__ import annotations

import json
import re
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from iolab.trial.recording import Recording, Snapshot, Step, recording_of
from iolab.trial.story import tell
from iolab.trial.trace import parse
from iolab.trial.values import comparable

_MACHINE = re.compile(
    r"/proc/(interrupts|self/limits)|/sys/devices/system/(cpu/(possible|online)|node/node\d+/cpulist)"
    r"|/sys/class/net/[^/]+/(mtu|.*numa_node|queues/.*/(rps_cpus|xps_cpus))"
)
_BORING = re.compile(
    r"^\d+ +(<\.\.\. )?(exit_group|wait4|write\(\d+<pipe|prlimit64.*NULL, \{|getrlimit)"
)


def slim(recording: Recording) -> Recording:
    """The recording without what no verdict depends on."""
    snapshots = [*recording.before, *(step.after for step in recording.steps)]
    keep = _named(recording) | _moving(snapshots)
    first, second = (_cut(snapshot, keep) for snapshot in recording.before)
    counters = {"/proc/interrupts": second.files["/proc/interrupts"]}  # only their names matter
    first.files.update(counters)
    steps = tuple(_slim_step(step, keep) for step in recording.steps)
    for step in steps:
        step.after.files.update(counters)
    return replace(recording, before=(first, second), steps=steps)


def pack(recording: Recording) -> dict[str, Any]:
    """The recording as a document in which every trace is a list of lines."""
    base = recording.before[0]
    return {
        "interface": recording.interface,
        "base": asdict(base),
        "before": _delta(base, recording.before[1]),
        "steps": [
            {**asdict(step), "trace": step.trace.splitlines(), "after": _delta(base, step.after)}
            for step in recording.steps
        ],
    }


def unpack(document: dict[str, Any]) -> Recording:
    """The recording that `pack` was given."""
    base = Snapshot(**document["base"])
    steps = (
        Step(**{**one, "trace": "\n".join(one["trace"]), "after": _applied(base, one["after"])})
        for one in document["steps"]
    )
    before = (base, _applied(base, document["before"]))
    return Recording(document["interface"], before, tuple(steps))


def _delta(base: Snapshot, other: Snapshot) -> dict[str, dict[str, str | None]]:
    """What differs, by part of a snapshot; None for what is gone."""
    old, new = asdict(base), asdict(other)
    return {
        part: {
            name: new[part].get(name)
            for name in old[part] | new[part]
            if old[part].get(name) != new[part].get(name)
        }
        for part in old
    }


def _applied(base: Snapshot, delta: dict[str, dict[str, str | None]]) -> Snapshot:
    merged = {
        part: {name: value for name, value in {**old, **delta[part]}.items() if value is not None}
        for part, old in asdict(base).items()
    }
    return Snapshot(**merged)


def _slim_step(step: Step, keep: set[str]) -> Step:
    lines = [line for line in step.trace.splitlines() if not _BORING.match(line)]
    return replace(step, trace="\n".join(lines), after=_cut(step.after, keep))


def _named(recording: Recording) -> set[str]:
    return {
        attempt.knob for step in recording.steps for attempt in tell(parse(step.trace)).attempts
    }


def _moving(snapshots: list[Snapshot]) -> set[str]:
    return {
        name
        for name in comparable(snapshots[0].files)
        if len({snapshot.files.get(name) for snapshot in snapshots}) > 1
    }


def _cut(snapshot: Snapshot, keep: set[str]) -> Snapshot:
    files = {k: v for k, v in snapshot.files.items() if k in keep or _MACHINE.fullmatch(k)}
    outputs = {k: v for k, v in snapshot.outputs.items() if not k.startswith("ethtool -k")}
    outputs = {k: v for k, v in outputs.items() if "eth1" not in k or k.startswith("tc ")}
    return Snapshot(files, outputs)


if __name__ == "__main__":
    *sources, target = map(Path, sys.argv[1:])
    for source in sources:
        document = pack(slim(recording_of(source.read_text())))
        (target / source.name).write_text(json.dumps(document, indent=1) + "\n")
