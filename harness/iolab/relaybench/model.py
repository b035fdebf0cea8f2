"""The words of a relay bench as frozen data: scale, subject, record, figure."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from iolab.model import SCHEMA_VERSION, Server

KIND = "relay-bench"
"""`kind` in the manifest of such a run."""

MIB = 1 << 20


class Part(StrEnum):
    """The parts in the order in which they run."""

    MEMORY_ONE = "memory-one"
    MEMORY_FIFTY = "memory-fifty"
    BACKPRESSURE = "backpressure"
    WAITING = "waiting"
    ABORTS = "aborts"


class Verdict(StrEnum):
    """What a figure says. `INFORMATION` has no target, or none that binds this server."""

    OK = "ok"
    MISSED = "missed"
    INFORMATION = "information"
    FAILED = "failed"
    UNSUPPORTED = "unsupported"


@dataclass(frozen=True)
class Scale:
    """How much each part does."""

    one_bytes: int = 10 << 30
    fifty_pairs: int = 50
    fifty_bytes: int = 2 << 30
    pressure_s: float = 20.0
    pressure_bytes_per_s: int = MIB
    waiting_pairs: int = 1000
    aborts: int = 10_000
    kills: int = 200
    at_once: int = 16


FULL = Scale()
QUICK = Scale(one_bytes=1 << 30, fifty_bytes=64 * MIB, pressure_s=5.0, aborts=500, kills=20)


@dataclass(frozen=True)
class Subject:
    """A relay under test, and what of it decides which targets bind it."""

    server: Server
    pipes: bool = False
    """Moves bytes through pipes, so that none of them need be in its memory."""
    queues: bool = False
    """A policy lets bytes pile up in its memory, as the baseline of a comparison does."""
    threads: bool = False
    """A thread per connection: who waits holds the touched pages of a stack."""

    @property
    def label(self) -> str:
        """The server's short name."""
        return self.server.label


@dataclass(frozen=True)
class Record:
    """What one part found out about one server, raw. `raw` is empty unless the status is ok."""

    part: Part
    subject: Subject
    status: str
    reason: str | None = None
    started_unix_ns: int = 0
    wall_ns: int = 0
    raw: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """As parts.jsonl stores it."""
        return {
            "schema_version": SCHEMA_VERSION,
            "part": str(self.part),
            "server": self.subject.label,
            "traits": {
                "pipes": self.subject.pipes,
                "queues": self.subject.queues,
                "threads": self.subject.threads,
            },
            "status": self.status,
            "reason": self.reason,
            "started_unix_ns": self.started_unix_ns,
            "wall_ns": self.wall_ns,
            "raw": self.raw,
        }


def record_from_json(document: dict[str, Any]) -> Record:
    """The opposite of Record.to_json; KeyError, TypeError or ValueError when it is none."""
    if document["schema_version"] != SCHEMA_VERSION:
        raise ValueError(f"schema_version {document['schema_version']!r}, not {SCHEMA_VERSION}")
    name, *pairs = document["server"].split(",")
    options = tuple((key, value) for key, _, value in (pair.partition("=") for pair in pairs))
    return Record(
        Part(document["part"]),
        Subject(Server("engine", name, options), **document["traits"]),
        str(document["status"]),
        document["reason"],
        int(document["started_unix_ns"]),
        int(document["wall_ns"]),
        dict(document["raw"]),
    )


@dataclass(frozen=True)
class Figure:
    """One line of the result: a value with its unit, the target and what came of it."""

    part: Part
    server: str
    name: str
    value: float | None
    unit: str
    target: str | None
    verdict: Verdict
    note: str | None = None
