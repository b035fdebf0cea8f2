"""Verb `tune`: plan, apply, verify and revert a profile of host settings."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

import click
from rich.markup import escape
from rich.table import Table

from iolab.console import emit_json, print_table, say
from iolab.errors import InputError, IolabError
from iolab.params import json_option
from iolab.paths import find_house
from iolab.startup import host_of, mind_leftovers
from iolab.trial.verb import validate
from iolab.tuning import bench, journal
from iolab.tuning.bench import Applied, Result
from iolab.tuning.host import Host
from iolab.tuning.leftovers import lost
from iolab.tuning.lock import busy
from iolab.tuning.placement import Side, place
from iolab.tuning.planning import Item, Plan, make_plan, plan_ahead
from iolab.tuning.profile import load_profile, profile_names
from iolab.tuning.restore import Restored
from iolab.tuning.scene import Scene, calling_shell
from iolab.tuning.shell import export
from iolab.tuning.state import journalled, of_root, state_dir

_SCHEMA = 1
FoundT = TypeVar("FoundT")

profile_argument = click.argument("profile")
interface_option = click.option(
    "--interface", metavar="IF", help="The interface; else the profile's, else the default route's."
)
netns_option = click.option(
    "--netns", default="", metavar="NAME", help="Network namespace for the knobs it has of its own."
)
only_option = click.option(
    "--only-netns", is_flag=True, help="Leave out what belongs to the whole host."
)
pid_option = click.option(
    "--limits-of", type=int, metavar="PID", help="Process whose limits are set (default: caller)."
)
dry_option = click.option(
    "--dry-run", is_flag=True, help="Show what would be written; write nothing."
)


@click.group()
@click.option(
    "--auto-revert", is_flag=True, help="First undo what a killed run left applied, unasked."
)
@click.pass_context
def tune(context: click.Context, auto_revert: bool) -> None:
    """Apply a profile of kernel and NIC settings, prove that it took, and undo it exactly."""
    if context.invoked_subcommand not in ("revert", "status"):
        asked = auto_revert or context.find_root().params.get("auto_revert", False)
        mind_leftovers(f"tune {context.invoked_subcommand}", asked)


tune.add_command(validate)


@tune.command()
@profile_argument
@interface_option
@netns_option
@only_option
@pid_option
@click.option(
    "--export",
    "script",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Write a POSIX shell script to FILE and its undo script to FILE.undo.",
)
@json_option()
def plan(
    profile: str,
    interface: str | None,
    netns: str,
    only_netns: bool,
    limits_of: int | None,
    script: Path | None,
    as_json: bool,
) -> None:
    """Show what PROFILE would change, old and new. Exit 1 when something is in the way."""
    loaded = load_profile(find_house().profiles, profile)
    with host_of(state_dir(netns if only_netns else "")) as host:
        scene = _scene(host, interface, netns, only_netns, limits_of)
        made = plan_ahead(loaded, scene)
        sides = place(loaded.profile, scene)
    if script is not None:
        _write_scripts(made, script)
    _show_plan(made, sides, as_json)
    raise SystemExit(1 if made.blockers() else 0)


@tune.command()
@profile_argument
@interface_option
@netns_option
@only_option
@pid_option
@click.option("--partial", is_flag=True, help="Keep what takes, report what does not.")
@dry_option
@json_option()
def apply(
    profile: str,
    interface: str | None,
    netns: str,
    only_netns: bool,
    limits_of: int | None,
    partial: bool,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Apply PROFILE: all of it or, when a knob does not take its value, nothing."""
    loaded = load_profile(find_house().profiles, profile)
    with host_of(state_dir(netns if only_netns else "")) as host:
        scene = _scene(host, interface, netns, only_netns, limits_of)
        if dry_run:
            made = make_plan(loaded, scene)
            _show_plan(made, place(loaded.profile, scene), as_json)
            raise SystemExit(1 if made.blockers() and not partial else 0)
        applied = bench.apply(loaded, scene, partial)
    _show_applied(applied, as_json)
    raise SystemExit(0 if applied.ok else 1)


