"""The relay's transfers to one receiver: order, bytes, framing, progress, backpressure."""

from __future__ import annotations

import random
import socket

import pytest
from client import Sanitizer, Server
from relay_client import (
    Party,
    background,
    chunk,
    digest,
    head,
    payload,
    push_until_blocked,
    receiver,
    sender,
    transfers,
    until,
    until_empty,
    until_waiting,
    upload,
    words,
)

SIZES = [0, 1, 4095, 4096, 4097, 65535, 65536, 65537, (1 << 20) + 7]


def one_transfer(server: Server, path: str, data: bytes, chunks: list[int] | None = None) -> Party:
    """A whole transfer, receiver first; returns the receiver, its body compared."""
    to = receiver(server, path)
    frm = sender(server, path, None if chunks else len(data))
    thread = upload(frm, data, chunks)
    to.read_fields()
    assert to.status == 200
    assert digest(to.read_body()) == digest(data)
    thread.join()
    assert words(frm)[-1] == "done"
    frm.sock.close()
    return to


@pytest.mark.parametrize("size", SIZES)
def test_sizes_with_a_length(relay: Server, size: int) -> None:
    with one_transfer(relay, f"/len{size}", payload(size)) as to:
        assert to.field("content-length") == str(size)
        assert to.field("transfer-encoding") is None


