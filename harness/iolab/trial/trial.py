"""Puts scripts on trial: boots a guest, lets them run and record there, gives recordings back."""

from __future__ import annotations

import json
import os
import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from iolab.errors import InputError, IolabError
from iolab.executor import Executor
from iolab.guest.parts import Parts
from iolab.guest.session import GuestError, Job, run_job
from iolab.trial.recording import Recording, recording_of

_SHARE = "/run/iolab"


@dataclass(frozen=True)
class Trial:
    """A script and what it is tried with. `arguments` go to the script and to its undo script."""

    script: Path
    undo: Path | None = None
    arguments: tuple[str, ...] = ()


@dataclass(frozen=True)
class Setting:
    """The machine a script is tried on; fields as of guest.session.Job."""

    interface: str = "eth0"
    without: tuple[str, ...] = ()
    timeout_s: float = 300.0
    emulate: bool = False


def run_trials(
    executor: Executor, parts: Parts, harness: Path, trials: Sequence[Trial], setting: Setting
) -> list[Recording]:
    """One guest for all trials, each on what the one before it left. `harness` holds this package.

    InputError when a script cannot be read; GuestError when the guest or a recording fails.
    """
    files: dict[str, bytes] = {}
    plans = [_plan(number, trial, setting, files) for number, trial in enumerate(trials)]
    files["plan.json"] = json.dumps(plans).encode()
    job = Job(
        _job(harness),
        files,
        interface=setting.interface,
        without=setting.without,
        timeout_s=setting.timeout_s,
        emulate=setting.emulate,
    )
    outcome = run_job(executor, parts, job)
    names = [f"recording-{number}.json" for number in range(len(trials))]
    if outcome.status or not set(names) <= outcome.files.keys():
        words = outcome.stderr.decode(errors="replace").strip()[-2000:]
        raise GuestError(f"the trial broke off in the guest (status {outcome.status}):\n{words}")
    return [recording_of(outcome.files[name].decode()) for name in names]


def _plan(
    number: int, trial: Trial, setting: Setting, files: dict[str, bytes]
) -> dict[str, str | list[str]]:
    """What the guest is told of one trial; adds its scripts to `files`."""
    plan: dict[str, str | list[str]] = {"interface": setting.interface}
    for kind, path in (("run", trial.script), ("undo", trial.undo)):
        if path is not None:
            name = f"{kind}-{number}"
            files[name] = _read(path)
            copy = f"{_SHARE}/{name}"
            plan[kind] = [*interpreter(files[name], path), copy, *trial.arguments]
            plan |= {f"{kind}_copy": copy, f"{kind}_home": os.fspath(path.resolve())}
    return plan


def interpreter(script: bytes, path: Path) -> Sequence[str]:
    """What the kernel makes of the first line `#!...` (fs/binfmt_script.c): a program and at most
    one argument; /bin/sh where there is no such line, as a shell would do.

    InputError for a carriage return, which the kernel takes for a part of the name.
    """
    first = script.partition(b"\n")[0].decode(errors="replace")
    if not first.startswith("#!"):
        return ["/bin/sh"]
    if first.endswith("\r"):
        raise InputError(
            f"{path}:1: {first!r} ends with a carriage return: no system would find that program",
            "save it with Unix line ends (dos2unix)",
        )
    words = re.split(r"[ \t]+", first[2:].strip(" \t"), maxsplit=1)
    return words if words[0] else ["/bin/sh"]


def _job(harness: Path) -> str:
    """The system's Python needs nothing but the tree: it writes no bytecode either."""
    return (
        f"export PYTHONDONTWRITEBYTECODE=1 PYTHONPATH={shlex.quote(os.fspath(harness))}\n"
        f"exec /usr/bin/python3 -m iolab.trial.inside {_SHARE}\n"
    )


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}", "give the path of a script") from error


def load_recording(path: Path) -> Recording:
    """A recording kept with --keep; IolabError when it is none."""
    try:
        return recording_of(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise IolabError(f"{path}: {error.strerror}") from error