@tune.command()
@json_option()
def verify(as_json: bool) -> None:
    """Read every knob of what is applied back. Exit 1 when one has drifted."""
    found, failures = _on_each(journalled() or [state_dir()], bench.verify)
    results = [result for each in found for result in each]
    if as_json:
        knobs = [_result_json(one) for one in results]
        emit_json({"schema_version": _SCHEMA, "knobs": knobs, "failures": failures})
    elif results:
        print_table(_result_table(results))
    _say_failures(failures)
    raise SystemExit(0 if not failures and all(result.good for result in results) else 1)


@tune.command()
@click.option("--netns", metavar="NAME", help="Only what was applied with --only-netns to NAME.")
@dry_option
@json_option()
def revert(netns: str | None, dry_run: bool, as_json: bool) -> None:
    """Restore what was applied, exactly and in reverse order, after a crash too."""
    work = bench.preview if dry_run else bench.revert
    found, failures = _on_each(journalled() if netns is None else [state_dir(netns)], work)
    restored = [one for each in found for one in each]
    _show_restored(restored, failures, dry_run, as_json)
    raise SystemExit(1 if failures or any(one.problem for one in restored) else 0)


@tune.command()
@json_option()
def status(as_json: bool) -> None:
    """Say what is applied, and whether its knobs still hold.

    Others than root see what root has applied as well; root alone can read all of its knobs.
    """
    documents, failures = _on_each(journalled(), _status)
    of_others, more = _on_each(of_root(), functools.partial(_status, drift=False))
    documents, failures = documents + of_others, failures + more
    if as_json:
        emit_json({"schema_version": _SCHEMA, "profiles": documents, "failures": failures})
    elif documents or not failures:
        _say_status(documents)
    _say_failures(failures)
    good = all(one["state"] in ("applied", "lost") and not one["drift"] for one in documents)
    raise SystemExit(0 if good and not failures else 1)


@tune.command()
@json_option()
def profiles(as_json: bool) -> None:
    """List the profiles of the tree."""
    room = find_house().profiles
    found = [(name, load_profile(room, name).profile.summary) for name in profile_names(room)]
    if as_json:
        emit_json(
            {
                "schema_version": _SCHEMA,
                "profiles": [{"name": name, "summary": summary} for name, summary in found],
            }
        )
        return
    table = Table("profile", "summary")
    for row in found:
        table.add_row(*row)
    print_table(table)


def _on_each(states: list[Path], work: Callable[[Host], FoundT]) -> tuple[list[FoundT], list[str]]:
    """What `work` finds for each journal, and what was in the way of those where it failed.

    A journal that cannot be read, or whose namespace another iolab is tuning, stops no other.
    """
    found, failures = [], []
    for state in states:
        try:
            with host_of(state) as host:
                found.append(work(host))
        except IolabError as error:
            failures.append(str(error))
    return found, failures


def _say_failures(failures: list[str]) -> None:
    for failure in failures:
        say(f"iolab: {failure}")


def _scene(
    host: Host, interface: str | None, netns: str, only_netns: bool, limits_of: int | None
) -> Scene:
    if only_netns and not netns:
        raise click.UsageError("--only-netns needs --netns NAME")
    pid = limits_of if limits_of is not None else calling_shell(host.tree())
    return Scene(host, interface, netns, only_netns, pid)


def _write_scripts(made: Plan, script: Path) -> None:
    undo_path = script.with_name(f"{script.name}.undo")
    for path, text in zip((script, undo_path), export(made), strict=True):
        try:
            path.write_text(text)
            path.chmod(0o755)
        except OSError as error:
            raise InputError(
                f"--export {path}: {error.strerror}", "name a file that can be written"
            ) from error
    say(f"wrote {script} and {undo_path}")


def _show_plan(made: Plan, sides: dict[str, Side], as_json: bool) -> None:
    bindings = {side: one.command() for side, one in sides.items()}
    if as_json:
        emit_json(
            {
                "schema_version": _SCHEMA,
                "profile": made.profile,
                "applicable": not made.blockers(),
                "knobs": [_item_json(item) for item in made.items],
                "left_out": list(made.left_out),
                "placement": bindings,
            }
        )
        return
    table = Table("knob", "old", "new", "remark")
    for item in made.items:
        new = "" if item.unchanged else item.setting.value
        table.add_row(*_cells(item.setting.target.key, item.original, new, _remark(item)))
    print_table(table)
    if made.changes_channels:
        say("queues change: interrupts, RPS, RFS and XPS are computed anew once they have")
    if made.left_out:
        say(f"left out, they belong to the whole host: {', '.join(made.left_out)}")
    for side, command in bindings.items():
        say(f"{side}: {command}")
    for item in made.blockers():
        say(f"{item.place}: {item.setting.target.key}: {item.problem}")


