from __future__ import annotations

import os
import socket
import threading

from iolab.guest.terminal import relay


def test_bytes_go_both_ways_until_the_guest_ends() -> None:
    guest, far = socket.socketpair()
    keys, typed = os.pipe()
    screen, shown = os.pipe()
    thread = threading.Thread(target=relay, args=(guest, keys, shown, lambda: True))
    thread.start()
    os.write(typed, b"ls\x03")
    assert far.recv(100) == b"ls\x03"
    os.close(typed)  # the end of the input does not end the guest
    far.sendall(b"file\r\n")
    assert os.read(screen, 100) == b"file\r\n"
    far.close()
    thread.join(timeout=30)
    assert not thread.is_alive()
    for descriptor in (keys, screen, shown):
        os.close(descriptor)
    guest.close()


def test_it_ends_with_the_process_too() -> None:
    guest, far = socket.socketpair()
    keys, typed = os.pipe()
    relay(guest, keys, typed, lambda: False)
    for one in (guest, far):
        one.close()
    for descriptor in (keys, typed):
        os.close(descriptor)
