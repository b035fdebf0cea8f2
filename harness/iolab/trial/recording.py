"""What a trial leaves: snapshots of the guest and traces of the script. Data, and its JSON form."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

from iolab.errors import IolabError

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class Snapshot:
    """The state of a machine as text.

    `files` maps paths below /proc and /sys to contents; `outputs` maps command lines, such as
    `ethtool -l eth0`, to what they printed. Nothing is interpreted here; see values.py.
    """

    files: dict[str, str]
    outputs: dict[str, str]


@dataclass(frozen=True)
class Step:
    """One program run under strace(1), and the state after it. `kind` is `run` or `undo`."""

    kind: str
    status: int
    """Exit status; 128 + N for signal N, as a shell says it."""
    trace: str
    stdout: str
    stderr: str
    after: Snapshot


@dataclass(frozen=True)
class Recording:
    """A whole trial. `before` are two snapshots in a row: what differs changes by itself."""

    interface: str
    before: tuple[Snapshot, Snapshot]
    steps: tuple[Step, ...]

    @property
    def first(self) -> Step:
        """The first run of the script, on an untouched machine."""
        return self.steps[0]

    def to_json(self) -> str:
        """The document that `recording_of` reads."""
        return json.dumps({"schema_version": SCHEMA_VERSION, **asdict(self)})


def recording_of(text: str) -> Recording:
    """A recording from its JSON; IolabError when it is none of this version."""
    try:
        document = json.loads(text)
        if document["schema_version"] != SCHEMA_VERSION:
            raise ValueError(f"schema_version {document['schema_version']}, not {SCHEMA_VERSION}")
        first, second = (Snapshot(**one) for one in document["before"])
        steps = tuple(_step(one) for one in document["steps"])
        return Recording(document["interface"], (first, second), steps)
    except (ValueError, KeyError, TypeError) as error:
        raise IolabError(f"the guest's recording cannot be read: {error}") from error


def _step(document: dict[str, Any]) -> Step:
    return Step(**{**document, "after": Snapshot(**document["after"])})