def _remark(item: Item) -> str:
    if item.unchanged:
        return "is so"
    if item.problem is None:
        return ""
    return f"{'left out' if item.optional else 'in the way'}: {item.problem}"


def _item_json(item: Item) -> dict[str, Any]:
    return {
        "knob": item.setting.target.key,
        "place": item.place,
        "netns": item.setting.target.netns,
        "original": item.original,
        "requested": item.setting.value,
        "unchanged": item.unchanged,
        "optional": item.optional,
        "problem": item.problem,
    }


def _show_applied(applied: Applied, as_json: bool) -> None:
    if as_json:
        emit_json(
            {
                "schema_version": _SCHEMA,
                "profile": applied.profile,
                "state": "applied" if applied.kept else "rolled back",
                "knobs": [_result_json(one) for one in applied.results],
            }
        )
        return
    shown = applied.results if applied.kept else [one for one in applied.results if not one.good]
    print_table(_result_table(shown))
    if not applied.kept:
        say("a knob did not take its value: everything was restored (--partial keeps the rest)")


def _result_json(result: Result) -> dict[str, Any]:
    return {**asdict(result), "ok": result.good}


def _result_table(results: Any) -> Table:
    table = Table("knob", "was", "asked", "has", "outcome", "remark")
    for one in results:
        cells = (one.knob, one.original, one.requested, one.effective, str(one.outcome), one.reason)
        table.add_row(*_cells(*cells))
    return table


def _cells(*texts: str | None) -> list[str]:
    return [escape("-" if text is None else " ".join(text.split())) for text in texts]


def _show_restored(
    restored: list[Restored], failures: list[str], dry_run: bool, as_json: bool
) -> None:
    _say_failures(failures)
    if as_json:
        document = {"dry_run": dry_run, "knobs": list(map(asdict, restored)), "failures": failures}
        emit_json({"schema_version": _SCHEMA, **document})
        return
    if not restored:
        say("nothing to revert" if not failures else "nothing else to revert")
        return
    table = Table("knob", "restored to" if not dry_run else "would be restored to", "remark")
    for one in restored:
        restored_to = None if one.gone or one.problem else one.original
        table.add_row(*_cells(one.knob, restored_to, one.problem or one.gone or one.note))
    print_table(table)


def _status(host: Host, drift: bool = True) -> dict[str, Any]:
    """What is applied by one journal; with `drift`, what of it does not hold any more."""
    found = journal.load(host.state)
    if found is None:  # reverted by somebody else just now
        return _document(host.state, "none")
    why_lost = lost(host, found)
    if why_lost:
        return _document(found.path, "lost", found.profile, why_lost)
    if busy(host.state):
        return _document(found.path, "being changed", found.profile)
    if not found.finished:
        return _document(found.path, "interrupted", found.profile)
    moved = [_result_json(one) for one in bench.verify(host) if not one.good] if drift else []
    return {**_document(found.path, "applied", found.profile), "drift": moved}


def _document(
    place: Path, state: str, profile: str | None = None, reason: str = ""
) -> dict[str, Any]:
    return {
        "state": state, "profile": profile, "reason": reason, "drift": [], "journal": str(place)
    }  # fmt: skip


def _say_status(documents: list[dict[str, Any]]) -> None:
    if not documents:
        click.echo("no profile is applied")
    for document in documents:
        click.echo(f"{document['profile']}: {document['state']} (journal {document['journal']})")
        for one in document["drift"]:
            asked, now = one["requested"], one["effective"]
            click.echo(f"  {one['knob']}: {one['outcome']}: asked {asked}, has {now}")
        if document["state"] == "lost":
            click.echo(f"  {document['reason']}: nothing is left to restore")
        elif document["state"] != "applied":
            click.echo("  iolab tune revert restores what it changed")
