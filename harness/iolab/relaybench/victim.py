"""A client of the relay that goes as far as it is told, says so, and waits to be killed.

    python victim.py send|receive HOST PORT PATH before|head|body|end

Run as a file of its own and without the package: hundreds are started, and each must be quick.
"""

import signal
import socket
import sys

SIZE = 1 << 18  # of what is sent to the end; what is sent for ever announces far more
PIECE = 1 << 14
ENDLESS = 1 << 40


def main() -> None:
    """Does what the command line says."""
    side, host, port, path, moment = sys.argv[1:6]
    with socket.create_connection((host, int(port)), timeout=30) as sock:
        (send if side == "send" else receive)(sock, path, moment)
        here()
        signal.pause()


def here() -> None:
    """Tells who kills that the moment has come."""
    sys.stdout.write("here\n")
    sys.stdout.flush()


def send(sock: socket.socket, path: str, moment: str) -> None:
    """The sender, up to `moment`. In the body it goes on sending until it is killed."""
    size = SIZE if moment == "end" else ENDLESS
    head = f"PUT {path} HTTP/1.1\r\nHost: v\r\nContent-Length: {size}\r\n\r\n".encode()
    if moment == "head":
        sock.sendall(head[: len(head) // 2])
        return
    sock.sendall(head)
    sock.recv(1)  # the relay answers at once: it has seen the request
    if moment == "end":
        sock.sendall(bytes(SIZE))
    elif moment == "body":
        sock.sendall(bytes(PIECE))
        here()
        sock.settimeout(None)
        while True:
            sock.sendall(bytes(PIECE))


def receive(sock: socket.socket, path: str, moment: str) -> None:
    """The receiver, up to `moment`. In the body it goes on receiving until it is killed."""
    head = f"GET {path} HTTP/1.1\r\nHost: v\r\n\r\n".encode()
    if moment == "head":
        sock.sendall(head[: len(head) // 2])
        return
    sock.sendall(head)
    if moment == "before":
        return
    got = b""
    while b"\r\n\r\n" not in got:
        data = sock.recv(4096)
        if not data:
            sys.exit("closed before the head of the response was complete")
        got += data
    if moment == "body":
        here()
        sock.settimeout(None)
        while sock.recv(4096):
            pass
        return
    left = SIZE - len(got.split(b"\r\n\r\n", 1)[1])
    while left > 0 and (data := sock.recv(min(left, 1 << 16))):
        left -= len(data)


if __name__ == "__main__":
    main()
