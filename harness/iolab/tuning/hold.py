"""The process that holds /dev/cpu_dma_latency open: `hold.py DEVICE STATE USEC JOURNAL`.

It writes its id to a file, locks that and gives it the name STATE/cpu-dma-latency.json, opens the
device, writes the request, prints `ready`, and waits for a signal. When JOURNAL is not there any
more, whoever started it was killed and all was reverted before this process came to run: it ends at
once. It imports nothing of iolab and stays as small as it can.
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
import struct
import sys
from dataclasses import dataclass
from pathlib import Path

FILE = "cpu-dma-latency.json"


@dataclass(frozen=True)
class Holder:
    """A living holder and the microseconds it asks for."""

    pid: int
    usec: int


def living(state: Path) -> Holder | None:
    """The holder of this state directory, None when none lives.

    A lock that is held proves that the process whose id the file holds is alive: the file got its
    name when it was written and locked.
    """
    try:
        handle = os.open(state / FILE, os.O_RDWR)
    except OSError:
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        document = json.loads(os.pread(handle, 4096, 0))
        return Holder(int(document["pid"]), int(document["usec"]))
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
    (state / FILE).unlink()


def main(argv: list[str]) -> int:
    """Holds until SIGTERM. Exit status 1 with a message when the device refuses."""
    device, state, usec, journal = Path(argv[0]), Path(argv[1]), int(argv[2]), Path(argv[3])
    _announce(state, usec)
    if not journal.exists():
        print(f"{journal}: reverted meanwhile", file=sys.stderr)
        return 1
    try:
        request = os.open(device, os.O_WRONLY | os.O_CLOEXEC)
        os.write(request, struct.pack("=i", usec))
    except OSError as error:
        print(f"{device}: {error.strerror}", file=sys.stderr)
        return 1
    print("ready", flush=True)
    signal.sigwait({signal.SIGTERM, signal.SIGINT})
    return 0


def _announce(state: Path, usec: int) -> None:
    """Leaves the locked file open for as long as this process lives."""
    temporary = state / f"{FILE}.{os.getpid()}"
    lock = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    fcntl.flock(lock, fcntl.LOCK_EX)
    os.write(lock, json.dumps({"pid": os.getpid(), "usec": usec}).encode())
    temporary.rename(state / FILE)


if __name__ == "__main__":
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
    sys.exit(main(sys.argv[1:]))
