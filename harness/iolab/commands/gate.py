"""Verb `gate`: is a candidate slower than its baseline, on this machine, now?"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from iolab import builds, compare, store
from iolab import gate as gating
from iolab.builds import Build
from iolab.console import as_text, emit_json, print_table, say, verdict_table
from iolab.errors import InputError, IolabError
from iolab.executor import HostExecutor
from iolab.gate import Round
from iolab.gate_pairs import BASE, CANDIDATE, pair_up, with_those_of
from iolab.gate_report import Gate, junit, markdown
from iolab.gate_stored import (
    check_circumstances,
    check_profiles,
    check_trust,
    stored_missing,
    stored_plan,
)
from iolab.lab import Lab, open_lab
from iolab.model import Plan
from iolab.params import budget_option, json_option, percent_option
from iolab.paths import House, find_house
from iolab.report.run import load
from iolab.verdict import Comparison


class CannotTell(IolabError):
    """A gate that failed before it could say anything: neither a pass nor a regression."""

    exit_code = 2


_ONE_STORED_SIDE = (
    "chance in the stored run: both measurements are compared with the same stored slices, so what "
    "was luck there is in both, and measuring again cannot show it"
)


@dataclass(frozen=True)
class Asked:
    """What the command line asks of a gate."""

    baseline: str
    candidate: str
    threshold: float
    matrix: str
    engines: tuple[str, ...]
    budget_s: float | None
    allow_missing: bool = False


@click.command()
@click.option("--baseline", required=True, metavar="REF", help="A commit, or a stored run.")
@click.option("--candidate", default="HEAD", show_default=True, metavar="REF", help="A commit.")
@percent_option("--threshold", default="5%", help="The slowdown that matters.")
@click.option(
    "--matrix", default="gate", show_default=True, help="Workloads, and engines unless given."
)
@click.option(
    "--engine", "engines", multiple=True, metavar="SPEC", help="Engine to compare (repeatable)."
)
@budget_option(help="Time for measuring all of it, at most. [default: 3m for each comparison]")
@click.option(
    "--allow-missing",
    is_flag=True,
    help="Pass although the candidate lacks, or cannot run here, what the baseline runs.",
)
@click.option("--junit", "junit_file", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--markdown", "markdown_file", type=click.Path(path_type=Path, dir_okay=False))
@json_option()
def gate(
    baseline: str,
    candidate: str,
    threshold: float,
    matrix: str,
    engines: tuple[str, ...],
    budget_s: float | None,
    allow_missing: bool,
    junit_file: Path | None,
    markdown_file: Path | None,
    as_json: bool,
) -> None:
    """Build two commits and measure them against each other, in the same blocks.

    No stored number decides. Measuring ends as soon as a slowdown of half the threshold could be
    told; what reads as slower is measured once more with fresh processes. With a directory as
    BASELINE (a run kept in results/baselines/NAME), the candidate is measured beside that run's own
    baseline instead, for hosts quiet enough; it is refused when the host or its set-up differs.

    What the baseline runs and the candidate does not is compared with nothing: that is no pass,
    unless --allow-missing says that it is meant.

    Exit status: 0 no regression, 1 a regression, 2 it cannot be told (or wrong usage).
    """
    asked = Asked(baseline, candidate, threshold, matrix, engines, budget_s, allow_missing)
    for path in filter(None, (junit_file, markdown_file)):
        _may_write(path)
    try:
        done, run_dir = perform(find_house(), asked)
    except InputError:
        raise
    except IolabError as error:
        raise CannotTell(f"cannot tell: {error.message}", error.remedy) from error
    files = {run_dir / "gate.json": as_text(done.to_json())}
    for own, asked_for, text in (
        ("junit.xml", junit_file, junit(done)),
        ("gate.md", markdown_file, markdown(done)),
    ):
        files |= {path: text for path in (run_dir / own, asked_for) if path is not None}
    lost = [path for path, text in files.items() if not _written(path, text)]
    _show(done, as_json)
    say(f"written: {', '.join(str(path) for path in files if path not in lost)}")
    # A regression stays one; a pass that whoever asked for the file never hears of is none.
    raise SystemExit(2 if lost and done.code == 0 else done.code)


def perform(house: House, asked: Asked) -> tuple[Gate, Path]:
    """Builds, measures and decides; the gate, and the directory of its first run."""
    stored = Path(asked.baseline)
    if (stored / store.MANIFEST).is_file():
        return _against_stored(house, asked, stored)
    if stored.is_dir():
        raise InputError(
            f"{stored}: no run (no {store.MANIFEST} in it)",
            "name a commit, or keep a run: cp -r results/RUN results/baselines/NAME",
        )
    made = {BASE: _build(house, asked.baseline), CANDIDATE: _build(house, asked.candidate)}
    with _open(made) as lab:
        matrix = _matrix(lab, asked.matrix)
        missing = pair_up(matrix, lab.offer, asked.engines).missing
        plan = gating.gate_plan(matrix, lab.offer, asked.engines, asked.threshold, asked.budget_s)
        rounds = gating.rounds(lab, plan, asked.threshold, compare.against_references)
    done = _gate(asked, made[BASE], made[CANDIDATE], plan, missing, rounds, house)
    return done, house.results / rounds[0].run


def _matrix(lab: Lab, name: str) -> Plan:
    """The plan of a matrix, with the engines that `engine:*` means to the baseline alone."""
    mine = lab.plan(name)
    try:
        return with_those_of(mine, lab.plan(name, BASE))
    except InputError:  # it names an engine that the baseline has not, which is noted as such
        return mine


def _against_stored(house: House, asked: Asked, directory: Path) -> tuple[Gate, Path]:
    """A candidate beside the baseline of a stored run."""
    stored = load(directory)
    candidate = _build(house, asked.candidate)
    with _open({CANDIDATE: candidate}) as lab:
        check_circumstances(lab, stored)
        check_trust(stored, asked.threshold)
        plan = stored_plan(stored, lab.offer, asked.engines, asked.threshold, asked.budget_s)
        missing = stored_missing(stored, lab.offer, asked.engines)
        kept = compare.Measured(stored.name, stored.plan, stored.samples)

        def compared(run: compare.Measured) -> Sequence[Comparison]:
            return compare.across(kept, run).comparisons

        rounds = gating.rounds(lab, plan, asked.threshold, compared)
    for one in rounds:
        check_profiles(stored, store.read_manifest(house.results / one.run))
    done = _gate(asked, None, candidate, plan, missing, rounds, house)
    return done, house.results / rounds[0].run


def _open(made: Mapping[str, Build]) -> AbstractContextManager[Lab]:
    """The lab with these builds, and what the manifest is to say of them."""
    return open_lab(
        {name: one.binary for name, one in made.items()},
        {name: one.to_json() for name, one in made.items()},
    )


def _build(house: House, ref: str) -> Build:
    with HostExecutor() as executor:
        say(f"building {ref}")
        return builds.build(executor, house, ref)


def _gate(
    asked: Asked,
    base: Build | None,
    candidate: Build,
    plan: Plan,
    missing: Mapping[str, str],
    rounds: Sequence[Round],
    house: House,
) -> Gate:
    lines = {f"{name}: {reason}" for name, reason in missing.items()}
    notes = [note for note in plan.left_out if asked.allow_missing or note not in lines]
    manifest = store.read_manifest(house.results / rounds[0].run)
    host = manifest.get("host") or {}
    described = ", ".join(
        str(part) for part in ((host.get("cpu") or {}).get("model"), host.get("kernel")) if part
    )
    return Gate(
        base=f"stored run {asked.baseline}" if base is None else _named(base),
        candidate=_named(candidate),
        threshold=asked.threshold,
        outcomes=tuple(gating.decide(rounds[0], rounds[1] if len(rounds) > 1 else None)),
        rounds=tuple(rounds),
        missing={} if asked.allow_missing else missing,
        left_out=(
            *notes,
            *_uncommitted(manifest, candidate),
            *_other_flags(manifest.get("builds") or {}),
            *((_ONE_STORED_SIDE,) if base is None else ()),
        ),
        host=described,
        builds=manifest.get("builds") or {},
    )


def _uncommitted(manifest: Mapping[str, Any], candidate: Build) -> tuple[str, ...]:
    """Who changed files and gates HEAD may think that the changes are measured."""
    git = manifest.get("git") or {}
    if not git.get("dirty") or git.get("commit") != candidate.commit:
        return ()
    return ("changes of the tree that are in no commit: what is built is the commit",)


def _other_flags(built: Mapping[str, Mapping[str, Any]]) -> tuple[str, ...]:
    """Flags come from one environment and are the commits' own affair: a part of what is judged."""
    flags = {name: facts.get("cflags") for name, facts in built.items()}
    if len(set(flags.values())) < 2:
        return ()
    words = "; ".join(f"{name}: {said}" for name, said in flags.items())
    return (f"nothing of the builds' flags, which the commits set differently ({words})",)


