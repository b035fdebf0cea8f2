"""Verb `compare`: two runs, or two servers of one run, cell by cell."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import click

from iolab import compare as comparing
from iolab import control, manifest_diff, store, verdict
from iolab.compare import Measured
from iolab.console import emit_json, print_table, say, verdict_table
from iolab.errors import InputError
from iolab.manifest_diff import Difference
from iolab.params import json_option, percent_option
from iolab.paths import find_house
from iolab.report.run import Run, load
from iolab.units import format_percent
from iolab.verdict import Verdict


@dataclass(frozen=True)
class Answer:
    """What `compare` says. `note` is how the comparison was made, in a sentence.

    `untrusted` and `unproven` name runs whose A/A pairs speak against them, or show nothing.
    """

    base: str
    new: str
    note: str
    untrusted: tuple[str, ...]
    differences: tuple[Difference, ...]
    left_out: tuple[str, ...]
    verdicts: tuple[Verdict, ...]
    unproven: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The document of `--json`."""
        return {
            "schema_version": 1,
            "untrusted": list(self.untrusted),
            "unproven": list(self.unproven),
            "base": self.base,
            "new": self.new,
            "note": self.note,
            "differences": [asdict(one) for one in self.differences],
            "left_out": list(self.left_out),
            "verdicts": [one.to_json() for one in self.verdicts],
        }


@click.command()
@click.argument("base")
@click.argument("new")
@click.option(
    "--run", "run_name", metavar="RUN", help="BASE and NEW are servers or cells of this run."
)
@percent_option("--threshold", default="5%", help="The difference that matters.")
@click.option("--cross-host", is_flag=True, help="Compare runs of different hosts nevertheless.")
@json_option()
def compare(
    base: str,
    new: str,
    run_name: str | None,
    threshold: float,
    cross_host: bool,
    as_json: bool,
) -> None:
    """Compare NEW with BASE: what differs around them, then every cell they share.

    BASE and NEW are runs (a directory, a name under results/, or `last`). With --run they are
    servers of that run, as `epoll` and `splice,pipe=1m`, or cells, as `epoll@1KiB`; those were
    measured in the same blocks and are compared in pairs. The verdict on a cell is faster, slower,
    same (any difference is below the threshold) or unclear.
    """
    results = find_house().results
    if run_name is not None:
        answer = inside_run(store.find_run_dir(results, run_name), base, new, threshold)
    else:
        first, second = store.find_run_dir(results, base), store.find_run_dir(results, new)
        answer = between_runs(first, second, threshold, cross_host)
    if as_json:
        emit_json(answer.to_json())
        return
    _show(answer, threshold)


def inside_run(run_dir: Path, base: str, new: str, threshold: float) -> Answer:
    """Two servers, or two cells, of one run."""
    run = load(run_dir)
    found = comparing.inside(_measured(run), base, new)
    note = f"both in run {run.name}: paired, block by block"
    verdicts = tuple(verdict.judge(found, threshold))
    doubts = _untrusted(run, threshold), _unproven(run, threshold)
    return Answer(base, new, note, doubts[0], (), tuple(_open_loops(run)), verdicts, doubts[1])


def between_runs(base_dir: Path, new_dir: Path, threshold: float, cross_host: bool) -> Answer:
    """Two runs; InputError when they are of different hosts and `cross_host` does not allow it."""
    base, new = load(base_dir), load(new_dir)
    hosts = manifest_diff.other_host(base.manifest, new.manifest)
    if hosts and not cross_host:
        lines = "; ".join(f"{one.key}: {one.base} and {one.new}" for one in hosts)
        raise InputError(
            f"{base.name} and {new.name} are of different hosts ({lines})",
            "--cross-host compares them nevertheless: what differs may then be the host",
        )
    moved = _other_yardstick(base, new)
    found = comparing.across(_measured(base), _measured(new), moved)
    note = (
        f"two runs: unpaired, by what each cell was beside {found.baseline} in its own run; "
        "intervals are wider than those of pairs, and what a process has by chance for as long as "
        "it lives is not in them"
    )
    if moved is not None:
        note += f"; {found.baseline} is another one in each ({moved}): nothing can be judged by it"
    left_out = _open_loops(new)
    left_out += [f"{cell}: only in {base.name}" for cell in found.only_base]
    left_out += [f"{cell}: only in {new.name}" for cell in found.only_new]
    return Answer(
        base.name,
        new.name,
        note,
        _untrusted(base, threshold) + _untrusted(new, threshold),
        tuple(manifest_diff.differences(base.manifest, new.manifest)),
        tuple(left_out),
        tuple(verdict.judge(found.comparisons, threshold)),
        _unproven(base, threshold) + _unproven(new, threshold),
    )


def _other_yardstick(base: Run, new: Run) -> str | None:
    """See manifest_diff.other_yardstick.

    A baseline that is a profile stands on the very server that it is compared with: what tuning
    does is a ratio within one build.
    """
    servers = {cell.server.label: cell.server for cell in new.plan.cells}
    server = servers.get(new.plan.baseline)
    if server is None or new.plan.baseline_profile is not None:
        return None
    return manifest_diff.other_yardstick(server, base.manifest, new.manifest)


def _measured(run: Run) -> Measured:
    return Measured(run.name, run.plan, run.samples)


def _open_loops(run: Run) -> list[str]:
    return [
        f"{cell.id}: an open loop has a rate of its own: see its latency in the report"
        for cell in run.plan.cells
        if cell.workload.open_loop and not cell.server.twin
    ]


def _untrusted(run: Run, threshold: float) -> tuple[str, ...]:
    """By the threshold of the comparison, whatever the run was measured for."""
    plan = replace(run.plan, threshold=threshold)
    why = control.untrusted(control.read(plan, run.samples))
    return () if why is None else (f"{run.name}: {why}",)


def _unproven(run: Run, threshold: float) -> tuple[str, ...]:
    """Without a pair that could have shown a difference of `threshold`, none vouches for a run."""
    why = control.lacking(run.plan, run.samples, threshold)
    return () if why is None else (f"{run.name}: {why}",)


def _show(answer: Answer, threshold: float) -> None:
    for line in answer.untrusted:
        click.echo(f"untrusted: {line}")
    if answer.differences:
        click.echo("what differs between the manifests:")
    for one in answer.differences:
        click.echo(f"  {one.group}: {one.key}: {_brief(one.base)} -> {_brief(one.new)}")
    if not answer.differences and answer.base != answer.new:
        click.echo("the manifests differ in nothing that matters")
    for line in answer.left_out:
        say(f"left out: {line}")
    if not answer.verdicts:
        click.echo("no cell is in both")
        return
    title = f"{answer.new} to {answer.base}, threshold {format_percent(threshold)}"
    print_table(verdict_table(title, answer.verdicts))
    click.echo(answer.note)
    for line in answer.unproven:
        click.echo(line)


def _brief(value: Any) -> str:
    text = "none" if value is None else str(value)
    return text if len(text) <= 100 else f"{text[:99]}\N{HORIZONTAL ELLIPSIS}"
