"""Adapter of the copier: one process a cell, which is server and client in one."""

from __future__ import annotations

import contextlib
import json
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from iolab.executor import Executor, Process, ProcessError
from iolab.load import UnsupportedError
from iolab.model import CopyLoad, Workload

_READY_TIMEOUT_S = 120.0  # it makes its files and brings them to the disk first
_CHECK_TIMEOUT_S = 120.0
_UNSUPPORTED = "unsupported: "
_EXIT_UNSUPPORTED = 3
_PATIENCE = 10  # a window may last so many times its length, when little of it is copying


@dataclass(frozen=True)
class CopyPlaces:
    """Existing directories: of files on a disk, of sources that cells share, and in memory."""

    disk: Path
    sources: Path
    memory: Path


class IolabCopy:
    """A running `iolab-copy --slices`; implements LoadSession."""

    def __init__(self, process: Process) -> None:
        self._process = process

    @classmethod
    def open(
        cls,
        executor: Executor,
        binary: Path,
        technique: str,
        workload: Workload,
        places: CopyPlaces,
        cpu: int | None,
    ) -> IolabCopy:
        """Makes the files, compares trial copies, and waits until that is done.

        UnsupportedError when the technique cannot copy as its name says between these places,
        ProcessError with the tool's own words when something else is wrong.
        """
        argv = [*arguments(binary, technique, workload, places, cpu), "--slices"]
        # Ended by a signal it removes its files; SIGKILL would leave them.
        process = executor.start(argv, death_signal=signal.SIGTERM)
        try:
            ready = _document(process.read_line(_READY_TIMEOUT_S))
        except ProcessError as error:
            words = process.last_words()
            process.stop()
            reason = unsupported(words)
            if reason is not None:
                raise UnsupportedError(reason) from error
            raise
        if not ready.get("ready"):
            process.stop()
            raise ProcessError(f"iolab-copy: expected a ready line, got {ready}")
        return cls(process)

    @property
    def pids(self) -> tuple[int, ...]:
        """See LoadSession."""
        return (self._process.pid,)

    def slice(self, workload: Workload, warmup_ms: int, duration_ms: int) -> dict[str, Any]:
        """See LoadSession: `workload` is the one it was opened for."""
        self._process.write_line(f"slice {warmup_ms} {duration_ms}")
        patience_s = (warmup_ms + duration_ms) / 1000 * _PATIENCE + 60
        return _document(self._process.read_line(patience_s))

    def close(self) -> None:
        """See LoadSession."""
        with contextlib.suppress(ProcessError):
            self._process.write_line("quit")
        self._process.stop(timeout_s=10.0)


def check_copies(
    executor: Executor, binary: Path, technique: str, directory: Path
) -> dict[str, Any] | None:
    """What comparing copies of many sizes found; None when the technique is unsupported there.

    ProcessError with the tool's own words when copies were wrong, or nothing could be checked.
    """
    argv = [str(binary), "--technique", technique, "--dir", str(directory), "--check"]
    done = executor.run(argv, timeout_s=_CHECK_TIMEOUT_S)
    if done.code == _EXIT_UNSUPPORTED:
        return None
    if done.code != 0:
        raise ProcessError(f"iolab-copy: exit code {done.code}: {done.stderr.strip()[-400:]}")
    return _document(done.stdout.strip())


def arguments(
    binary: Path, technique: str, workload: Workload, places: CopyPlaces, cpu: int | None
) -> list[str]:
    """The command line of a technique under `workload`, without a mode."""
    copy = workload.copy or CopyLoad()
    argv = [
        str(binary),
        "--technique", technique,
        "--dir", str(places.disk),
        "--source", str(places.sources),
        "--size", str(workload.size_bytes),
        "--files", str(copy.files),
        "--batch", str(copy.batch),
        "--cache", copy.cache,
    ]  # fmt: skip
    if copy.target == "tmpfs":
        argv += ["--to", str(places.memory)]
    if copy.fresh:
        argv.append("--fresh")
    if copy.durable:
        argv.append("--durable")
    if cpu is not None:
        argv += ["--cpu", str(cpu)]
    return argv


def unsupported(words: str) -> str | None:
    """The reason in the tool's last words, None when they say something else."""
    for line in words.splitlines():
        if line.startswith(_UNSUPPORTED):
            return line.removeprefix(_UNSUPPORTED)
    return None


def _document(line: str) -> dict[str, Any]:
    """One line of the tool as JSON; ProcessError when it is an error or no document."""
    try:
        document = json.loads(line)
    except ValueError as error:
        raise ProcessError(f"iolab-copy: not JSON: {line[:200]!r}") from error
    if not isinstance(document, dict) or "error" in document:
        raise ProcessError(f"iolab-copy: no result: {line[:200]!r}")
    return document
