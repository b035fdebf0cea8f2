"""Whether stillness is told from a pause: processes that stop reading in one way or another."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
from collections.abc import Iterator

from client import DEADLINE_S
from relay_client import until
from stillness import Stillness, tcp_rows, window_is_closed

READER = """
import signal, socket, sys
listener = socket.create_server(("127.0.0.1", 0))
print(listener.getsockname()[1], flush=True)
sock, _ = listener.accept()
while sys.argv[1] == "spins":
    pass
while sys.argv[1] == "reads" and sock.recv(1 << 20):
    pass
signal.pause()
"""


@contextlib.contextmanager
def reader(does: str) -> Iterator[tuple[int, socket.socket]]:
    """A process that accepts a connection and then sleeps, spins or reads; and a sender to it."""
    argv = [sys.executable, "-c", READER, does]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            address = ("127.0.0.1", int(process.stdout.readline()))
            with socket.create_connection(address, timeout=DEADLINE_S) as sender:
                yield process.pid, sender
        finally:
            process.kill()


def fill(pid: int, sender: socket.socket) -> None:
    """Sends until the receiver's window is closed."""
    sender.setblocking(False)

    def closed() -> bool:
        with contextlib.suppress(BlockingIOError):
            while True:
                sender.send(bytes(1 << 16))
        return window_is_closed(pid, sender)

    until(closed, "a closed window")


def test_a_process_that_sleeps_and_does_not_read_stands_still() -> None:
    with reader("sleeps") as (pid, sender):
        assert not Stillness(pid, sender).look()  # nothing was sent: the window is open
        fill(pid, sender)
        until(Stillness(pid, sender).look, "a process that sleeps")


def test_a_process_that_runs_may_still_read() -> None:
    with reader("spins") as (pid, sender):
        fill(pid, sender)
        assert not any(Stillness(pid, sender).look() for _ in range(20))


def test_a_process_that_has_read_all_waits_for_more() -> None:
    with reader("reads") as (pid, sender):
        sender.sendall(bytes(8 << 20))
        inode = os.fstat(sender.fileno()).st_ino
        until(lambda: not tcp_rows(pid)[inode].queued_bytes, "the last acknowledgement")
        assert not any(Stillness(pid, sender).look() for _ in range(20))


def test_of_a_process_that_is_gone_nothing_is_known() -> None:
    with reader("sleeps") as (pid, sender):
        fill(pid, sender)
    with socket.socket() as other:
        assert not Stillness(pid, other).look()
