"""Restoring is not broken off: Ctrl-C and SIGTERM wait until the host is as it was.

Children lead sessions of their own, so that the terminal's Ctrl-C does not reach the tools that
restore. SIGKILL is what the journal is for.
"""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

_ASKING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextmanager
def undisturbed() -> Iterator[None]:
    """Puts signals that ask for an end off until the `with` is left; says so, and obeys then.

    Only the main thread handles signals: in others, and inside of another `undisturbed`, nothing is
    to be done.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        if not came:
            print("iolab: restoring the host first", file=sys.stderr)
        came.append(number)

    # A handler that is not Python's (None) cannot be put back, and what is ignored stays so.
    before: dict[int, Callable[[int, FrameType | None], Any] | int] = {}
    for asking in _ASKING:
        handler = signal.getsignal(asking)
        if handler is not None and handler != signal.SIG_IGN:
            before[asking] = handler
            signal.signal(asking, note)
    try:
        yield
    finally:
        for number, kept in before.items():
            signal.signal(number, kept)
        if came:
            signal.raise_signal(came[0])
