"""Has gnuplot draw a script: the one place in the report that needs a process."""

from __future__ import annotations

from pathlib import Path

from iolab.errors import IolabError
from iolab.executor import HostExecutor, ProcessError


class GnuplotError(IolabError):
    """gnuplot is missing or refused a script; the message says which and what to do."""


def run(script: Path, timeout_s: float = 60.0) -> None:
    """Runs `script` in its own folder.

    Raises GnuplotError when gnuplot cannot be started, fails or takes longer than `timeout_s`.
    """
    try:
        with HostExecutor() as executor:
            done = executor.run(["gnuplot", script.name], timeout_s=timeout_s, cwd=script.parent)
    except ProcessError as error:
        raise GnuplotError(
            f"{script.name}: {error.message}", "apt-get install gnuplot-nox, if it is missing"
        ) from error
    if done.code != 0:
        raise GnuplotError(f"{script}: gnuplot failed: {done.stderr.strip()[-500:]}")
