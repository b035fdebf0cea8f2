"""A script on trial, measured: cells with and without what it sets, in the same blocks.

Each side has a pair of namespaces of its own; the server's namespace of one of them gets the
script's knobs as a profile. The host itself, its devices and its modules are not touched, and the
script is not run on it. What both sides show is a difference on veth, not on a NIC.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from iolab import compare, gate, verdict
from iolab.errors import InputError
from iolab.gate import CellOutcome, Final, Round
from iolab.lab import Lab
from iolab.model import NO_PROFILE, Cell, Plan
from iolab.store import read_manifest
from iolab.testbed.netns import Netns, open_netns
from iolab.trial.namespace import unfit, untaken
from iolab.trial.recording import Recording
from iolab.trial.transfer import Machine, Part, Transfer, guest_machine, transfer
from iolab.trial.values import flatten
from iolab.trial.verdict import Verdict
from iolab.tuning.host import Host
from iolab.tuning.scene import Scene
from iolab.tuning.state import state_dir

NAME = "script"
"""The profile's name in cells, reports and messages, and that of the run."""

LABEL = (
    "measured between two namespaces of this host, joined by a veth pair: it says nothing about a "
    "NIC, and the script itself was not run here"
)


@dataclass(frozen=True)
class Asked:
    """What the command line asks for. A precision of None is half the threshold, as for gates."""

    matrix: str
    threshold: float = verdict.THRESHOLD
    budget_s: float | None = None
    precision: float | None = None
    dry_run: bool = False


@dataclass(frozen=True)
class Measurement:
    """What a script does to speed. Without `rounds`, nothing was measured: `why_not` says why."""

    parts: tuple[Part, ...]
    cells: tuple[str, ...]
    budget_s: float
    left_out: tuple[str, ...] = ()
    rounds: tuple[Round, ...] = ()
    outcomes: tuple[CellOutcome, ...] = ()
    why_not: str = ""
    report: str | None = None

    @property
    def findings(self) -> list[CellOutcome]:
        """Cells that the script slows down, or breaks, in two measurements with fresh processes."""
        return [one for one in self.outcomes if one.final is Final.REGRESSION]

    def to_json(self) -> dict[str, Any]:
        """For machines."""
        return {
            "label": LABEL,
            "knobs": [
                {
                    "knob": one.knob, "value": one.value, "key": one.key,
                    "takes_part": one.key is not None, "reason": one.reason,
                }
                for one in self.parts
            ],
            "cells": list(self.cells),
            "budget_s": self.budget_s,
            "left_out": list(self.left_out),
            "why_not": self.why_not or None,
            "runs": [one.run for one in self.rounds],
            "untrusted": [one.untrusted for one in self.rounds],
            "stop_reasons": [one.stop_reason for one in self.rounds],
            "report": self.report,
            "verdicts": [_outcome_json(one) for one in self.outcomes],
        }  # fmt: skip


def _outcome_json(one: CellOutcome) -> dict[str, Any]:
    return {
        "cell": one.name,
        "finding": one.final is Final.REGRESSION,
        "reason": one.reason,
        "first": one.first.to_json(),
        "again": one.again.to_json() if one.again is not None else None,
    }


