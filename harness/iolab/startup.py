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
from iolab.testbed.netns import sweep
from iolab.tuning import bench, journal
from iolab.tuning.host import Host
from iolab.tuning.journal import holder_of
from iolab.tuning.leftovers import drop_lost, leftover, remove_idle
from iolab.tuning.state import journalled, namespace_states, of_root

MEASURING = ("gate", "quick", "relay-bench", "run", "selftest")
"""Verbs whose numbers depend on how the host is tuned."""


@contextmanager
def host_of(state: Path) -> Iterator[Host]:
    """This machine with a state directory; leaves its namespaces at the end."""
    with HostExecutor() as executor:
        host = Host(executor, state=state)
        try:
            yield host
        finally:
            host.close()


def mind_leftovers(verb: str, auto_revert: bool) -> None:
    """What a killed run left applied is undone with `auto_revert`, and offered on a terminal.

    Otherwise it is announced. IolabError when not everything could be restored, and when a verb
    would measure the host as it was left. What needs no decision is cleaned up: namespaces of
    testbeds whose harness is gone, and journals and state directories of what is no more.
    """
    _tidy()
    for state in journalled():
        left = _leftover(state)
        if left is None:
            continue
        say(f"iolab: {left}")
        if _is_wanted(auto_revert):
            _revert(state)
        elif verb in MEASURING:
            raise _would_measure(verb, "iolab tune revert, or iolab --auto-revert VERB")
    for state in of_root():
        left = _leftover(state)
        if left is not None:
            say(f"iolab: {left}, as root")
            if verb in MEASURING:
                raise _would_measure(verb, "sudo iolab tune revert")


def refuse_leftovers(verb: str) -> None:
    """IolabError when a killed run left a profile applied: `verb` would measure that host.

    For verbs that measure only sometimes; those of MEASURING are stopped by `mind_leftovers`.
    """
    for state in [*journalled(), *of_root()]:
        left = _leftover(state)
        if left is not None:
            raise _would_measure(verb, "iolab tune revert, or iolab --auto-revert VERB")


def _tidy() -> None:
    """What cannot be removed, for want of privilege or because somebody is at it, stays."""
    if os.geteuid() == 0:
        with HostExecutor() as executor:
            sweep(executor)
    for state in [*journalled(), *namespace_states()]:
        with contextlib.suppress(IolabError, OSError), host_of(state) as host:
            dropped = drop_lost(host)
            if dropped:
                say(f"iolab: {dropped}")
            remove_idle(host)


def _is_wanted(auto_revert: bool) -> bool:
    if auto_revert:
        return True
    asked = sys.stdin.isatty() and sys.stderr.isatty()
    return asked and click.confirm("revert it now?", default=True, err=True)


def _would_measure(verb: str, remedy: str) -> IolabError:
    """`gate` ends with 2 where it cannot tell; 1 is a regression."""
    error = IolabError(f"{verb} would measure the host as the killed run left it", remedy)
    if verb == "gate":
        error.exit_code = 2
    return error


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
