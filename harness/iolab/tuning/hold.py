"""The process that holds /dev/cpu_dma_latency open: `python hold.py DEVICE STATE USEC`.

It locks STATE/cpu-dma-latency.json and writes its id there, opens the device, writes the request,
prints `ready`, and waits for a signal. It imports nothing of iolab: it stays as small as it can.
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
import struct
import sys
import time
from dataclasses import dataclass
from pathlib import Path

FILE = "cpu-dma-latency.json"


@dataclass(frozen=True)
class Holder:
    """A living holder and the microseconds it asks for."""

    pid: int
    usec: int


def living(state: Path) -> Holder | None:
    """The holder of this state directory, None when none lives."""
    try:
        handle = os.open(state / FILE, os.O_RDWR)
    except OSError:
        return None
    try:
        while not _take(handle):
            if (holder := _holder(handle)) is not None:
                return holder
            time.sleep(0.01)  # it has the lock and is about to write its id
    finally:
        os.close(handle)
    return None


def end(state: Path) -> None:
    """Ends the holder, if one lives, and returns when the kernel has dropped its request."""
    holder = living(state)
    if holder is None:
        return
    os.kill(holder.pid, signal.SIGTERM)
    with (state / FILE).open("r+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # released when the process has ended


def main(argv: list[str]) -> int:
    """Holds until SIGTERM. Exit status 1 with a message when the device refuses."""
    device, state, usec = Path(argv[0]), Path(argv[1]), int(argv[2])
    state.mkdir(parents=True, exist_ok=True)
    lock = os.open(state / FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    fcntl.flock(lock, fcntl.LOCK_EX)
    os.ftruncate(lock, 0)
    os.write(lock, json.dumps({"pid": os.getpid(), "usec": usec}).encode())
    try:
        request = os.open(device, os.O_WRONLY | os.O_CLOEXEC)
        os.write(request, struct.pack("=i", usec))
    except OSError as error:
        print(f"{device}: {error.strerror}", file=sys.stderr)
        return 1
    print("ready", flush=True)
    signal.sigwait({signal.SIGTERM, signal.SIGINT})
    return 0


def _take(handle: int) -> bool:
    """True when nobody else has the lock."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _holder(handle: int) -> Holder | None:
    try:
        document = json.loads(os.pread(handle, 4096, 0))
    except ValueError:
        return None
    return Holder(int(document["pid"]), int(document["usec"]))


if __name__ == "__main__":
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
    sys.exit(main(sys.argv[1:]))
