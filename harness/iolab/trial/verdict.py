"""What a trial finds: an outcome for each knob, and findings about the script as a whole."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any


class Outcome(StrEnum):
    """What became of a knob in the first run."""

    CHANGED = "changed as intended"
    NOTHING = "changed nothing"
    IGNORED = "accepted but ignored"
    CLAMPED = "clamped"
    UNDONE = "undone by the script"
    INERT = "changed but inert"
    FAILED = "failed"
    SILENT = "failed silently"
    SHELL_ONLY = "dies with the shell"
    SIDE_EFFECT = "changed something else"
    UNREADABLE = "cannot be read back"


GOOD = frozenset({Outcome.CHANGED, Outcome.NOTHING})
"""Outcomes that are no finding: a value that was so already is as asked."""


class Kind(StrEnum):
    """Findings that concern more than one knob, or none."""

    INTERFACE = "interface name"
    INTERRUPT = "interrupt name"
    QUEUES = "number of queues"
    CPUS = "number of CPUs"
    CPU_RANGE = "CPU-list range"
    CPU_IS_QUEUE = "CPU = queue"
    HASH_KEY = "hash key length"
    MODULE = "missing module"
    PROGRAM = "missing program"
    LIMIT = "limit of the shell"
    MANAGED = "managed interrupt"
    TOUCHES = "touches more"
    REPEAT = "not idempotent"
    UNDO = "not reversible"
    STATUS = "exit status"


@dataclass(frozen=True)
class KnobVerdict:
    """One knob. Values are None where they are unknown; `detail` says why in a sentence."""

    knob: str
    outcome: Outcome
    before: str | None
    wanted: str | None
    after: str | None
    detail: str = ""
    by: str = ""

    @property
    def good(self) -> bool:
        """True when nobody need look at it."""
        return self.outcome in GOOD


@dataclass(frozen=True)
class Finding:
    """One thing wrong with the script, and where it shows."""

    kind: Kind
    text: str


@dataclass(frozen=True)
class Verdict:
    """The judgement of a whole script."""

    status: int
    knobs: tuple[KnobVerdict, ...]
    findings: tuple[Finding, ...]

    @property
    def good(self) -> bool:
        """True when the script does what it says, says what it cannot do, and nothing else."""
        return not self.findings and all(knob.good for knob in self.knobs)

    def to_json(self) -> dict[str, Any]:
        """For machines."""
        return {
            "ok": self.good,
            "status": self.status,
            "knobs": [{**asdict(knob), "ok": knob.good} for knob in self.knobs],
            "findings": [asdict(finding) for finding in self.findings],
        }


def display(knob: str) -> str:
    """A knob as people write it: sysctls with dots, files of a NIC without their directory."""
    if knob.startswith("/proc/sys/"):
        # Dots in an interface's name become slashes, as sysctl(8) has it.
        return knob.removeprefix("/proc/sys/").translate(str.maketrans("./", "/."))
    return knob.removeprefix("/sys/class/net/")
