"""What /proc says of a process in lines `KEY:  N kB`."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from pathlib import Path


def kib_line(path: Path, key: str) -> int | None:
    """The number of the line that begins with `key`, in bytes, None when there is no such line.

    OSError when the file, and so the process, is gone.
    """
    for line in path.read_text().splitlines():
        if line.startswith(key):
            return int(line.split()[1]) << 10
    return None


def resident_peak_bytes(pids: Iterable[int], proc: Path = Path("/proc")) -> int | None:
    """Sum of the processes' high-water marks of resident memory (VmHWM, proc(5)).

    Pages of the program and its libraries count, socket buffers and pipes do not. None when
    nothing can be read, of a process that has ended, too.
    """
    peaks = []
    for pid in pids:
        with contextlib.suppress(OSError):
            peak = kib_line(proc / str(pid) / "status", "VmHWM:")
            if peak is not None:
                peaks.append(peak)
    return sum(peaks) if peaks else None
