"""The journal: every original on disk before the first write, and how far the writing got.

`journal.jsonl` in the state directory. Its first line holds all entries and appears whole or not at
all (temporary name, fsync, rename, fsync of the directory). Events follow, one a line, synced: one
before each write, one after it. A line cut off by a crash is one whose write had not begun, or
whose result is read anew. The file exists exactly as long as there is something to revert.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from iolab.errors import IolabError
from iolab.tuning.host import Host
from iolab.tuning.identity import Identity
from iolab.tuning.knob import Target
from iolab.tuning.state import FILE

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class Entry:
    """One value. `requested` is None for collateral, `original` for what did not exist before."""

    target: Target
    original: str | None
    requested: str | None
    place: str = ""
    optional: bool = False


@dataclass
class Journal:
    """An applied profile, or one whose application was cut short (`finished` is False)."""

    path: Path
    profile: str
    boot_id: str
    entries: list[Entry]
    identity: Identity = field(default_factory=Identity)
    """Of the namespaces and interfaces of the entries: what tells them from later ones."""
    holder: str = ""
    """`PID STARTTIME NUMBER` of the process that will revert it and of its session.

    Empty when somebody asked for it.
    """
    begun: set[int] = field(default_factory=set)
    """Entries whose write began, and perhaps happened."""
    effective: dict[int, str] = field(default_factory=dict)
    """What was read back after the write."""
    failed: dict[int, str] = field(default_factory=dict)
    superseded: set[int] = field(default_factory=set)
    """Entries that were computed anew after the queues changed."""
    finished: bool = False

    @classmethod
    def create(
        cls,
        state: Path,
        profile: str,
        boot_id: str,
        entries: Iterable[Entry],
        identity: Identity | None = None,
        holder: str = "",
    ) -> Journal:
        """A new journal, durable when this returns. IolabError when it cannot be written."""
        identity = identity or Identity()
        journal = cls(state / FILE, profile, boot_id, list(entries), identity, holder)
        head = {
            "schema_version": SCHEMA_VERSION,
            "profile": profile,
            "boot_id": boot_id,
            **identity.document(),
            "holder": holder,
            "entries": [asdict(entry) for entry in journal.entries],
        }
        with _writing(journal.path):
            _put(journal.path, json.dumps(head))
        return journal

    def begin(self, number: int) -> None:
        """Before entry `number` is written."""
        self.begun.add(number)
        self._append({"event": "begin", "entry": number})

    def wrote(self, number: int, effective: str) -> None:
        """After it was read back."""
        self.effective[number] = effective
        self._append({"event": "wrote", "entry": number, "effective": effective})

    def fail(self, number: int, reason: str) -> None:
        """It was refused, or came out otherwise and is kept so (--partial)."""
        self.failed[number] = reason
        self._append({"event": "failed", "entry": number, "reason": reason})

    def supersede(self, numbers: Iterable[int], entries: Iterable[Entry]) -> None:
        """Puts `entries` in the place of `numbers`."""
        old, new = sorted(numbers), list(entries)
        self.superseded |= set(old)
        self.entries += new
        document = {"event": "more", "instead": old, "entries": [asdict(one) for one in new]}
        self._append(document)

    def finish(self) -> None:
        """The profile is applied."""
        self.finished = True
        self._append({"event": "finished"})

    def remove(self) -> None:
        """Everything is restored."""
        with _writing(self.path):
            self.path.unlink()
            _sync(self.path.parent)

    def wanted(self) -> list[tuple[int, Entry]]:
        """The entries that the profile asks for and that did not fail."""
        return [
            (number, entry)
            for number, entry in enumerate(self.entries)
            if entry.requested is not None
            and number not in self.superseded
            and number not in self.failed
        ]

    def to_restore(self) -> list[tuple[int, Entry]]:
        """What has to be as it was, in the order of restoring: newest first, collateral last.

        Nothing before the first write: collateral moves with others only.
        """
        return [
            (number, entry)
            for number, entry in reversed(list(enumerate(self.entries)))
            if entry.original is not None
            and (number in self.begun or (entry.requested is None and self.begun))
        ]

    def _append(self, event: dict[str, Any]) -> None:
        with _writing(self.path), self.path.open("a") as file:
            file.write(json.dumps(event) + "\n")
            file.flush()
            os.fsync(file.fileno())


def load(state: Path) -> Journal | None:
    """The journal of the state directory, None when there is nothing to revert.

    IolabError when it is not readable as one of ours.
    """
    path = state / FILE
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise IolabError(f"{path}: {error.strerror}", "as root?") from error
    try:
        head = json.loads(lines[0])
        if head["schema_version"] != SCHEMA_VERSION:
            raise IolabError(f"{path}: schema_version {head['schema_version']} is not ours")
        entries = _entries(head["entries"])
        journal = Journal(
            path, head["profile"], head["boot_id"], entries, Identity.of_document(head),
            head.get("holder", ""),
        )  # fmt: skip
        for line in lines[1:]:
            with contextlib.suppress(json.JSONDecodeError):  # cut off by the crash
                _replay(journal, json.loads(line))
    except (ValueError, KeyError, IndexError, TypeError) as error:
        raise IolabError(
            f"{path}: not a journal of this version: {error!r}",
            "it says what the host was like; remove it once that is set right by hand",
        ) from error
    return journal


def _replay(journal: Journal, event: dict[str, Any]) -> None:
    kind = event["event"]
    if kind == "begin":
        journal.begun.add(event["entry"])
    elif kind == "wrote":
        journal.effective[event["entry"]] = event["effective"]
    elif kind == "failed":
        journal.failed[event["entry"]] = event["reason"]
    elif kind == "more":
        journal.superseded |= set(event["instead"])
        journal.entries += _entries(event["entries"])
    elif kind == "finished":
        journal.finished = True


def _entries(documents: list[dict[str, Any]]) -> list[Entry]:
    return [Entry(**{**document, "target": Target(**document["target"])}) for document in documents]


def lives(holder: str) -> bool:
    """True while the process of a journal's holder is there; also when it may not be looked at."""
    words = holder.split()
    pid = int(words[0])
    found = holder_of(pid)
    if found:
        return found.split() == words[:2]
    try:
        os.kill(pid, 0)
    except PermissionError:  # hidden by proc(5), hidepid
        return True
    except ProcessLookupError:
        return False
    return False


def boot_id(host: Host) -> str:
    """A value that every boot changes (random(4))."""
    try:
        return host.tree().read("proc/sys/kernel/random/boot_id")
    except OSError:
        return ""


def holder_of(pid: int) -> str:
    """`PID STARTTIME` of a process (proc(5), stat field 22); empty when there is none."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
        return f"{pid} {text.rpartition(')')[2].split()[19]}"
    except (OSError, IndexError):
        return ""


@contextlib.contextmanager
def _writing(path: Path) -> Iterator[None]:
    """A full disk and the like as an IolabError: what was not journalled must not be written."""
    try:
        yield
    except OSError as error:
        raise IolabError(
            f"the journal {path} cannot be written: {error.strerror}",
            "make room or make it writable; IOLAB_STATE names another directory",
        ) from error


def _put(path: Path, line: str) -> None:
    """A file that is there whole and durable, or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    try:
        with temporary.open("w") as file:
            file.write(f"{line}\n")
            file.flush()
            os.fsync(file.fileno())
        temporary.rename(path)
        _sync(path.parent)
    except BaseException:
        temporary.unlink(missing_ok=True)
        path.unlink(missing_ok=True)
        raise


def _sync(directory: Path) -> None:
    """Makes a new or removed name durable."""
    handle = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