def script_plan(plan: Plan, asked: Asked) -> Plan:
    """The closed-loop cells of a matrix, on namespaces, as they are and under the script's knobs.

    InputError for a matrix that cannot be meant.
    """
    if plan.role == "copy":
        raise InputError(
            f"--measure {asked.matrix}: role copy has no network that a script could tune",
            "name a matrix of role file, relay or forward",
        )
    if plan.baseline_profile is not None:
        raise InputError(
            f"--measure {asked.matrix}: its [profiles] would stand beside the script's knobs",
            "name a matrix without [profiles]",
        )
    cells: dict[str, Cell] = {}
    notes = list(plan.left_out)
    for cell in plan.cells:
        if cell.workload.open_loop:
            notes.append(f"{cell.id}: an open loop, whose rate is given")
        elif cell.server.unsupported is None:
            for profile in (NO_PROFILE, NAME):
                placed = replace(cell, profile=profile, testbed="netns")
                cells[placed.id] = placed
    if not cells:
        raise InputError(f"--measure {asked.matrix}: no cell of it can be measured here")
    planned = replace(
        plan,
        name=NAME,
        summary="What a tuning script sets in a network namespace, against the kernel's own values",
        cells=tuple(cells.values()),
        testbed="netns",
        baseline_profile=NO_PROFILE,
        partial=True,
        grid=False,
        wrk_check=False,
        syscall_check=False,
        left_out=tuple(dict.fromkeys(notes)),
    )
    planned = gate.plan_to(planned, asked.threshold, asked.budget_s)
    return planned if asked.precision is None else replace(planned, precision=asked.precision)


def measure(
    lab: Lab, plan: Plan, recording: Recording, judged: Verdict, asked: Asked
) -> Measurement:
    """Measures what a trial's knobs do on namespaces; `plan` is that of `script_plan`.

    IolabError where there can be no namespaces, or nothing can be measured.
    """
    with open_netns(lab.executor) as bed, _scene(lab, bed) as scene:
        moved = _moved(recording, judged, scene)
        moved = moved.without(unfit(moved, scene))
        moved = moved.without(untaken(moved, scene))
    cells = tuple(cell.id for cell in plan.cells)
    planned = Measurement(moved.parts, cells, plan.budget_s, plan.left_out)
    if not moved.keys:
        return replace(planned, why_not="no knob of the script makes a difference in a namespace")
    if asked.dry_run:
        return replace(planned, why_not="--dry-run")
    given = replace(lab, given={NAME: moved.loaded(NAME, "what a script on trial sets")})
    noted = replace(plan, left_out=(*plan.left_out, *_notes(moved.parts)))
    rounds = gate.rounds(given, noted, asked.threshold, compare.against_references)
    first, again = rounds[0], rounds[1] if len(rounds) > 1 else None
    run_dir = lab.house.results / first.run
    return replace(
        planned,
        parts=tuple(_as_applied(moved.parts, read_manifest(run_dir))),
        rounds=tuple(rounds),
        outcomes=tuple(gate.decide(first, again)),
        report=_report(run_dir),
    )


@contextlib.contextmanager
def _scene(lab: Lab, bed: Netns) -> Iterator[Scene]:
    """The server's side of a testbed, for plans: nothing else of the host can be meant."""
    name = bed.namespace("server")
    host = Host(lab.executor, state=state_dir(name))
    try:
        yield Scene(host, bed.device("server"), name, only_netns=True)
    finally:
        host.close()


def _moved(recording: Recording, judged: Verdict, scene: Scene) -> Transfer:
    """What of the trial is for this host's testbed, by the state in which it left the guest."""
    interface = recording.interface
    guest = guest_machine(flatten(recording.first.after), interface)
    nic = scene.nic(None, "--measure")
    here = Machine(scene.topology.online, len(nic.rx), len(nic.tx))
    return transfer(judged, interface, guest, here, nic.name)


def _notes(parts: Sequence[Part]) -> list[str]:
    """For manifest and report: what of the script is not in the numbers."""
    return [f"{one.knob}: {one.reason}" for one in parts if one.key is None]


def _as_applied(parts: Sequence[Part], manifest: Mapping[str, Any]) -> Iterator[Part]:
    """The parts with what the namespace made of them, where that is not what was asked for."""
    said = {
        one["key"]: f"{one['outcome']}: {one['reason'] or one['effective']}"
        for profile in manifest.get("profiles") or []
        for one in profile["knobs"]
        if one["outcome"] != "exact"
    }
    for one in parts:
        yield replace(one, reason=said[one.key]) if one.key in said else one


def _report(run_dir: Path) -> str | None:
    from iolab.report import try_report  # slow to load

    return try_report(run_dir)
