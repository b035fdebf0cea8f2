"""Rings: what they run out of, what is cut short or cancelled, and which options go together."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from client import DEADLINE_S, Connection, ProtocolError, Server, make_request, running


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


@pytest.mark.parametrize(
    "options",
    ["", ",cache=memory", ",cache=memory,quiet_sends=on", ",fixed_files=on", ",sqpoll=on"],
)
def test_more_completions_than_the_queue_holds(
    binary: Path, ring_name: str, root: Path, options: str
) -> None:
    want = (root / "f4097").read_bytes()
    # Four entries, so sixteen completions; 200 connections complete at once.
    spec = f"{ring_name},ring_entries=4{options}"
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


@pytest.mark.parametrize("options", ["", ",bundle=on", ",fixed_files=on"])
def test_receive_buffers_run_out_and_come_back(
    binary: Path, ring_name: str, root: Path, options: str
) -> None:
    big, small = (root / "f1048576").read_bytes(), (root / "f1").read_bytes()
    # A response that nobody reads holds back requests of 2 KiB each: a receive buffer a request.
    requests = make_request("/f1048576") + make_request("/f1", X_Pad="x" * 1900) * 24
    spec, args = f"{ring_name},sndbuf=65536{options}", ("--header-timeout", "60000")
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


@pytest.mark.parametrize("quiet", ["on", "off"])
def test_short_sends(binary: Path, ring_name: str, root: Path, quiet: str) -> None:
    want = (root / "f1048576").read_bytes()
    spec = f"{ring_name},sndbuf=16384,cache=memory,cache_limit=2m,quiet_sends={quiet}"
    with running(binary, spec, root) as server, server.connect(rcvbuf=8192) as conn:
        for _ in range(3):
            assert conn.request("/f1048576").body == want
        server.until("requests", 3)
        total = server.counters()["total"]
        assert total["bytes"] == conn.received
        # Those that wait are carried on by the kernel, and never seen short.
        assert total["short_moves"] == (3 if quiet == "on" else 0)


def test_sends_that_find_no_room_at_all(binary: Path, ring_name: str, root: Path) -> None:
    want = (root / "f4096").read_bytes()
    spec = f"{ring_name},sndbuf=65536,cache=memory,quiet_sends=on"
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


@pytest.mark.parametrize("options", ["", ",cache=memory,cache_limit=16m", ",fixed_files=on"])
def test_a_deadline_cancels_what_is_in_flight(
    binary: Path, ring_name: str, root: Path, options: str
) -> None:
    args = ("--send-timeout", "200")
    spec = f"{ring_name},sndbuf=16384{options}"
    with (
        running(binary, spec, root, *args) as server,
        server.connect(rcvbuf=8192) as conn,
    ):
        conn.send(make_request("/f5242883"))
        conn.read_head()
        server.until("timeouts", 1)
        server.until("connections", 0)
        assert server.total("cancelled") >= 1
        with pytest.raises(ProtocolError):
            conn.read_exactly(5242883)


def test_quiet_sends_save_completions(binary: Path, ring_name: str, root: Path) -> None:
    counted: dict[str, int] = {}
    for quiet in ("on", "off"):
        spec = f"{ring_name},cache=memory,quiet_sends={quiet}"
        with running(binary, spec, root) as server, server.connect() as conn:
            for _ in range(100):
                conn.request("/f1024")
            server.until("requests", 100)
            counted[quiet] = server.total("cqes")
    assert counted["off"] - counted["on"] >= 90, counted


def kernel_view(server: Server) -> str:
    """What the kernel says of the server's ring, in /proc (proc(5), io_uring/fdinfo.c)."""
    for entry in Path(f"/proc/{server.proc.pid}/fd").iterdir():
        if "io_uring" in str(entry.readlink()):
            return Path(f"/proc/{server.proc.pid}/fdinfo/{entry.name}").read_text()
    raise AssertionError(f"no ring: {server.describe()}")


