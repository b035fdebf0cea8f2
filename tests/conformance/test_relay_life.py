"""The relay's parties: leaving at any moment, many at once, draining, memory, curl."""

from __future__ import annotations

import contextlib
import os
import random
import socket
import subprocess
import time
from pathlib import Path

import pytest
from client import DEADLINE_S, ProtocolError, Sanitizer, Server, running
from relay_client import (
    Party,
    background,
    chunk,
    digest,
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


def test_nobody_who_waits_keeps_a_worker_busy(relay: Server) -> None:
    with contextlib.ExitStack() as stack:

        def enter(party: Party) -> Party:
            stack.callback(party.reset)
            return party

        enter(sender(relay, "/idle-sender", 10))
        enter(receiver(relay, "/idle-receiver"))
        half = enter(receiver(relay, "/idle-half"))
        until_waiting(relay, "/idle-half")
        half.sock.shutdown(socket.SHUT_WR)  # it may still be served
        stuck = enter(sender(relay, "/idle-stuck", 100_000_000))
        slow = enter(receiver(relay, "/idle-stuck", rcvbuf=16384))
        slow.read_fields()
        push_until_blocked(relay, stuck.sock, bytes(1 << 16), 100_000_000)
        calls = relay.counters()["total"]["syscalls"]
        time.sleep(0.5)
        later = relay.counters()["total"]["syscalls"]
        # Ticks of two workers, and what the last bytes into buffers cause; a spin is 100,000.
        assert sum(later.values()) - sum(calls.values()) < 2_000
    until_empty(relay)


@pytest.mark.parametrize("how", ["fin", "rst"])
@pytest.mark.parametrize("side", ["sender", "receiver"])
def test_leaving_before_the_transfer_frees_the_slot(relay: Server, side: str, how: str) -> None:
    for length in (100, None):
        party = sender(relay, "/left", length) if side == "sender" else receiver(relay, "/left")
        until(lambda: transfers(relay), "somebody who waits")
        if how == "rst":
            party.reset()
        else:
            party.sock.close()
        until_empty(relay)
    frm, to = sender(relay, "/left", 2), receiver(relay, "/left")
    frm.send(b"ok")
    to.read_fields()
    assert to.read_body() == b"ok"


def test_one_of_two_receivers_leaves_before(relay: Server) -> None:
    first, second = receiver(relay, "/two?n=2"), receiver(relay, "/two?n=2")
    until_waiting(relay, "/two", 2)
    first.reset()
    until_waiting(relay, "/two", 1)
    frm = sender(relay, "/two?n=2", 2)
    frm.send(b"ok")
    assert second.quiet()
    third = receiver(relay, "/two?n=2")
    for to in (second, third):
        to.read_fields()
        assert to.read_body() == b"ok"
    assert words(frm)[-1] == "done"


def test_a_half_closed_sender_is_legitimate(relay: Server) -> None:
    frm = sender(relay, "/half", 5)
    frm.send(b"whole")
    frm.half_close()
    frm.read_fields()
    assert frm.read_chunk().startswith(b"waiting")
    assert frm.read_chunk().startswith(b"waiting")  # the word that finds out the dead
    to = receiver(relay, "/half")
    to.read_fields()
    assert to.read_body() == b"whole"
    assert frm.read_body().decode().splitlines()[-1].startswith("done")


@pytest.mark.parametrize("how", ["fin", "rst"])
@pytest.mark.parametrize("framing", ["length", "chunked", "old receiver"])
def test_a_sender_that_dies_half_way_shows(relay: Server, framing: str, how: str) -> None:
    to = receiver(relay, "/dies", "1.0" if framing == "old receiver" else "1.1")
    frm = sender(relay, "/dies", 1000 if framing == "length" else None)
    frm.send(b"x" * 500 if framing == "length" else chunk(b"x" * 500))
    to.read_fields()
    to.read_some(500)
    if how == "rst":
        frm.reset()
    else:
        frm.sock.close()
    with pytest.raises(ProtocolError):
        to.read_body()
    until_empty(relay)


def test_malformed_chunks_break_the_response(relay: Server) -> None:
    to = receiver(relay, "/malformed")
    frm = sender(relay, "/malformed", None)
    frm.send(chunk(b"fine") + b"zz\r\n")
    to.read_fields()
    with pytest.raises(ProtocolError):
        to.read_body()
    assert words(frm)[-1] == "failed"


def test_a_receiver_that_leaves_stops_the_sender(relay: Server) -> None:
    to = receiver(relay, "/stops")
    frm = sender(relay, "/stops", 1 << 40)
    frm.send(payload(100_000))
    to.read_fields()
    to.read_exactly(1000)
    to.reset()
    assert words(frm)[-1] == "failed"
    sent, end = 0, time.monotonic() + DEADLINE_S
    with contextlib.suppress(ConnectionError):
        while time.monotonic() < end:
            sent += frm.sock.send(b"x" * 65536)
    assert time.monotonic() < end, f"still taken after {sent} bytes"
    until_empty(relay)


def test_many_pairs_on_several_workers(binary: Path, relay_name: str, sanitizer: Sanitizer) -> None:
    nr = 40 if sanitizer.active else 150
    with running(binary, relay_name, None, "--workers", "4", role="relay") as server:
        tos = [receiver(server, f"/many{i}") for i in range(nr)]
        frms = [sender(server, f"/many{i}", 1000) for i in range(nr)]
        for i, frm in enumerate(frms):
            frm.send(payload(1000, i))
        for i, to in enumerate(tos):
            to.read_fields()
            assert to.read_body() == payload(1000, i), i
        assert all(words(frm)[-1] == "done" for frm in frms)
        fans = [receiver(server, "/wide?n=9") for _ in range(9)]
        frm = sender(server, "/wide?n=9", 5)
        frm.send(b"wide!")
        for to in fans:
            to.read_fields()
            assert to.read_body() == b"wide!"
        assert server.total("moves") > 0
        until_empty(server)
        for party in (*tos, *frms, *fans, frm):
            party.sock.close()


def nr_kernel_threads(server: Server) -> int:
    """Threads that the kernel made for operations of the server's rings (io-wq)."""
    nr = 0
    for task in Path(f"/proc/{server.proc.pid}/task").iterdir():
        with contextlib.suppress(OSError):  # it has ended
            nr += (task / "comm").read_text().startswith("iou-wrk")
    return nr


def test_receivers_that_stand_still_keep_no_thread(binary: Path, relay_name: str) -> None:
    """A small send buffer is what slow links have: writable is then less than a pipe holds."""
    nr, body, data = 150, bytes(1 << 17), payload(1 << 18)
    with running(binary, f"{relay_name},sndbuf=16384", None, role="relay") as server:
        tos = [receiver(server, f"/still{i}", rcvbuf=4096) for i in range(nr)]
        frms = [sender(server, f"/still{i}", len(body)) for i in range(nr)]
        for frm in frms:
            frm.send(body)
        for to in tos:
            to.read_fields()
        to = receiver(server, "/moves")
        frm = sender(server, "/moves", len(data))
        thread = upload(frm, data)
        to.read_fields()
        assert digest(to.read_body()) == digest(data)
        thread.join()
        assert words(frm)[-1] == "done"
        assert nr_kernel_threads(server) < 2 * nr // 3  # idle ones included
        assert len(transfers(server)) == nr
        for party in (*tos, *frms):
            party.reset()
        until_empty(server)
        to.sock.close()
        frm.sock.close()


def test_drain_ends_waiting_parties_and_finishes_transfers(binary: Path, relay_name: str) -> None:
    args = ("--workers", "2", "--drain-timeout", "15000", "--linger-timeout", "300")
    with running(binary, relay_name, None, *args, role="relay") as server:
        to = receiver(server, "/last")
        frm = sender(server, "/last", 10)
        frm.send(b"12345")
        to.read_fields()
        to.read_exactly(5)
        lonely_to, lonely_frm = receiver(server, "/nobody"), sender(server, "/noone", 5)
        until(lambda: len(transfers(server)) == 3, "three names")
        server.signal()
        assert words(lonely_frm)[-1] == "failed"
        lonely_to.read_fields()
        assert lonely_to.status == 503
        frm.send(b"67890")
        assert to.read_exactly(5) == b"67890"
        assert words(frm)[-1] == "done"
        for party in (to, frm, lonely_to, lonely_frm):
            party.sock.close()


def test_nobody_came_in_time(binary: Path, relay_name: str) -> None:
    args = ("--wait-timeout", "200", "--linger-timeout", "300")
    with running(binary, relay_name, None, *args, role="relay") as server:
        frm, to = sender(server, "/alone", 1), receiver(server, "/too")
        assert words(frm)[-1] == "failed"
        to.read_fields()
        assert to.status == 408


def abort_one(server: Server, source: random.Random, name: str) -> None:
    """One transfer of which one side is torn at a random moment."""
    size = source.choice([0, 10, 5000, 300_000])
    chunked = source.random() < 0.4
    parties = [sender(server, name, None if chunked else size), receiver(server, name)]
    frm, to = parties
    with contextlib.suppress(OSError):
        frm.sock.setblocking(False)
        for _ in range(source.choice([0, 0, 1, 3])):
            piece = payload(source.randint(1, size or 1))
            frm.sock.send(chunk(piece) if chunked else piece)
        if source.random() < 0.5:
            to.sock.settimeout(0.01)
            to.sock.recv(source.choice([1, 100, 100_000]))
    source.shuffle(parties)
    for party in parties:
        if source.random() < 0.5:
            party.reset()
        else:
            party.sock.close()


def test_random_aborts_leak_nothing(
    relay: Server, sanitizer: Sanitizer, pytestconfig: pytest.Config
) -> None:
    """Ten thousand with --slow; each of them with 4 fresh descriptors at most."""
    nr = 10_000 if pytestconfig.getoption("--slow") else 60 if sanitizer.active else 400
    until_empty(relay)
    relay.until("connections", 1 - 1)
    before = relay.nr_descriptors()
    source = random.Random(11)
    for i in range(nr):
        abort_one(relay, source, f"/abort{i % 7}")
    until_empty(relay)
    relay.until("connections", 0)
    pooled = 2 * relay.total("pipes")
    assert relay.total("pipes") < 80
    until(lambda: relay.nr_descriptors() <= before + pooled + 4, "descriptors given back")
    frm, to = sender(relay, "/after", 2), receiver(relay, "/after")
    frm.send(b"ok")
    to.read_fields()
    assert to.read_body() == b"ok"


def test_waiting_is_cheap(
    binary: Path, relay_name: str, sanitizer: Sanitizer, described: dict[str, list[dict[str, str]]]
) -> None:
    """A pair that waits costs 8 KiB, or the pages that two threads touch of their stacks."""
    if sanitizer.active:
        pytest.skip("a sanitizer's memory says nothing of the server's")
    [engine] = [e for e in described["engines"] if e["name"] == relay_name.split(",")[0]]
    limit = 40960 if engine["driver"] == "blocking" else 8192
    with running(binary, relay_name, None, "--workers", "1", role="relay") as server:
        parties = [receiver(server, "/warm0"), sender(server, "/warm1", 100)]
        until(lambda: len(transfers(server)) == 2, "two names")
        before, greeted = server.resident_bytes(), server.total("responses_2xx")
        for i in range(1000):
            parties += [receiver(server, f"/r{i}"), sender(server, f"/s{i}", 100)]
        # Not by /status: its document of 2,002 names would be the larger part of what is measured.
        server.until("connections", 2002)
        server.until("responses_2xx", greeted + 1000)
        grown = server.resident_bytes() - before
        until(lambda: len(transfers(server)) == 2002, "2002 names")
        assert grown < 1000 * limit, f"{grown / 1000:.0f} bytes a pair"
        for party in parties:
            party.sock.close()
        server.until("connections", 0)
        assert not transfers(server)


def curl(*args: str, data: bytes | None = None) -> subprocess.Popen[bytes]:
    """A curl that runs beside the test."""
    argv = ["curl", "-sS", "--max-time", str(int(DEADLINE_S)), *args]
    stdin = subprocess.PIPE if data is not None else subprocess.DEVNULL
    process = subprocess.Popen(argv, stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    if data is not None:
        pipe = process.stdin
        assert pipe is not None
        process.stdin = None

        def feed() -> None:
            with contextlib.suppress(BrokenPipeError), pipe:
                pipe.write(data)

        background(feed)
    return process


def test_curl_sends_and_receives(relay: Server, tmp_path: Path) -> None:
    url = f"http://{relay.address[0]}:{relay.address[1]}"
    data = payload(3_000_000)
    file = tmp_path / "data"
    file.write_bytes(data)
    uploads = [
        (["-T", str(file)], None),  # with Expect: 100-continue
        (["-T", "-"], data),  # chunked
        (["--data-binary", f"@{file}"], None),
        (["-F", f"f=@{file};type=text/html"], None),
    ]
    for how, stdin in uploads:
        for version in ("--http1.1", "--http1.0"):
            to = curl(version, "-o", str(tmp_path / "out"), "-D", "-", f"{url}/curl")
            frm = curl(*how, f"{url}/curl", data=stdin)
            heads, error = to.communicate(timeout=DEADLINE_S * 2)
            text, _ = frm.communicate(timeout=DEADLINE_S * 2)
            assert (to.returncode, frm.returncode) == (0, 0), (how, version, error, text)
            assert digest((tmp_path / "out").read_bytes()) == digest(data)
            assert text.decode().splitlines()[-1].startswith("done:")
            assert b"200 OK" in heads


def test_a_killed_curl_is_noticed(relay: Server) -> None:
    url = f"http://{relay.address[0]}:{relay.address[1]}/killed"
    for side in ("sender", "receiver"):
        with Path("/dev/zero").open("rb") as endless:
            argv = ["curl", "-sS", "-T", "-", url]
            frm = subprocess.Popen(argv, stdin=endless, stdout=-1, stderr=-1)
        to = curl(url, "-o", os.devnull)
        until(lambda: any(t["bytes"] for t in transfers(relay)), "bytes that move")
        (frm if side == "sender" else to).kill()
        frm.communicate(timeout=DEADLINE_S)
        to.communicate(timeout=DEADLINE_S)
        assert (to if side == "sender" else frm).returncode is not None
        until_empty(relay)


def test_a_listener_takes_the_rest(relay: Server) -> None:
    """Who connects and says nothing is no party."""
    with socket.create_connection(relay.address):
        assert not transfers(relay)
    frm = sender(relay, "/rest", 5)
    thread = upload(frm, b"hello")
    to = receiver(relay, "/rest")
    to.read_fields()
    assert to.read_body() == b"hello"
    thread.join()
