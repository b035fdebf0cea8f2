"""What each verb minds before it begins: profiles that killed runs left applied."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from iolab.console import say
from iolab.errors import IolabError
from iolab.executor import HostExecutor
from iolab.tuning import bench, journal
from iolab.tuning.host import Host
from iolab.tuning.journal import holder_of
from iolab.tuning.leftovers import leftover
from iolab.tuning.state import journalled


@contextmanager
def host_of(state: Path) -> Iterator[Host]:
    """This machine with a state directory; leaves its namespaces at the end."""
    with HostExecutor() as executor:
        host = Host(executor, state=state)
        try:
            yield host
        finally:
            host.close()


def announce() -> None:
    """Says so when a killed run left this host changed: it would be measured like that."""
    for state in journalled():
        left = _leftover(state)
        if left is not None:
            say(f"iolab: {left}")


def offer_to_revert(auto_revert: bool) -> None:
    """What a killed run left applied is undone when `auto_revert` says so, offered on a terminal.

    IolabError when not everything could be restored.
    """
    for state in journalled():
        left = _leftover(state)
        if left is None:
            continue
        say(left)
        asked = sys.stdin.isatty() and sys.stderr.isatty()
        if auto_revert or (asked and click.confirm("revert it now?", default=True, err=True)):
            _revert(state)


def still_applied() -> str:
    """A sentence on what this process has applied and not reverted; empty when there is nothing."""
    mine = holder_of(os.getpid()).split()
    for state in journalled():
        with contextlib.suppress(IolabError):
            found = journal.load(state)
            if found is not None and (not found.finished or found.holder.split()[:2] == mine):
                return f"profile {found.profile} is still applied, in part or whole"
    return ""


def _leftover(state: Path) -> str | None:
    """A journal that cannot be read is announced as well."""
    try:
        with host_of(state) as host:
            return leftover(host)
    except IolabError as error:
        return str(error)


def _revert(state: Path) -> None:
    with host_of(state) as host:
        bad = [one for one in bench.revert(host) if one.problem]
    if bad:
        lines = [f"{one.knob}: {one.problem}" for one in bad]
        raise IolabError("\n".join(["not everything could be restored:", *lines]))
    say("reverted")
