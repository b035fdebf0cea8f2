"""What a self-test that was interrupted still lacks, and what of it can go on."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from iolab import manifest_diff, store
from iolab.errors import InputError
from iolab.model import Status
from iolab.selftest.model import GATE_KEYS, GATES, KIND, Settings

DISCARDED = "discarded"


@dataclass(frozen=True)
class Missing:
    """What is to be recorded, in this order: numbers of sessions, then whole gates.

    A gate is (number of the repetition, planted percent, budget in s).
    """

    sessions: tuple[int, ...]
    gates: tuple[tuple[int, int, float], ...]

    @property
    def text(self) -> str:
        """How much that is, in words."""
        return f"{len(self.sessions)} sessions and {len(self.gates)} whole gates are to be recorded"


def session_name(number: int) -> str:
    """The directory of a session, which is also the name of its plan."""
    return f"session-{number:02}"


def read_settings(manifest: dict[str, Any], where: Path) -> Settings:
    """The settings in a self-test's manifest; StoreError names `where` if they are unfit."""
    found = dict(manifest.get("settings") or {})
    try:
        found["gates"] = tuple((int(p), float(s)) for p, s in found.get("gates", ()))
        return Settings(**found)
    except (TypeError, ValueError) as error:
        raise store.StoreError(
            f"{where}: settings: {error}; damaged, or not written by this version of iolab"
        ) from error


def settings_of(run_dir: Path) -> Settings:
    """The settings of a self-test that is to go on.

    InputError when the run is of another kind, or has all that it was to have.
    """
    path = run_dir / store.MANIFEST
    document = store.read_manifest(run_dir)
    kind = document.get("kind")
    if kind != KIND:
        what = f"a {kind}" if kind else "the run of a matrix"
        remedy = None if kind else f"./iolab run --resume {run_dir} goes on with it"
        raise InputError(f"{path}: {what}, no self-test", remedy)
    if document.get("state") == "finished":
        raise InputError(
            f"{path}: this self-test is finished, nothing is missing",
            f"./iolab report {run_dir} evaluates it again",
        )
    return read_settings(document, path)


def check_host(path: Path, stored: dict[str, Any], fresh: dict[str, Any]) -> None:
    """InputError when the run began on another host: its error rates would be of neither."""
    hosts = manifest_diff.other_host(stored, fresh)
    if hosts:
        lines = "; ".join(f"{one.key}: {one.base} there, {one.new} here" for one in hosts)
        raise InputError(
            f"{path}: recorded on another host ({lines})",
            "go on where it was recorded, or begin anew here: ./iolab selftest",
        )


def missing(run_dir: Path, settings: Settings) -> Missing:
    """What `settings` ask for and the run has not; StoreError names a damaged file."""
    sessions = [
        number
        for number in range(settings.sessions)
        if not is_whole(run_dir / session_name(number), settings.blocks)
    ]
    have = Counter(
        (int(line["percent"]), float(line["budget_s"]))
        for line in store.read_jsonl(run_dir / GATES, GATE_KEYS)
    )
    gates = [
        (number, percent, budget_s)
        for number in range(settings.repetitions)
        for percent, budget_s in settings.gates
        if number >= have[percent, budget_s]
    ]
    return Missing(tuple(sessions), tuple(gates))


def is_whole(session: Path, blocks: int) -> bool:
    """Whether a session was recorded to its end, with every server of it fit all the time."""
    if not (session / store.MANIFEST).exists():
        return False
    if store.read_manifest(session).get("state") != "finished":
        return False
    stored = store.read_samples(session)
    fit = all(sample.status is Status.OK for sample in stored.samples)
    return fit and len(stored.blocks) >= blocks


def set_aside(run_dir: Path, name: str) -> Path | None:
    """Moves a session that is not whole out of the way, None when nothing is there.

    It is kept in `discarded/`, where no evaluation looks: a session lives as long as its processes,
    so that others cannot add the blocks that it lacks.
    """
    found = run_dir / name
    if not found.exists():
        return None
    place = run_dir / DISCARDED
    place.mkdir(exist_ok=True)
    number = sum(1 for _ in place.glob(f"{name}.*"))
    return found.rename(place / f"{name}.{number}")
