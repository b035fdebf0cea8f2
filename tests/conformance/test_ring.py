"""Rings: what they run out of, and what is cut short or cancelled."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from client import DEADLINE_S, Connection, ProtocolError, Server, make_request, running
from relay_client import receiver, sender


def wait_for(server: Server, name: str, least: int) -> None:
    """Waits until a counter has reached a value."""
    end = time.monotonic() + DEADLINE_S
    while server.total(name) < least:
        assert time.monotonic() < end, (name, server.total(name), least, server.describe())
        time.sleep(0.01)


def wait_until_served_or_refused(server: Server, sent: int) -> None:
    """Waits until a request is answered, or its answer met a full socket."""
    end = time.monotonic() + DEADLINE_S
    while True:
        total = server.counters()["total"]
        if total["requests"] == sent or total["eagain"] + total["short_moves"]:
            return
        assert time.monotonic() < end, server.describe()


@contextlib.contextmanager
def stopped(server: Server) -> Iterator[None]:
    """The server stands still meanwhile, so that what is sent reaches it all at once."""
    os.kill(server.proc.pid, signal.SIGSTOP)
    try:
        while "T (stopped)" not in Path(f"/proc/{server.proc.pid}/status").read_text():
            time.sleep(0.001)
        yield
    finally:
        os.kill(server.proc.pid, signal.SIGCONT)


def get_all(conns: list[Connection], target: str, want: bytes) -> None:
    """Reads a response on each."""
    for conn in conns:
        assert conn.response().body == want, target


def overflow(binary: Path, spec: str, root: Path) -> None:
    """Four entries, so sixteen completions; 200 connections complete at once."""
    want = (root / "f4097").read_bytes()
    spec += ",ring_entries=4"
    with running(binary, spec, root) as server, contextlib.ExitStack() as stack:
        conns = [stack.enter_context(server.connect()) for _ in range(200)]
        server.until("connections", len(conns))
        for _ in range(3):
            with stopped(server):
                for conn in conns:
                    conn.send(make_request("/f4097"))
            get_all(conns, "/f4097", want)
        server.until("requests", 600)
        assert server.total("cq_overflows") > 0
        assert server.total("aborts") == 0


@pytest.mark.parametrize("options", ["", ",fixed_files=on", ",sqpoll=on"])
def test_more_completions_than_the_queue_holds(
    binary: Path, ring_name: str, root: Path, options: str
) -> None:
    overflow(binary, ring_name + options, root)


@pytest.mark.parametrize("options", ["", ",quiet_sends=on"])
def test_more_completions_of_cached_responses_than_the_queue_holds(
    binary: Path, ring_copy_name: str, root: Path, options: str
) -> None:
    overflow(binary, f"{ring_copy_name},cache=memory{options}", root)


@pytest.mark.parametrize("options", [",head=sendmsg", ",source=buffers,registered=128k"])
def test_more_notifications_than_the_queue_holds(
    binary: Path, ring_zc_name: str, root: Path, options: str
) -> None:
    overflow(binary, ring_zc_name + options, root)


def test_accepts_overflow_the_queue(binary: Path, ring_name: str, root: Path) -> None:
    with (
        running(binary, f"{ring_name},ring_entries=4", root) as server,
        contextlib.ExitStack() as stack,
    ):
        with stopped(server):
            conns = [stack.enter_context(server.connect()) for _ in range(100)]
            for conn in conns:
                conn.send(make_request("/f511"))
        get_all(conns, "/f511", (root / "f511").read_bytes())
        assert server.total("accepts") == len(conns)
        assert server.total("cq_overflows") > 0


def run_out_of_buffers(binary: Path, spec: str, root: Path) -> None:
    """90 clients pipeline more than the ring has buffers for, and read only later."""
    big, small = (root / "f1048576").read_bytes(), (root / "f1").read_bytes()
    # A response that nobody reads holds back requests of 2 KiB each: a receive buffer a request.
    requests = make_request("/f1048576") + make_request("/f1", X_Pad="x" * 1900) * 24
    spec, args = f"{spec},sndbuf=65536", ("--header-timeout", "60000")
    with running(binary, spec, root, *args) as server, contextlib.ExitStack() as stack:
        conns = [stack.enter_context(server.connect(rcvbuf=65536)) for _ in range(90)]
        for conn in conns:
            conn.send(requests)
        wait_for(server, "no_buffers", 1)
        for conn in conns:
            assert conn.response().body == big
            for _ in range(24):
                assert conn.response().body == small
        server.until("requests", len(conns) * 25)
        # Whoever starved is served on.
        for conn in conns:
            assert conn.request("/f511").status == 200
        assert server.total("aborts") == 0


@pytest.mark.parametrize("options", ["", ",fixed_files=on"])
def test_receive_buffers_run_out_and_come_back(
    binary: Path, ring_name: str, root: Path, options: str
) -> None:
    run_out_of_buffers(binary, ring_name + options, root)


def test_bundles_run_out_of_receive_buffers(binary: Path, ring_copy_name: str, root: Path) -> None:
    run_out_of_buffers(binary, f"{ring_copy_name},bundle=on", root)


@pytest.mark.parametrize("quiet", ["on", "off"])
def test_short_sends(binary: Path, ring_copy_name: str, root: Path, quiet: str) -> None:
    want = (root / "f1048576").read_bytes()
    spec = f"{ring_copy_name},sndbuf=16384,cache=memory,cache_limit=2m,quiet_sends={quiet}"
    with running(binary, spec, root) as server, server.connect(rcvbuf=8192) as conn:
        for _ in range(3):
            assert conn.request("/f1048576").body == want
        server.until("requests", 3)
        total = server.counters()["total"]
        assert total["bytes"] == conn.received
        # Those that wait are carried on by the kernel, and never seen short.
        assert total["short_moves"] == (3 if quiet == "on" else 0)


def test_sends_that_find_no_room_at_all(binary: Path, ring_copy_name: str, root: Path) -> None:
    want = (root / "f4096").read_bytes()
    spec = f"{ring_copy_name},sndbuf=65536,cache=memory,quiet_sends=on"
    with running(binary, spec, root) as server, server.connect(rcvbuf=65536) as conn:
        sent = 0
        # One request at a time, or more would be known to follow, and the send would wait.
        while not server.total("eagain") + server.total("short_moves"):
            conn.send(make_request("/f4096"))
            sent += 1
            assert sent < 1000, server.describe()
            wait_until_served_or_refused(server, sent)
        for _ in range(sent):
            assert conn.response().body == want
        server.until("requests", sent)
        assert server.total("bytes") == conn.received


def cancel(binary: Path, spec: str, root: Path) -> None:
    """A client that reads nothing is reset by the deadline, in the middle of a response."""
    args = ("--send-timeout", "200")
    with (
        running(binary, f"{spec},sndbuf=16384", root, *args) as server,
        server.connect(rcvbuf=8192) as conn,
    ):
        conn.send(make_request("/f5242883"))
        conn.read_head()
        server.until("timeouts", 1)
        server.until("connections", 0)
        assert server.total("cancelled") >= 1
        with pytest.raises(ProtocolError):
            conn.read_exactly(5242883)


@pytest.mark.parametrize("options", ["", ",fixed_files=on", ",ring_entries=4"])
def test_a_deadline_cancels_what_is_in_flight(
    binary: Path, ring_name: str, root: Path, options: str
) -> None:
    cancel(binary, ring_name + options, root)


def test_a_deadline_cancels_a_send_from_memory(
    binary: Path, ring_copy_name: str, root: Path
) -> None:
    cancel(binary, f"{ring_copy_name},cache=memory,cache_limit=16m", root)


def test_a_deadline_cancels_an_unlinked_poll(
    binary: Path, ring_splice_name: str, root: Path
) -> None:
    cancel(binary, f"{ring_splice_name},linked=off", root)


def test_a_deadline_cancels_a_send_from_registered_memory(
    binary: Path, ring_zc_name: str, root: Path
) -> None:
    cancel(binary, f"{ring_zc_name},source=buffers", root)


def test_quiet_sends_save_completions(binary: Path, ring_copy_name: str, root: Path) -> None:
    counted: dict[str, int] = {}
    for quiet in ("on", "off"):
        spec = f"{ring_copy_name},cache=memory,quiet_sends={quiet}"
        with running(binary, spec, root) as server, server.connect() as conn:
            for _ in range(100):
                conn.request("/f1024")
            server.until("requests", 100)
            counted[quiet] = server.total("cqes")
    assert counted["off"] - counted["on"] >= 90, counted


def test_only_what_has_several_pieces_is_corked(
    binary: Path, ring_copy_name: str, root: Path
) -> None:
    """A quiet send of a corked response would leave when the end of the transfer is noticed."""
    counted: dict[str, int] = {}
    for hold in ("none", "cork"):
        spec = f"{ring_copy_name},quiet_sends=on,hold={hold}"
        with running(binary, f"{spec},cache=memory", root) as server, server.connect() as conn:
            for _ in range(10):
                assert conn.request("/f1024").status == 200
            server.until("requests", 10)
            counted[hold] = server.counters()["total"]["syscalls"]["other"]
    assert counted["cork"] == counted["none"]
    with (
        running(binary, f"{ring_copy_name},hold=cork", root) as server,
        server.connect() as conn,
    ):
        before = server.counters()["total"]["syscalls"]["other"]
        assert conn.request("/f1024").status == 200
        server.until("requests", 1)
        assert server.counters()["total"]["syscalls"]["other"] - before == 2


def make_cold(path: Path) -> None:
    """Leaves nothing of a file in the page cache, where the file system can do without."""
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(fd)


def is_cold(path: Path) -> bool:
    """Whether the first bytes of a file have to be fetched. Asking may fetch them."""
    fd = os.open(path, os.O_RDONLY)
    try:
        os.preadv(fd, [bytearray(1)], 0, os.RWF_NOWAIT)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False


def send_cold_files(binary: Path, spec: str, tmp_path: Path) -> None:
    """Reads that take their time, and a queue that is full within most of their chains."""
    bodies = [random.Random(i).randbytes(60000 + i) for i in range(100)]
    for i, body in enumerate(bodies):
        (tmp_path / f"{i}").write_bytes(body)
        make_cold(tmp_path / f"{i}")
    if not is_cold(tmp_path / "0"):
        pytest.skip("the file system of temporary files keeps them in memory")
    make_cold(tmp_path / "0")
    with (
        running(binary, f"{spec},ring_entries=4", tmp_path) as server,
        contextlib.ExitStack() as stack,
    ):
        conns = [stack.enter_context(server.connect()) for _ in bodies]
        server.until("connections", len(conns))
        with stopped(server):
            for i, conn in enumerate(conns):
                conn.send(make_request(f"/{i}"))
        for i, conn in enumerate(conns):
            assert conn.response().body == bodies[i], i


def test_a_full_queue_cuts_no_chain(binary: Path, ring_name: str, tmp_path: Path) -> None:
    send_cold_files(binary, ring_name, tmp_path)


def test_a_full_queue_cuts_no_chain_of_three(
    binary: Path, ring_zc_name: str, tmp_path: Path
) -> None:
    send_cold_files(binary, f"{ring_zc_name},source=buffers,registered=16m", tmp_path)


@pytest.mark.parametrize("options", ["", ",linked=off"])
def test_clients_that_stand_still_hold_no_pipe(
    binary: Path, ring_splice_name: str, root: Path, options: str
) -> None:
    nr, want = 40, (root / "f5242883").read_bytes()
    with running(binary, ring_splice_name + options, root) as server:
        conns = [server.connect(rcvbuf=8192) for _ in range(nr)]
        for conn in conns:
            conn.send(make_request("/f5242883"))
            conn.read_head()
        assert server.get("/f5242883").body == want
        assert server.total("pipes") <= 8
        for conn in conns:
            assert conn.read_exactly(len(want)) == want
            conn.sock.close()
        server.until("connections", 0)
        assert server.total("pipes") <= 8


def test_registered_memory_goes_to_who_waits_longest(
    binary: Path, ring_zc_name: str, root: Path
) -> None:
    """A client that never stops asking, and three that ask once."""
    want = (root / "f1048576").read_bytes()
    spec = f"{ring_zc_name},source=buffers,registered=128k"
    with running(binary, spec, root) as server, contextlib.ExitStack() as stack:
        busy = stack.enter_context(server.connect())
        others = [stack.enter_context(server.connect()) for _ in range(3)]
        served = threading.Event()

        def ask_on() -> int:
            rounds = 0
            busy.send(make_request("/f1048576"))
            while not served.is_set():
                busy.send(make_request("/f1048576"))  # the next one is there before the end
                assert busy.response().body == want
                rounds += 1
            assert busy.response().body == want
            return rounds

        with ThreadPoolExecutor(4) as threads:
            rounds = threads.submit(ask_on)
            try:
                wait_for(server, "requests", 3)
                got = threads.map(lambda conn: conn.request("/f1048576").body, others)
                assert list(got) == [want] * 3
            finally:
                served.set()
            assert rounds.result(DEADLINE_S) >= 3
        assert server.total("zc_waits") > 0


def test_operations_of_a_ring_are_no_system_calls(
    binary: Path, ring_splice_name: str, root: Path
) -> None:
    """What is submitted counts as an entry, and the submission as the one call it is."""
    with running(binary, ring_splice_name, root) as server:
        assert server.get("/f1048576").status == 200
        server.until("requests", 1)
        total = server.counters()["total"]
    assert total["syscalls"]["splice"] == 0
    assert total["sqes"] > 0
    with running(binary, ring_splice_name, None, role="relay") as server:
        tos = [receiver(server, "/calls?n=2") for _ in range(2)]
        frm = sender(server, "/calls?n=2", 100_000)
        frm.send(bytes(100_000))
        for to in tos:
            to.read_fields()
            assert to.read_body() == bytes(100_000)
        for party in (frm, *tos):
            party.reset()
        total = server.counters()["total"]
    assert total["bytes"] >= 200_000
    assert total["syscalls"]["splice"] == total["syscalls"]["tee"] == 0


@pytest.mark.parametrize("options", ["", ",source=buffers"])
def test_what_is_in_flight_is_bounded(
    binary: Path, ring_zc_name: str, root: Path, options: str
) -> None:
    """The bound is what is reached, and not a byte more: the file is 20 times as long."""
    want, bound, chunk = (root / "f5242883").read_bytes(), 256 << 10, 64 << 10
    spec = f"{ring_zc_name},inflight={bound},chunk={chunk},sndbuf=4m{options}"
    with running(binary, spec, root) as server, server.connect(rcvbuf=8192) as conn:
        conn.send(make_request("/f5242883"))
        wait_for(server, "zc_waits", 1)
        assert conn.response().body == want
        peak = server.total("zc_inflight_peak_bytes")
    assert bound - chunk < peak <= bound
