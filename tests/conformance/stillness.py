"""Whether a transfer stands still: asked of TCP and of the server's threads, not of a clock."""

from __future__ import annotations

import os
import re
import socket
import time
from pathlib import Path
from typing import NamedTuple

# Threads that wait for a moment (1 ms, where somebody else is to give room) run within it; what
# runs beside the server every 100 ms (a thread of ThreadSanitizer) leaves room for it.
HOLD_S = 0.05
# Where the kernel does not tell, or a thread never sleeps (sqpoll): nothing moved for so long.
SILENCE_S = 1.0
# The longest wait of a call that moves bytes, before TCP and the threads are looked at.
LOOK_S = 0.01

# Timers of a socket, in /proc/net/tcp (Documentation/networking/proc_net_tcp.rst).
RETRANSMIT = 1  # something is on its way
WINDOW_PROBE = 4  # there is something to send, and the receiver's window has no room for it


class Row(NamedTuple):
    """What /proc/net/tcp says of a socket."""

    queued_bytes: int  # to be sent, or sent and not acknowledged
    timer: int


def tcp_rows(pid: int) -> dict[int, Row]:
    """The IPv4 TCP sockets in the network namespace of a process, by their inodes."""
    rows = {}
    for line in Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        queued, timer = fields[4].split(":")[0], fields[5].split(":")[0]
        rows[int(fields[9])] = Row(int(queued, 16), int(timer, 16))
    return rows


def sockets_of(pid: int) -> set[int]:
    """The inodes of the sockets that a process has open."""
    links = (str(entry.readlink()) for entry in Path(f"/proc/{pid}/fd").iterdir())
    return {int(link[8:-1]) for link in links if link.startswith("socket:[")}


def sleeping_threads(pid: int) -> dict[str, int]:
    """How often each thread of a process was switched, if all of them sleep; else nothing.

    The same answer twice: none of them has run in between, for it would have been switched again.
    """
    threads = {}
    for task in Path(f"/proc/{pid}/task").iterdir():
        text = (task / "status").read_text()
        if not re.search(r"^State:\tS", text, re.MULTILINE):
            return {}
        threads[task.name] = sum(map(int, re.findall(r"ctxt_switches:\t(\d+)", text)))
    return threads


def window_is_closed(pid: int, sender: socket.socket) -> bool:
    """True when the sender's bytes wait for a process to read, and what that sent has arrived."""
    rows = tcp_rows(pid)
    waiting = rows[os.fstat(sender.fileno()).st_ino]
    if waiting.timer != WINDOW_PROBE or not waiting.queued_bytes:
        return False
    timers = {rows[inode].timer for inode in sockets_of(pid) if inode in rows}
    return RETRANSMIT not in timers


class Stillness:
    """Since it was made the caller has moved no byte; reached() says that none will move by itself.

    The server's process, all of whose threads sleep, does not read what is there for it to read:
    TCP tells that the sender may send nothing, and that nothing of the server's is on its way. So
    nothing is left that could wake anybody, but a probe of a window that has opened by less than a
    segment (every 200 ms, then rarer), which lets a last few bytes through.
    """

    def __init__(self, pid: int, sender: socket.socket) -> None:
        self.pid = pid
        self.sender = sender
        self.since = self.asleep_since = time.monotonic()
        self.asleep: dict[str, int] = {}

    def reached(self) -> bool:
        """Looks once; to be called again and again."""
        now = time.monotonic()
        asleep = self.look()
        if not asleep or asleep != self.asleep:
            self.asleep, self.asleep_since = asleep, now
        held = bool(asleep) and now - self.asleep_since >= HOLD_S
        return held or now - self.since >= SILENCE_S

    def look(self) -> dict[str, int]:
        """The server's sleeping threads while the window is closed; else nothing."""
        try:
            before = sleeping_threads(self.pid)
            if not before or not window_is_closed(self.pid, self.sender):
                return {}
            return before if before == sleeping_threads(self.pid) else {}
        except (OSError, KeyError):  # a thread or a socket has gone meanwhile, or may not be seen
            return {}
