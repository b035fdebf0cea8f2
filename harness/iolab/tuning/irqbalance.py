"""irqbalance's control socket: which interrupts the daemon leaves alone (irqbalance(1), "API").

One connection a message: `setup` is answered with `IRQ N ...` for each interrupt banned over the
socket or by --banirq; `settings ban irqs N N...` replaces that list, `NONE` empties it. Only root
is heard, by SCM_CREDENTIALS. The list is the daemon's alone: it ends with it. The socket is a file
below /run/irqbalance, an abstract name in old versions and where that file cannot be made.
"""

from __future__ import annotations

import os
import re
import socket
import struct
from collections.abc import Collection
from pathlib import Path

from iolab.tuning.host import Tree
from iolab.tuning.knob import KnobError

_LONGEST = 255
"""Bytes of a list that every version reads whole; beyond, some cut a number in two."""

_TIMEOUT_S = 10.0


def running(tree: Tree) -> int | None:
    """The process id of irqbalance, which moves interrupts back every 10 s; None without one."""
    for name in tree.names("proc"):
        if name.isdigit():
            try:
                if tree.read(f"proc/{name}/comm") == "irqbalance":
                    return int(name)
            except OSError:
                continue
    return None


def banned(root: Path, pid: int) -> frozenset[int]:
    """The interrupts that the daemon leaves alone; KnobError when it does not say."""
    answer = _tell(root, pid, "setup")
    if not answer.startswith("SLEEP "):
        raise KnobError(f"irqbalance (process {pid}) did not answer on its socket; as root?")
    return frozenset(int(number) for number in re.findall(r"\bIRQ (\d+)", answer))


def ban(root: Path, pid: int, interrupts: Collection[int]) -> None:
    """Has the daemon leave these interrupts alone, no others. KnobError when it cannot be told."""
    listed = " ".join(str(number) for number in sorted(interrupts)) or "NONE"
    if len(listed) > _LONGEST:
        raise KnobError(
            f"irqbalance takes a list of {_LONGEST} bytes, which is too short for "
            f"{len(interrupts)} interrupts",
            "systemctl stop irqbalance",
        )
    _tell(root, pid, f"settings ban irqs {listed}")


def _tell(root: Path, pid: int, message: str) -> str:
    """Sends one message and gives the answer, empty where there is none."""
    try:
        with _connect(root, pid) as client:
            credentials = struct.pack("iII", os.getpid(), os.geteuid(), os.getegid())
            ancillary = (socket.SOL_SOCKET, socket.SCM_CREDENTIALS, credentials)
            client.sendmsg([message.encode()], [ancillary])
            answer = b""
            while data := client.recv(4096):
                answer += data
            return answer.decode(errors="replace")
    except OSError as error:
        words = error.strerror or str(error)
        raise KnobError(
            f"irqbalance (process {pid}) cannot be told: {words}",
            'systemctl stop irqbalance, or irq.irqbalance = "report"',
        ) from error


def _connect(root: Path, pid: int) -> socket.socket:
    """The file below `root`, or the abstract name of this host's own daemon."""
    client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    client.settimeout(_TIMEOUT_S)
    try:
        _connect_file(client, root / "run/irqbalance", f"irqbalance{pid}.sock")
    except OSError:
        try:
            if root != Path("/"):
                raise
            client.connect(f"\0irqbalance{pid}.sock")
        except OSError:
            client.close()
            raise
    return client


def _connect_file(client: socket.socket, directory: Path, name: str) -> None:
    """By way of the directory's descriptor: an address of unix(7) holds 107 bytes of path."""
    handle = os.open(directory, os.O_PATH | os.O_DIRECTORY)
    try:
        client.connect(f"/proc/self/fd/{handle}/{name}")
    finally:
        os.close(handle)
