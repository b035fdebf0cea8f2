"""One upload for several receivers: the same bytes for all, at the pace of the slowest."""

from __future__ import annotations

import pytest
from client import Server
from relay_client import (
    Party,
    background,
    digest,
    payload,
    receiver,
    sender,
    until_empty,
    upload,
    words,
)
from stillness import LOOK_S, Stillness


@pytest.mark.parametrize("n", [2, 3, 8])
def test_fan_out_gives_everybody_the_same(relay: Server, n: int) -> None:
    data = payload(700_001)
    for length in (len(data), None):
        tos = [receiver(relay, f"/fan?n={n}") for _ in range(n)]
        frm = sender(relay, f"/fan?n={n}", length)
        thread = upload(frm, data, None if length else [100_000, 3])
        bodies: list[bytes] = [b""] * n

        def read(i: int, party: Party, into: list[bytes]) -> None:
            party.read_fields()
            into[i] = party.read_body()

        readers = [
            background(lambda i=i, t=t, b=bodies: read(i, t, b))  # type: ignore[misc]
            for i, t in enumerate(tos)
        ]
        for reader in readers:
            reader.join()
        thread.join()
        assert {digest(body) for body in bodies} == {digest(data)}
        assert words(frm).count("receiver") == n
        for party in (frm, *tos):
            party.sock.close()


def read_until_quiet(server: Server, frm: Party, to: Party, limit: int) -> int:
    """Reads, at most limit bytes, until the server takes no more of what the sender has for it."""
    got = 0
    still = Stillness(server.proc.pid, frm.sock)
    to.sock.settimeout(LOOK_S)
    while got < limit:
        try:
            data = to.sock.recv(min(1 << 20, limit - got))
        except TimeoutError:
            if still.reached():
                break
            continue
        assert data, f"the stream ended after {got} bytes"
        got += len(data)
        still = Stillness(server.proc.pid, frm.sock)
    return got


def test_the_slowest_receiver_governs(relay: Server) -> None:
    """The fast one cannot be ahead by more than what the sockets of the slow one hold."""
    size = 12 << 20
    fast, slow = receiver(relay, "/slow?n=2"), receiver(relay, "/slow?n=2", rcvbuf=1 << 17)
    frm = sender(relay, "/slow?n=2", size)
    piece = payload(1 << 20)
    thread = background(lambda: [frm.send(piece) for _ in range(12)] and None)
    fast.read_fields()
    slow.read_fields()
    got = len(fast.buffer) + read_until_quiet(relay, frm, fast, size - len(fast.buffer))
    policy = "policy=buffered" in relay.spec or "policy=hybrid" in relay.spec
    assert got < (size if not policy else size + 1), got
    fast.sock.settimeout(20)
    rest = background(lambda: slow.read_exactly(size) and None)
    while got < size:
        data = fast.sock.recv(1 << 20)
        assert data
        got += len(data)
    rest.join()
    thread.join()
    assert words(frm)[-1] == "done"
    for party in (frm, fast, slow):
        party.sock.close()


def test_one_of_three_leaves_half_way(relay: Server) -> None:
    size = 8 << 20  # more than the sockets of the one that leaves can hold
    data = payload(size)
    tos = [receiver(relay, "/three?n=3", rcvbuf=1 << 17 if i == 1 else None) for i in range(3)]
    frm = sender(relay, "/three?n=3", size)
    thread = upload(frm, data)
    for to in tos:
        to.read_fields()
        to.read_exactly(1000)
    tos[1].reset()
    first = background(lambda: tos[0].read_exactly(size - 1000) and None)
    assert digest(tos[2].read_exactly(size - 1000)) == digest(data[1000:])
    first.join()
    thread.join()
    frm.read_fields()
    last = frm.read_body().decode().splitlines()[-1]
    assert last.startswith("done:")
    assert "1 of 3" in last
    for party in (frm, tos[0], tos[2]):
        party.sock.close()


def test_all_of_them_leave_half_way(relay: Server) -> None:
    tos = [receiver(relay, "/all?n=2") for _ in range(2)]
    frm = sender(relay, "/all?n=2", 1 << 30)
    frm.send(payload(100_000))
    for to in tos:
        to.read_fields()
        to.read_exactly(10)
        to.reset()
    thread = background(lambda: [frm.send(b"x" * 65536) for _ in range(400)] and None)
    assert words(frm)[-1] == "failed"
    thread.join()
    until_empty(relay)
