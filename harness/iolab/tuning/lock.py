"""The lock of a state directory: one process at a time tunes this host.

A lock of the open file description (fcntl(2), F_OFD_SETLK, Linux 3.15): the kernel drops it with
the process, and whether it is held can be asked without taking it, so that nobody who only looks
is ever in the way.
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


@contextlib.contextmanager
def locked(state: Path) -> Iterator[None]:
    """Keeps others from tuning this host meanwhile. IolabError when somebody else does."""
    try:
        state.mkdir(parents=True, exist_ok=True)
        handle = os.open(state / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise IolabError(f"{state}: {error.strerror}", "as root?") from error
    try:
        try:
            fcntl.fcntl(handle, fcntl.F_OFD_SETLK, whole_file(fcntl.F_WRLCK))
        except (BlockingIOError, PermissionError):  # EAGAIN or, as POSIX allows, EACCES
            raise IolabError("another iolab is tuning this host", "wait until it ends") from None
        yield
    finally:
        os.close(handle)


def busy(state: Path) -> bool:
    """True while a process tunes this host."""
    try:
        handle = os.open(state / LOCK, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        answer = fcntl.fcntl(handle, fcntl.F_OFD_GETLK, whole_file(fcntl.F_WRLCK))
    finally:
        os.close(handle)
    return holder(answer) is not None
