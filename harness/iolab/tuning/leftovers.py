"""What runs that were killed left behind, found at the next start of any verb.

A journal whose values went with an earlier boot, or with their namespaces and interfaces, is no
leftover: nothing is to be restored, and it is dropped.
"""

from __future__ import annotations

import shutil

from iolab.errors import IolabError
from iolab.tuning import journal as journals
from iolab.tuning.host import Host
from iolab.tuning.identity import Finder
from iolab.tuning.journal import Journal
from iolab.tuning.knob import Gone, Target
from iolab.tuning.lock import busy, locked
from iolab.tuning.state import FILE, is_of_namespace


def leftover(host: Host) -> str | None:
    """A sentence on what a killed run left applied; None when nothing is, or it still runs."""
    if busy(host.state):
        return None
    journal = journals.load(host.state)
    if journal is None or lost(host, journal):
        return None
    if not journal.finished:
        how = "in part by a run cut short"
    elif journal.holder and not journals.lives(journal.holder):
        how = "by a killed run"
    else:
        return None
    return f"profile {journal.profile} is left applied {how}: iolab tune revert"


def lost(host: Host, journal: Journal) -> str:
    """Why nothing of the journal can be there any more; empty when something may be."""
    if journal.boot_id != journals.boot_id(host):
        return "its values were lost with an earlier boot"
    finder = Finder(host, journal.identity)
    targets = [entry.target for _, entry in journal.to_restore()]
    if targets and all(_gone(finder, target) for target in targets):
        return "its values went with their namespace or interface"
    return ""


def drop_lost(host: Host) -> str:
    """Removes a journal whose values are lost; a sentence that says so, empty when there is none.

    IolabError when it is being changed or cannot be removed.
    """
    if not _lost_journal(host):
        return ""
    with locked(host.state):
        journal = _lost_journal(host)
        if journal is None:
            return ""
        reason = lost(host, journal)
        journal.remove()
    return f"profile {journal.profile} is not applied any more: {reason}"


def remove_idle(host: Host) -> None:
    """Removes the state directory of a namespace that is gone, unless there is a journal.

    IolabError when it is in use. The lock of a namespace that is there is left alone: whoever tunes
    it just now must not find it taken.
    """
    if not is_of_namespace(host.state) or not _is_idle(host):
        return
    with locked(host.state):
        if _is_idle(host):
            shutil.rmtree(host.state)


def _is_idle(host: Host) -> bool:
    named = host.tree().exists(f"run/netns/{host.state.name}")
    return host.state.is_dir() and not named and not (host.state / FILE).exists()


def _lost_journal(host: Host) -> Journal | None:
    journal = journals.load(host.state)
    return journal if journal is not None and lost(host, journal) else None


def _gone(finder: Finder, target: Target) -> bool:
    try:
        finder.find(target)
    except Gone:
        return True
    except IolabError:  # it is somewhere, or may not be looked for
        return False
    return False
