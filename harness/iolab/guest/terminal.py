"""The caller's terminal as the terminal of an interactive guest."""

from __future__ import annotations

import contextlib
import os
import selectors
import shutil
import socket
import sys
import termios
import tty
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from iolab.guest.session import Terminal

_POLL_S = 0.2
_CHUNK = 1 << 16


def own_terminal() -> Terminal:
    """This process's terminal; only where stdin and stdout are one."""
    size = shutil.get_terminal_size()
    name = os.environ.get("TERM", "linux")
    return Terminal(name, size.lines, size.columns, _relay_own)


def _relay_own(path: Path, alive: Callable[[], bool]) -> None:
    with socket.socket(socket.AF_UNIX) as guest, _raw(sys.stdin.fileno()):
        guest.connect(str(path))
        relay(guest, sys.stdin.fileno(), sys.stdout.fileno(), alive)


def relay(guest: socket.socket, source: int, sink: int, alive: Callable[[], bool]) -> None:
    """Moves bytes from `source` to the guest and from the guest to `sink`, until the guest ends.

    The end of `source` ends only that direction: the guest's shell has yet to finish.
    """
    with selectors.DefaultSelector() as selector:
        selector.register(guest, selectors.EVENT_READ)
        selector.register(source, selectors.EVENT_READ)
        while alive():
            for key, _ in selector.select(_POLL_S):
                if key.fileobj is guest:
                    data = _receive(guest)
                    if not data:
                        return
                    os.write(sink, data)
                elif data := os.read(source, _CHUNK):
                    guest.sendall(data)
                else:
                    selector.unregister(source)


def _receive(guest: socket.socket) -> bytes:
    """Bytes of the guest; none once it has ended, also when it did not say good-bye."""
    with contextlib.suppress(ConnectionError):
        return guest.recv(_CHUNK)
    return b""


@contextmanager
def _raw(terminal: int) -> Iterator[None]:
    """Every key goes to the guest, Ctrl-C too; the terminal is as it was afterwards."""
    before = termios.tcgetattr(terminal)
    try:
        tty.setraw(terminal)
        yield
    finally:
        termios.tcsetattr(terminal, termios.TCSADRAIN, before)
