"""What a guest left in its share, read without trusting it.

Root in the guest makes what it likes there: links, which would lead about on the host; devices and
FIFOs, which never end; files of any size. What a name stands for is looked at first (open(2),
O_PATH and O_NOFOLLOW) and only regular files are opened, for opening a device may do something.
Never more than LIMIT_BYTES are read, or left on the host's disk.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from iolab.errors import IolabError

LIMIT_BYTES = 256 << 20
LIMIT_FILES = 10_000


class ShareError(IolabError):
    """A share with more in it than a harness takes."""


def read_file(path: Path, offset: int = 0, limit: int = LIMIT_BYTES) -> bytes:
    """At most `limit` bytes of a regular file from an offset; nothing of anything else."""
    try:
        place = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return b""
    try:
        if not stat.S_ISREG(os.fstat(place).st_mode):
            return b""
        # The file itself, whatever has its name by now; proc(5), /proc/PID/fd.
        with Path(f"/proc/self/fd/{place}").open("rb") as file:
            file.seek(offset)
            return file.read(limit)
    finally:
        os.close(place)


def read_files(share: Path) -> dict[str, bytes]:
    """The regular files of the share by name; ShareError when they are too many or too large."""
    files: dict[str, bytes] = {}
    left = LIMIT_BYTES
    for name in _names(share):
        if not _is_regular(share / name):
            continue
        content = read_file(share / name, limit=left + 1)
        left -= len(content)
        if left < 0:
            raise ShareError(_too_much())
        files[name] = content
    return files


def require_room(*places: Path) -> None:
    """ShareError when more than LIMIT_BYTES lie on the disk below these directories and files."""
    left, seen = LIMIT_BYTES, 0
    waiting = list(places)
    while waiting:
        place = waiting.pop()
        try:
            status = place.lstat()
            below = [place / name for name in _names(place)] if stat.S_ISDIR(status.st_mode) else []
        except OSError:  # removed or replaced meanwhile
            continue
        waiting += below
        seen += len(below)
        left -= status.st_blocks * 512  # stat(2): in units of 512 bytes
        if left < 0 or seen > LIMIT_FILES:
            raise ShareError(_too_much())


def _names(directory: Path) -> list[str]:
    names = []
    with os.scandir(directory) as entries:
        for entry in entries:
            names.append(entry.name)
            if len(names) > LIMIT_FILES:
                raise ShareError(_too_much())
    return names


def _is_regular(path: Path) -> bool:
    try:
        return stat.S_ISREG(path.lstat().st_mode)
    except FileNotFoundError:
        return False


def _too_much() -> str:
    return f"wrote more than {LIMIT_BYTES >> 20} MiB or {LIMIT_FILES} files for the host"
