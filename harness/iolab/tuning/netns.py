"""A thread that lives in a network namespace and does file accesses there.

/proc/sys/net follows the namespace of the thread that opens the file (fs/proc/proc_sysctl.c,
net/sysctl_net.c), /sys/class/net that of whoever mounted sysfs (sysfs(5), lib/kobject.c), which is
why ip-netns(8) mounts it anew in a mount namespace; so does this thread. Both namespaces belong to
threads (setns(2), unshare(2)): the rest of the process stays where it was.
"""

from __future__ import annotations

import ctypes
import os
import queue
import socket
import struct
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from iolab.errors import IolabError

_CLONE_NEWNS = 0x00020000
_CLONE_NEWNET = 0x40000000
_MS_REC_SLAVE = 0x4000 | 0x80000  # MS_REC | MS_SLAVE: our mounts do not reach the host
_MNT_DETACH = 2
NAMED = Path("/run/netns")
"""Where ip-netns(8) keeps the namespaces that have names."""
_COOKIE = 71  # SO_NETNS_COOKIE, asm-generic/socket.h

ResultT = TypeVar("ResultT")


class NamespaceThread:
    """Runs callables in the namespace of a file such as /run/netns/NAME; one at a time."""

    def __init__(self, place: Path) -> None:
        """IolabError when the namespace cannot be entered."""
        self._work: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._ready: queue.SimpleQueue[BaseException | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._live, args=(place,), daemon=True)
        self._thread.start()
        error = self._ready.get()
        if error is not None:
            raise IolabError(
                f"network namespace {place.name}: cannot be entered: {error}",
                "entering a namespace needs root (CAP_SYS_ADMIN)",
            ) from error

    def call(self, work: Callable[[], ResultT]) -> ResultT:
        """The result of `work`, or the exception it raised."""
        done: queue.SimpleQueue[tuple[ResultT | None, BaseException | None]] = queue.SimpleQueue()

        def perform() -> None:
            try:
                done.put((work(), None))
            except BaseException as error:
                done.put((None, error))

        self._work.put(perform)
        result, error = done.get()
        if error is not None:
            raise error
        return result  # type: ignore[return-value]

    def cookie(self) -> str:
        """A number that no other namespace of this boot has or gets (SO_NETNS_COOKIE, Linux 5.14).

        Inode numbers of namespaces are used again. Empty on an older kernel.
        """
        return self.call(own_cookie)

    def close(self) -> None:
        """Ends the thread; its mount namespace goes with it."""
        self._work.put(None)
        self._thread.join()

    def _live(self, place: Path) -> None:
        try:
            _enter(place)
        except OSError as error:
            self._ready.put(error)
            return
        self._ready.put(None)
        while (work := self._work.get()) is not None:
            work()


def own_cookie() -> str:
    """The cookie of the calling thread's namespace; empty before Linux 5.14.

    Inode numbers of namespaces are used again, cookies are not (SO_NETNS_COOKIE,
    net/core/net_namespace.c).
    """
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            return str(struct.unpack("=Q", probe.getsockopt(socket.SOL_SOCKET, _COOKIE, 8))[0])
        except OSError:
            return ""


def cookie_of(place: Path) -> str:
    """The cookie of the namespace behind a file such as /proc/PID/ns/net; empty when it is gone.

    A thread enters it and ends there. OSError when it may not (CAP_SYS_ADMIN).
    """
    found: list[str | OSError] = []

    def look() -> None:
        try:
            with place.open("rb") as handle:
                _check(
                    ctypes.CDLL(None, use_errno=True).setns(handle.fileno(), _CLONE_NEWNET), "setns"
                )
            found.append(own_cookie())
        except FileNotFoundError:
            found.append("")
        except OSError as error:
            found.append(error)

    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    if isinstance(found[0], OSError):
        raise found[0]
    return found[0]


def places() -> list[Path]:
    """A file for each network namespace that can be seen from here, named ones first.

    Those that are mounted (ip-netns(8), container engines; mountinfo calls them nsfs) and those of
    processes. One that only a descriptor of some process keeps alive is not among them.
    """
    found: dict[int, Path] = {}
    for place in [*_mounted(), *Path("/proc").glob("[0-9]*/ns/net")]:
        try:
            found.setdefault(place.stat().st_ino, place)
        except OSError:  # it ended meanwhile
            continue
    return list(found.values())


def _mounted() -> list[Path]:
    """Mount points of network namespaces (proc(5), mountinfo: fields 4 and 5, file system)."""
    lines = Path("/proc/thread-self/mountinfo").read_text(errors="replace").splitlines()
    fields = [line.split() for line in lines]
    mounted = {Path(one[4]) for one in fields if "nsfs" in one and one[3].startswith("net:")}
    return sorted(mounted, key=lambda path: (path.parent != NAMED, path))


def _enter(place: Path) -> None:
    """Moves the calling thread into the namespace, with a /sys that shows it."""
    libc = ctypes.CDLL(None, use_errno=True)
    handle = os.open(place, os.O_RDONLY)
    try:
        _check(libc.setns(handle, _CLONE_NEWNET), "setns")
    finally:
        os.close(handle)
    _check(libc.unshare(_CLONE_NEWNS), "unshare")
    _check(libc.mount(b"", b"/", b"none", ctypes.c_ulong(_MS_REC_SLAVE), None), "mount")
    _check(libc.umount2(b"/sys", _MNT_DETACH), "umount2 /sys")
    _check(libc.mount(b"sysfs", b"/sys", b"sysfs", ctypes.c_ulong(0), None), "mount /sys")


def _check(result: int, call: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{call}: {os.strerror(number)}")
