"""Reads a run for the report: manifest, plan, finished slices, wrk's cross-check."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from iolab import store
from iolab.errors import IolabError
from iolab.matrix import plan_from_json
from iolab.model import Plan, Sample


class ReportError(IolabError):
    """A run that cannot be reported, with the reason and the remedy."""


@dataclass(frozen=True)
class Run:
    """A run as stored; `dropped` says what an unfinished block left behind, None for nothing."""

    name: str
    path: Path
    manifest: dict[str, Any]
    plan: Plan
    samples: tuple[Sample, ...]
    nr_blocks: int
    dropped: str | None
    wrk: tuple[dict[str, Any], ...]
    syscalls: tuple[dict[str, Any], ...]
    raw_files: tuple[str, ...]


def load(run_dir: Path) -> Run:
    """The run in `run_dir`.

    Raises store.StoreError when a file is missing or damaged, ReportError when no block was
    finished: there is nothing to say about such a run.
    """
    manifest = store.read_manifest(run_dir)
    if "plan" not in manifest:
        raise ReportError(f"{run_dir / store.MANIFEST}: no key 'plan': not a run of iolab?")
    plan = plan_from_json(manifest["plan"], str(run_dir / store.MANIFEST))
    stored = store.read_samples(run_dir)
    if not stored.samples:
        raise ReportError(
            f"{run_dir}: no finished block in {store.SAMPLES}, so there is nothing to report",
            f"./iolab run {plan.name} --resume {run_dir.name} continues the run",
        )
    names = (store.MANIFEST, store.SAMPLES, store.WRK, store.SYSCALLS)
    return Run(
        name=run_dir.resolve().name,
        path=run_dir,
        manifest=manifest,
        plan=plan,
        samples=stored.samples,
        nr_blocks=len(stored.blocks),
        dropped=stored.dropped,
        wrk=store.read_wrk(run_dir),
        syscalls=store.read_syscalls(run_dir),
        raw_files=tuple(name for name in names if (run_dir / name).is_file()),
    )
