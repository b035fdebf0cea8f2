"""The lock of a run directory: one process at a time records into it.

A lock of the process (fcntl(2), F_SETLK): the kernel drops it with the process, however that ends,
and says which one holds it (F_GETLK), as it cannot of a lock of an open file description. Two
things come with that kind: closing any descriptor of the file drops the lock, so that nothing else
may open it; and a process does not keep itself out.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from iolab.errors import IolabError
from iolab.filelock import holder, whole_file

LOCK = "lock"
"""The file that is locked. It is empty, and stays: who removed it would let two others in at once,
by the old file and by a new one of that name."""


@contextlib.contextmanager
def recording(run_dir: Path) -> Iterator[None]:
    """Keeps other processes from recording into `run_dir` meanwhile.

    IolabError names the process that does already, or the file when it cannot be locked.
    """
    path = run_dir / LOCK
    try:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise _cannot(path, error) from error
    try:
        _take(handle, path)
        yield
    finally:
        os.close(handle)


def _take(handle: int, path: Path) -> None:
    """Locks the file, or says who has."""
    while True:
        try:
            fcntl.fcntl(handle, fcntl.F_SETLK, whole_file(fcntl.F_WRLCK))
        except (BlockingIOError, PermissionError):  # EAGAIN or, as POSIX allows, EACCES
            pid = holder(fcntl.fcntl(handle, fcntl.F_GETLK, whole_file(fcntl.F_WRLCK)))
        except OSError as error:
            raise _cannot(path, error) from error
        else:
            return
        if pid is not None:  # else it has let go between the two calls
            raise _taken(path.parent, pid)


def _taken(run_dir: Path, pid: int) -> IolabError:
    if pid <= 0:
        who, end = "a process of another container or host", "end it there"
    else:
        who, end = f"process {pid}", f"end it with `kill {pid}`"
    return IolabError(
        f"{run_dir}: {who} is recording into this run",
        f"wait until it is finished, or {end}: what it has finished is kept",
    )


def _cannot(path: Path, error: OSError) -> IolabError:
    return IolabError(
        f"{path}: cannot be locked: {error.strerror}",
        "give the run to this user, on a file system with locks",
    )
