"""Locks of whole files, as the kernel is asked for them: struct flock of fcntl(2)."""

from __future__ import annotations

import fcntl
import os
import struct

_FLOCK = "hhqqi"
"""struct flock (asm-generic/fcntl.h): type, whence, start, length, process; natural alignment."""


def whole_file(kind: int) -> bytes:
    """The argument of a request about all bytes of a file; `kind` is fcntl.F_WRLCK or F_RDLCK.

    The process is 0, which F_OFD_SETLK and F_OFD_GETLK insist on. Padded to a multiple of the
    alignment, as the structure is in C.
    """
    return struct.pack(f"{_FLOCK}0q", kind, os.SEEK_SET, 0, 0, 0)


def holder(answer: bytes) -> int | None:
    """Who is in the way of a lock by the kernel's answer to F_GETLK or F_OFD_GETLK; None: nobody.

    The process id as seen from this PID namespace: 0 for one that is not visible from it, below 0
    for one of another host (NFS), and -1 for a lock of an open file description, which belongs to
    no process (fs/locks.c, locks_translate_pid).
    """
    kind, _, _, _, pid = struct.unpack(_FLOCK, answer[: struct.calcsize(_FLOCK)])
    return None if kind == fcntl.F_UNLCK else int(pid)