@pytest.mark.parametrize("size", SIZES)
def test_sizes_in_chunks(relay: Server, size: int) -> None:
    source = random.Random(size)
    chunks = [source.randint(1, max(2, size // 5)) for _ in range(7)]
    with one_transfer(relay, f"/chunks{size}", payload(size), chunks) as to:
        assert to.field("transfer-encoding") == "chunked"
        assert to.field("content-length") is None


def test_large(relay: Server, sanitizer: Sanitizer) -> None:
    size = (3 if sanitizer.active else 8) << 20
    one_transfer(relay, "/large", payload(size)).sock.close()
    one_transfer(relay, "/large", payload(size), [100_000, 7, 70_000]).sock.close()


def test_sender_first_and_nothing_before(relay: Server) -> None:
    frm = sender(relay, "/first", 5)
    frm.send(b"hello")
    frm.read_fields()
    assert frm.status == 200
    assert frm.read_chunk().startswith(b"waiting:")
    to = receiver(relay, "/first")
    to.read_fields()
    assert to.read_body() == b"hello"
    rest = frm.read_body()
    assert [line.split(b":")[0] for line in rest.splitlines()] == [b"receiver", b"sending", b"done"]

    to2 = receiver(relay, "/later")
    until_waiting(relay, "/later")
    assert to2.quiet(), "a byte before the sender came"
    frm2 = sender(relay, "/later", 2)
    frm2.send(b"ok")
    to2.read_fields()
    assert to2.read_body() == b"ok"
    for party in (frm, to, frm2, to2):
        party.sock.close()


def test_body_beside_the_head_and_head_in_pieces(relay: Server) -> None:
    data = payload(3000)
    to = receiver(relay, "/beside")
    frm = Party(relay.address)
    frm.send(head("POST", "/beside", "1.1", [("Content-Length", "3000")]) + data)
    to.read_fields()
    assert to.read_body() == data
    assert words(frm)[-1] == "done"
    frm.send(head("PUT", "/pieces", "1.1", [("Content-Length", "2")])[:20])
    text = head("PUT", "/pieces", "1.1", [("Content-Length", "2")])[20:] + b"ok"
    for at in range(len(text)):
        frm.send(text[at : at + 1])
    to.send(head("GET", "/pieces"))
    to.read_fields()
    assert to.read_body() == b"ok"
    assert words(frm)[-1] == "done"
    frm.sock.close()
    to.sock.close()


def test_the_path_is_the_key(relay: Server) -> None:
    to = receiver(relay, "/key?who=me")
    frm = sender(relay, "/key?other=1&x", 1)
    frm.send(b"k")
    to.read_fields()
    assert to.read_body() == b"k"
    frm.sock.close()
    to.sock.close()


def test_one_byte_is_delivered_at_once(relay: Server) -> None:
    for length in (10, None):
        to = receiver(relay, "/byte")
        until_waiting(relay, "/byte")
        frm = sender(relay, "/byte", length)
        to.read_fields()
        for i in range(10):
            byte = bytes([65 + i])
            frm.send(byte if length else chunk(byte))
            assert to.read_some(1) == byte
        if length is None:
            frm.send(b"0\r\n\r\n")
            assert to.read_chunk() == b""
        assert words(frm)[-1] == "done"
        frm.sock.close()
        to.sock.close()


def test_a_chunk_that_trickles_is_delivered_at_once(relay: Server) -> None:
    to = receiver(relay, "/trickle")
    frm = sender(relay, "/trickle", None)
    frm.send(b"4;ext=1\r\n")
    for byte in (b"a", b"b", b"c", b"d"):
        frm.send(byte)
        if byte == b"a":
            to.read_fields()
            assert int(to.read_line(), 16) == 4
        assert to.read_exactly(1) == byte
    frm.send(b"\r\n0\r\nTrailer: x\r\n\r\n")
    to.line_end_due = True
    assert to.read_body() == b""
    assert words(frm)[-1] == "done"
    frm.sock.close()
    to.sock.close()


def test_keep_alive_on_both_sides(relay: Server) -> None:
    to, frm = Party(relay.address), Party(relay.address)
    for i in range(60):
        data = payload(i * 37, i)
        to.send(head("GET", f"/keep{i % 3}"))
        if i % 2:
            frm.send(head("PUT", f"/keep{i % 3}", "1.1", [("Content-Length", str(len(data)))]))
            frm.send(data)
        else:
            frm.send(head("PUT", f"/keep{i % 3}", "1.1", [("Transfer-Encoding", "chunked")]))
            frm.send((chunk(data) if data else b"") + b"0\r\n\r\n")
        to.read_fields()
        assert to.read_body() == data, i
        assert words(frm)[-1] == "done"
    frm.sock.close()
    to.sock.close()


def test_pipelined_transfers(relay: Server) -> None:
    to, frm = Party(relay.address), Party(relay.address)
    to.send(b"".join(head("GET", f"/pipe{i}") for i in range(5)))
    for i in range(5):
        frm.send(head("PUT", f"/pipe{i}", "1.1", [("Content-Length", "3")]) + b"abc")
    for _ in range(5):
        to.read_fields()
        assert to.read_body() == b"abc"
        assert words(frm)[-1] == "done"
    frm.sock.close()
    to.sock.close()


def test_http_1_0_receiver(relay: Server) -> None:
    data = payload(100_000)
    for length in (len(data), None):
        to = receiver(relay, "/old", "1.0")
        frm = sender(relay, "/old", length)
        thread = upload(frm, data, None if length else [30_000])
        to.read_fields()
        assert to.field("transfer-encoding") is None
        assert (to.field("content-length") == str(length)) == (length is not None)
        assert digest(to.read_to_end()) == digest(data)
        thread.join()
        assert words(frm)[-1] == "done"
        frm.sock.close()


def test_http_1_0_sender(relay: Server) -> None:
    to = receiver(relay, "/oldsender")
    frm = sender(relay, "/oldsender", 4, "1.0")
    frm.send(b"old!")
    to.read_fields()
    assert to.read_body() == b"old!"
    frm.read_fields()
    assert frm.field("transfer-encoding") is None
    assert b"\ndone: " in b"\n" + frm.read_to_end()
    to.sock.close()


def test_no_body_is_an_empty_one(relay: Server) -> None:
    to = receiver(relay, "/nobody")
    frm = Party(relay.address)
    frm.send(head("POST", "/nobody"))
    to.read_fields()
    assert to.field("content-length") == "0"
    assert to.read_body() == b""
    assert words(frm)[-1] == "done"


def test_continue_is_said_before_the_answer(relay: Server) -> None:
    frm = sender(relay, "/expect", 2, fields=[("Expect", "100-continue")])
    assert frm.read_line() == b"HTTP/1.1 100 Continue"
    assert frm.read_line() == b""
    frm.send(b"ok")
    to = receiver(relay, "/expect")
    to.read_fields()
    assert to.read_body() == b"ok"
    assert words(frm) == ["waiting", "receiver", "sending", "done"]
    frm.sock.close()
    to.sock.close()


def test_progress_is_seen_half_way(relay: Server) -> None:
    size = 1 << 20
    before = relay.total("transfers")
    to = receiver(relay, "/progress")
    until_waiting(relay, "/progress")
    [seen] = transfers(relay)
    assert (seen["state"], seen["waits_for"], seen["total_bytes"]) == ("waiting", "sender", None)
    frm = sender(relay, "/progress", size)
    to.read_fields()
    moved = 0
    for part in (1000, 100_000, 400_000):
        data = payload(part)
        thread = upload(frm, data)
        assert to.read_exactly(part) == data
        thread.join()
        moved += part
        until(lambda: transfers(relay)[0]["bytes"] == moved, "bytes in /status")  # noqa: B023
    [seen] = transfers(relay)
    assert (seen["state"], seen["waits_for"]) == ("running", None)
    assert (seen["total_bytes"], seen["receivers"], seen["receivers_here"]) == (size, 1, 1)
    assert seen["age_ns"] >= seen["running_ns"] > 0
    assert '"/progress"' in relay.ask("status")
    frm.send(payload(size - moved))
    to.read_exactly(size - moved)
    assert words(frm)[-1] == "done"
    until_empty(relay)
    assert relay.total("transfers") == before + 1
    frm.sock.close()
    to.sock.close()


def test_backpressure_reaches_the_sender(relay: Server) -> None:
    """Nobody reads: the sender must block, and get on when somebody does."""
    size = 192 << 20
    to = receiver(relay, "/press", rcvbuf=1 << 17)
    frm = sender(relay, "/press", size)
    to.read_fields()
    piece = payload(1 << 20)
    sent = push_until_blocked(relay, frm.sock, piece, 128 << 20)  # a queue of 64 MiB, sockets
    total = sent + (1 << 20)

    def rest() -> None:
        at = sent
        while at < total:
            at += frm.sock.send(piece[at % len(piece) :][: total - at])

    thread = background(rest)
    at = 0
    while at < total:
        want = min(1 << 20, total - at)
        assert to.read_exactly(want) == piece[:want], f"wrong bytes at {at}"
        at += want
    thread.join()
    frm.reset()
    to.sock.close()
    until_empty(relay)


def test_a_path_is_free_again(relay: Server) -> None:
    for i in range(30):
        one_transfer(relay, "/again", payload(100, i)).sock.close()
    until_empty(relay)


def test_urgent_close_of_an_idle_transfer(relay: Server) -> None:
    """Neither side moves a byte when the other leaves: it must be noticed all the same."""
    to = receiver(relay, "/idle")
    frm = sender(relay, "/idle", 100)
    frm.send(b"x")
    to.read_fields()
    to.read_exactly(1)
    to.sock.shutdown(socket.SHUT_RDWR)
    to.sock.close()
    assert words(frm)[-1] == "failed"
    until_empty(relay)
