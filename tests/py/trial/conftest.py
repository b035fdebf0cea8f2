"""What the tests of trials share: expectations of the shipped scripts, and kept recordings."""

from __future__ import annotations

import fnmatch
import json
import tomllib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from iolab.trial.recording import Recording
from iolab.trial.verdict import Kind, Outcome, Verdict

from .slim import unpack

ROOT = Path(__file__).resolve().parents[3]
SCRIPTS = ROOT / "tuning/scripts"
RECORDINGS = Path(__file__).with_name("recordings")


@dataclass(frozen=True)
class Expected:
    """One table of tuning/scripts/expected.toml, whose head says what the keys mean."""

    name: str
    knobs: dict[str, Outcome]
    findings: frozenset[Kind]
    status: int
    ok: bool
    without: tuple[str, ...]

    def contradictions(self, verdict: Verdict) -> list[str]:
        """Everything in which the verdict is not as expected; empty when it is."""
        said = [
            f"{knob.knob}: {knob.outcome} ({knob.detail})"
            for knob in verdict.knobs
            if not knob.good and self.knobs.get(self._pattern(knob.knob)) != knob.outcome
        ]
        for pattern, outcome in self.knobs.items():
            met = [one for one in verdict.knobs if fnmatch.fnmatchcase(one.knob, pattern)]
            if outcome not in {one.outcome for one in met}:
                said.append(f"{pattern}: no knob {outcome}: {[str(one.outcome) for one in met]}")
        kinds = {finding.kind for finding in verdict.findings}
        said += [f"not found: {kind}" for kind in self.findings - kinds]
        said += [str(one) for one in verdict.findings if one.kind not in self.findings]
        if (verdict.status, verdict.good) != (self.status, self.ok):
            said.append(f"status {verdict.status}, good {verdict.good}")
        return said

    def _pattern(self, knob: str) -> str:
        return next((one for one in self.knobs if fnmatch.fnmatchcase(knob, one)), "")


def load_expected() -> list[Expected]:
    """All tables; a wrong word in one is an error here."""
    document = tomllib.loads((SCRIPTS / "expected.toml").read_text())
    return [
        Expected(
            table["name"],
            {pattern: Outcome(outcome) for pattern, outcome in table.get("knobs", {}).items()},
            frozenset(Kind(kind) for kind in table.get("findings", ())),
            table.get("status", 0),
            table.get("ok", False),
            tuple(table.get("without", ())),
        )
        for table in document["script"]
    ]


def recording(name: str) -> Recording:
    """A kept recording of a shipped script."""
    return unpack(json.loads((RECORDINGS / f"{name}.json").read_text()))


@pytest.fixture
def recorded(tmp_path: Path) -> Callable[[str], str]:
    """Gives the path of a kept recording as `--keep` would have left it."""

    def write(name: str) -> str:
        path = tmp_path / f"{name}.json"
        path.write_text(recording(name).to_json())
        return str(path)

    return write


def kept() -> Sequence[str]:
    """Names of the scripts whose recordings are kept."""
    return sorted(path.stem for path in RECORDINGS.glob("*.json"))