def _named(build: Build) -> str:
    short = build.commit[:12]
    return short if build.commit.startswith(build.ref) else f"{build.ref} ({short})"


def _may_write(path: Path) -> None:
    """InputError where a file cannot be written: known now, and not after all the measuring."""
    remedy = "name a file that this user may write"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{path}: cannot be written: {error.strerror}", remedy) from error
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        raise InputError(f"{path}: cannot be written", remedy)


def _written(path: Path, text: str) -> bool:
    """Writes a file; False, with a message, where that fails: the verdict is shown all the same."""
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        say(f"{path}: cannot be written: {error.strerror}")
        return False
    return True


def _show(done: Gate, as_json: bool) -> None:
    if as_json:
        emit_json(done.to_json())
        return
    for one in (*done.discarded, *done.rounds):
        if one.doubt is not None:
            click.echo(f"{one.run}: {one.doubt}")
    click.echo(f"gate: {done.headline}")
    titles = ("first measurement", "again, with fresh processes")
    for title, one in zip(titles, done.rounds, strict=False):
        print_table(verdict_table(f"{title} ({one.run}): {one.stop_reason}", one.verdicts))
    for outcome in done.outcomes:
        if outcome.reason:
            click.echo(f"{outcome.final}: {outcome.name}: {outcome.reason}")
    for name, reason in done.missing.items():
        click.echo(f"missing: {name}: {reason}")
    for note in done.left_out:
        click.echo(f"left out: {note}")