CONFIRMED = [
    ("ring_entries=64", "SqMask", r"^SqMask:\s*0x3f$"),
    ("sqpoll=on", "SqThread", r"^SqThread:\s*[1-9]\d*$"),
    ("fixed_files=on", "UserFiles", r"^\s*\d+: (?!<none>|0x)\S+"),
    ("fixed_buffers=on", "UserBufs", r"^\s*0: 0x[0-9a-f]+/2097152$"),
    ("napi=50", "napi_busy_poll_dt", r"^napi_busy_poll_dt:\s*50(000)?$"),
]


@pytest.mark.parametrize(("options", "field", "pattern"), CONFIRMED)
def test_the_kernel_confirms_what_the_option_says(
    binary: Path, ring_name: str, root: Path, options: str, field: str, pattern: str
) -> None:
    with running(binary, f"{ring_name},{options}", root) as server, server.connect() as conn:
        assert conn.request("/f1024").status == 200
        end = time.monotonic() + DEADLINE_S
        while f"{field}:" not in (view := kernel_view(server)):
            if "NAPI" not in view and field.startswith("napi"):
                pytest.skip("this kernel does not show NAPI of a ring in fdinfo")
            assert time.monotonic() < end, view  # left out while the ring is locked
        assert re.search(pattern, view, re.MULTILINE), view


COMBINED = [
    "cache=memory,fixed_buffers=on",
    "cache=memory,cache_limit=16m,fixed_buffers=on,fixed_files=on,sndbuf=16384",
    "cache=none,fixed_buffers=on,buffer=4m,ring_entries=4",
    "cache=memory,fixed_files=on,bundle=on,batch=64,ring_entries=64",
    "cache=memory,defer_taskrun=off,fixed_files=on",
    "cache=memory,coop_taskrun=on,batch=8",
    "cache=memory,quiet_sends=on,batch=8,ring_entries=4",
    "cache=memory,sqpoll=on,fixed_files=on,ring_entries=8",
    "cache=none,sqpoll=on,sqpoll_idle=1,ring_entries=4",
]


@pytest.mark.parametrize("options", COMBINED)
def test_options_together(binary: Path, ring_name: str, root: Path, options: str) -> None:
    names = ["f511", "f65537", "f1", "f4097", "f0", "f1048576", "f16384"]
    bodies = [(root / name).read_bytes() for name in names]
    with (
        running(binary, f"{ring_name},{options}", root) as server,
        contextlib.ExitStack() as stack,
    ):
        conns = [stack.enter_context(server.connect()) for _ in range(30)]
        for conn in conns:
            conn.send(b"".join(make_request(f"/{name}") for name in names))
        for conn in conns:
            for body in bodies:
                assert conn.response().body == body
        server.until("requests", len(conns) * len(names))


@pytest.mark.parametrize(
    ("options", "remedy"),
    [
        ("sqpoll=on,defer_taskrun=on", "leave defer_taskrun at auto"),
        ("sqpoll=on,coop_taskrun=on", "choose one"),
        ("coop_taskrun=on,defer_taskrun=on", "leave defer_taskrun at auto"),
    ],
)
def test_what_does_not_go_together_is_refused(
    binary: Path, ring_name: str, root: Path, options: str, remedy: str
) -> None:
    argv = [str(binary), "--engine", f"{ring_name},{options}", "--role", "file"]
    argv += ["--root", str(root), "--listen", "127.0.0.1:0"]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=DEADLINE_S, check=False)
    assert done.returncode == 2
    assert remedy in done.stderr


def test_a_cpu_that_is_not_there_is_named(binary: Path, ring_name: str, root: Path) -> None:
    argv = [str(binary), "--engine", f"{ring_name},sqpoll=on,sqpoll_cpu=8191", "--role", "file"]
    argv += ["--root", str(root), "--listen", "127.0.0.1:0"]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=DEADLINE_S, check=False)
    assert done.returncode == 3
    assert done.stderr.startswith("unsupported: sqpoll_cpu: no such CPU")


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
