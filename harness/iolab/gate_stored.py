"""A gate against a run that was kept: for hosts quiet and constant enough to allow it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

from iolab import control, manifest_diff
from iolab.campaign import circumstances
from iolab.errors import InputError
from iolab.gate import plan_to
from iolab.gate_pairs import CANDIDATE, of_build
from iolab.lab import Lab
from iolab.manifest_diff import Difference
from iolab.model import Cell, Plan
from iolab.report.run import Run
from iolab.specs import Offer
from iolab.units import format_percent

_FREE = ("commit", "measuring")  # the commit is what is judged; the rest is taken from the run
_TUNING = "tuning"


def check_circumstances(lab: Lab, stored: Run) -> None:
    """InputError with every difference between the stored run's circumstances and those of now.

    What its profiles become is not among them: that is known once they are applied.
    """
    now = circumstances(lab, stored.plan, lab.described_builds[CANDIDATE])
    found = manifest_diff.differences(stored.manifest, now)
    _refuse(stored, [one for one in found if one.group not in (*_FREE, _TUNING)])


def check_profiles(stored: Run, manifest: Mapping[str, Any]) -> None:
    """InputError when the profiles of a run beside the stored one did not become what they were.

    Those that only the stored run has are not missed: no cell of the candidate needs them.
    """
    found = manifest_diff.differences(stored.manifest, manifest)
    _refuse(stored, [one for one in found if one.group == _TUNING and one.new is not None])


def check_trust(stored: Run, threshold: float) -> None:
    """InputError when a stored run's own A/A pairs speak against it, or show nothing.

    It is half of every comparison: what sets its baseline apart from itself sets the candidate
    apart from it. Its pairs must have been able to show a difference of `threshold`, as a gate's.
    """
    plan, samples = stored.plan, stored.samples
    why = control.untrusted(control.read(replace(plan, threshold=threshold), samples))
    why = control.lacking(plan, samples, threshold) if why is None else f"untrusted: {why}"
    if why is not None:
        raise InputError(
            f"{stored.path}: its ratios decide nothing: {why}",
            f"measure it anew, longer: ./iolab run {plan.name} --precision "
            f"{format_percent(threshold / 2)} --budget 2h; or compare two commits",
        )


def _refuse(stored: Run, found: Sequence[Difference]) -> None:
    if not found:
        return
    lines = "\n".join(f"  {one.group}: {one.key}: {one.base} -> {one.new}" for one in found)
    raise InputError(
        f"{stored.path}: measured under other circumstances, so that its ratios decide nothing:\n"
        f"{lines}",
        "compare two commits on this machine: --baseline COMMIT",
    )


def stored_plan(
    stored: Run,
    offer: Offer,
    engines: Sequence[str],
    threshold: float,
    budget_s: float | None,
) -> Plan:
    """The stored run's plan with the candidate's engines beside the same baseline.

    The baseline must be a peer: an engine would be the candidate's, and a slowdown of the skeleton
    would slow both and cancel. InputError then, and for engines that the run has not.
    """
    plan = stored.plan
    base = next((cell.server for cell in plan.cells if cell.server.label == plan.baseline), None)
    if base is None or base.kind != "peer":
        raise InputError(
            f"{stored.path}: its baseline {plan.baseline} is an engine: what slows it down as well "
            "would go unseen",
            "keep a run whose baseline is a peer, such as nginx",
        )
    wanted = {spec.removeprefix("engine:") for spec in engines}
    known = {cell.server.argument for cell in plan.cells if cell.server.kind == "engine"}
    if wanted - known:
        raise InputError(
            f"{stored.path}: no engine {', '.join(sorted(wanted - known))} in it; it has "
            f"{', '.join(sorted(known))}"
        )
    cells, missing = _candidates(stored, offer, wanted)
    lines = tuple(f"{name}: {reason}" for name, reason in missing.items())
    if not cells:
        why = "; ".join(lines) or "the run has no engine"
        raise InputError(f"{stored.path}: nothing to compare: {why}")
    beside = [cell for cell in plan.cells if cell.server == base]
    kept = replace(
        plan, name="gate", cells=(*beside, *cells), grid=False, wrk_check=False, left_out=lines
    )
    return plan_to(kept, threshold, budget_s)


def stored_missing(stored: Run, offer: Offer, engines: Sequence[str]) -> Mapping[str, str]:
    """The cells that the stored run measured and the candidate cannot run here, with the reason."""
    wanted = {spec.removeprefix("engine:") for spec in engines}
    return _candidates(stored, offer, wanted)[1]


def _candidates(
    stored: Run, offer: Offer, wanted: Collection[str]
) -> tuple[list[Cell], dict[str, str]]:
    """The candidate's cells for those of the run that are wanted (all when empty), and the rest."""
    cells: list[Cell] = []
    missing: dict[str, str] = {}
    for cell in stored.plan.cells:
        server = cell.server
        if server.kind != "engine" or server.twin or server.unsupported is not None:
            continue
        if wanted and server.argument not in wanted:
            continue
        found = of_build(server, CANDIDATE, offer, stored.plan)
        if isinstance(found, str):
            missing[cell.id] = f"the stored run has it and the candidate does not: {found}"
        else:
            cells.append(replace(cell, server=found))
    return cells, missing
