"""Processes beside the test's own that lock a run, or try to."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_PACKAGE = Path(__file__).resolve().parents[2] / "harness"
_RECORD = """
import sys
from pathlib import Path
from iolab.errors import IolabError
from iolab.runlock import recording
try:
    with recording(Path(sys.argv[1])):
        print("recording", flush=True)
        sys.stdin.read()
except IolabError as error:
    sys.exit(str(error))
"""


@contextmanager
def recorder(run_dir: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that has locked `run_dir`; killed in the end. AssertionError if it could not."""
    process = subprocess.Popen(
        _argv(run_dir), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=_environment()
    )
    with process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "recording\n", "its message is on stderr"
            yield process
        finally:
            process.kill()


def refusal(run_dir: Path) -> str:
    """What a process that wants to record into `run_dir` says; AssertionError if it may."""
    done = subprocess.run(
        _argv(run_dir), stdin=subprocess.DEVNULL, capture_output=True, text=True, env=_environment()
    )
    assert done.returncode == 1, f"not refused: {done.stdout}{done.stderr}"
    return done.stderr


def _argv(run_dir: Path) -> list[str]:
    return [sys.executable, "-c", _RECORD, str(run_dir)]


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(_PACKAGE)}
