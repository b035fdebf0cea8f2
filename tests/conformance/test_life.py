"""Life: many connections, clients that leave, draining, counters, command line."""

from __future__ import annotations

import contextlib
import os
import random
import resource
import signal
import socket
import struct
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from client import DEADLINE_S, Connection, Sanitizer, Server, make_request, running
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st


def settle(server: Server, descriptors: int) -> None:
    """Waits until the server holds no more descriptors than before."""
    end = time.monotonic() + DEADLINE_S
    while server.nr_descriptors() > descriptors:
        assert time.monotonic() < end, (server.nr_descriptors(), descriptors, server.describe())
        time.sleep(0.02)


def reset(conn: Connection) -> None:
    """Closes with RST."""
    linger = struct.pack("ii", 1, 0)
    conn.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    conn.sock.close()


def test_clients_that_leave(server: Server) -> None:
    assert server.get("/f1").status == 200
    server.until("connections", 0)
    before = server.nr_descriptors()
    source = random.Random(3)
    for _ in range(150):
        conn = server.connect(rcvbuf=8192)
        data = make_request("/f1048576") * source.choice([1, 2])
        conn.send(data[: source.choice([0, 5, len(data), len(data)])])
        if source.random() < 0.5:
            conn.sock.setblocking(False)
            with contextlib.suppress(OSError):
                conn.sock.recv(source.choice([1, 100, 5000]))
        if source.random() < 0.5:
            reset(conn)
        else:
            conn.sock.close()
    server.until("connections", 0)
    # Open files stay in the cache, and pipes or the like in a pool: a few, not one each.
    settle(server, before + 16)
    assert server.get("/f511").status == 200


@given(
    data=st.one_of(
        st.binary(max_size=300),
        st.text(alphabet="GETHAD /1.0\r\n:xHost-%", max_size=200).map(str.encode),
    )
)
@settings(
    max_examples=120,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_garbage_never_kills(server: Server, data: bytes) -> None:
    with server.connect() as conn:
        conn.send(data)
        with contextlib.suppress(OSError):
            conn.sock.shutdown(socket.SHUT_WR)
        while conn.fill():
            pass
    assert server.proc.poll() is None, server.describe()


@pytest.mark.parametrize("half_closed", [False, True])
def test_a_client_that_does_not_read_costs_no_calls(server: Server, half_closed: bool) -> None:
    size = 16 << 20  # more than both sockets hold
    before = server.total("bytes")
    with server.connect(rcvbuf=16384) as conn:
        conn.send(make_request("/huge", Range=f"bytes=0-{size - 1}"))
        if half_closed:  # a hang-up is no room, and is reported as long as the connection lasts
            conn.sock.shutdown(socket.SHUT_WR)
        status, _, _ = conn.read_head()
        wait_until_nothing_moves(server)
        assert server.total("bytes") - before < size
        calls = server.counters()["total"]["syscalls"]
        time.sleep(0.3)
        later = server.counters()["total"]["syscalls"]
        assert sum(later.values()) - sum(calls.values()) < 200  # ticks; a spin is 10,000
        assert status == 206
        assert len(conn.read_exactly(size)) == size


def wait_until_nothing_moves(server: Server) -> None:
    """Waits until the server delivers no more, a tenth of a second long."""
    end, last = time.monotonic() + DEADLINE_S, -1
    while (now := server.total("bytes")) != last:
        assert time.monotonic() < end, server.describe()
        last = now
        time.sleep(0.1)


def test_a_thousand_idle_connections(
    binary: Path, name: str, root: Path, sanitizer: Sanitizer
) -> None:
    with running(binary, name, root) as server, contextlib.ExitStack() as stack:
        conns = [stack.enter_context(server.connect()) for _ in range(1000)]
        for conn in conns:
            assert conn.request("/f1024").status == 200
        server.until("connections", 1000)
        if not sanitizer.active:  # shadow memory is not the server's
            assert server.resident_bytes() < 16 << 20
        for conn in conns:
            assert conn.request("/f1").status == 200


def test_ten_thousand_connections(
    binary: Path, name: str, root: Path, sanitizer: Sanitizer
) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 10500:
        pytest.skip(f"needs 10,500 descriptors, the hard limit is {hard}")
    if sanitizer.active:
        pytest.skip("10,000 connections under a sanitizer take too much memory")
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    try:
        with running(binary, name, root) as server, contextlib.ExitStack() as stack:
            conns = [stack.enter_context(server.connect()) for _ in range(10000)]
            for conn in conns:
                conn.send(make_request("/f511"))
            for conn in conns:
                assert len(conn.response().body) == 511
            server.until("connections", 10000)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_drain_finishes_what_is_in_flight(binary: Path, spec: str, root: Path) -> None:
    want = (root / "f5242883").read_bytes()
    server = Server(binary, spec, root)
    with server.connect(rcvbuf=65536) as busy, server.connect() as idle:
        assert idle.request("/f1").status == 200
        busy.send(make_request("/f5242883"))
        _, fields, _ = busy.read_head()
        server.signal()
        assert idle.at_end()
        assert busy.read_exactly(int(fields["content-length"])) == want
        assert busy.at_end()
    server.stop()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(server.address, timeout=DEADLINE_S)


def test_drain_does_not_wait_for_ever(binary: Path, name: str, root: Path) -> None:
    server = Server(binary, name, root, "--drain-timeout", "300")
    with server.connect(rcvbuf=4096) as conn:
        conn.send(make_request("/huge"))
        conn.read_head()
        server.signal(signal.SIGINT)
        server.stop()


def test_two_workers(binary: Path, name: str, root: Path) -> None:
    cpus = len(os.sched_getaffinity(0))
    with running(binary, name, root, "--workers", "2") as server:
        for _ in range(40):
            assert server.get("/f4097").body == (root / "f4097").read_bytes()
        server.until("requests", 40)  # counted when the last byte was handed over
        workers = server.counters()["workers"]
        assert len(workers) == 2
        assert sum(w["counters"]["requests"] for w in workers) == 40
        if cpus > 1:
            assert workers[0]["cpu"] != workers[1]["cpu"]


def test_merging_off_changes_nothing_visible(binary: Path, name: str, root: Path) -> None:
    with running(binary, name, root, "--merge", "1") as server, server.connect() as conn:
        conn.send(make_request("/f511") * 40)
        for _ in range(40):
            assert conn.response().body == (root / "f511").read_bytes()


# ---------------------------------------------------------------------------- counters


def test_counts_agree_with_the_client(binary: Path, spec: str, root: Path) -> None:
    with running(binary, spec, root) as server:
        received = body = 0
        with server.connect() as conn:
            for target in ["/f0", "/f1024", "/f65537", "/nope", "/f1048576", "/f4097"]:
                body += len(conn.request(target).body)
            body += len(conn.request("/f65537", Range="bytes=5-70000").body)
            conn.request("/f1024", "HEAD")
            conn.request("/f1024", If_None_Match="*")
            conn.send(make_request("/f511") * 30)
            body += sum(len(conn.response().body) for _ in range(30))
            received = conn.received
        server.until("requests", 39)
        total = server.counters()["total"]
        assert total["bytes"] == received
        assert total["body_bytes"] == body
        assert (total["responses_2xx"], total["responses_3xx"]) == (37, 1)
        assert (total["responses_4xx"], total["responses_5xx"]) == (1, 0)
        assert total["accepts"] == 1
        assert sum(total["syscalls"].values()) > 0


def test_zero_copy_notifications_are_all_counted(binary: Path, spec: str, root: Path) -> None:
    with running(binary, spec, root) as server:
        with server.connect() as conn:
            for _ in range(20):
                conn.request("/f65537")
        server.until("connections", 0)
        total = server.counters()["total"]
        assert total["zc_notified"] == total["zc_sends"]
        assert total["zc_copied"] <= total["zc_notified"]


def test_prometheus_text(server: Server) -> None:
    server.get("/f1")
    for text in (server.ask("prometheus"), server.ask("GET /metrics HTTP/1.0\r\n\r")):
        lines = [line for line in text.splitlines() if line.startswith("iolab_")]
        assert any(line.startswith("iolab_requests_total{") for line in lines)
        assert all(float(line.rsplit(" ", 1)[1]) >= 0 for line in lines)
        assert text.endswith("# EOF\n")
    assert "error" in server.ask("nonsense")


def test_counters_document(server: Server, described: dict[str, Any], spec: str) -> None:
    document = server.counters()
    assert document["schema_version"] == 1
    assert document["engine"] == spec.split(",")[0]
    engine = next(e for e in described["engines"] if e["name"] == document["engine"])
    assert set(document["options"]) == {option["name"] for option in engine["options"]}


# ---------------------------------------------------------------------------- command line


def run(binary: Path, *args: str) -> subprocess.CompletedProcess[str]:
    """Runs the server to its end."""
    return subprocess.run(
        [str(binary), *args], capture_output=True, text=True, timeout=60, check=False
    )


def test_describe_is_complete(described: dict[str, Any]) -> None:
    assert described["schema_version"] == 1
    names = [engine["name"] for engine in described["engines"]]
    assert len(names) == len(set(names)) >= 8
    for engine in described["engines"]:
        assert all(engine[key] for key in ("summary", "since", "sources"))
        assert engine["usable"] == (engine["reason"] is None)
        for option in engine["options"]:
            assert option["help"]


def test_bad_command_lines(binary: Path, described: dict[str, Any], root: Path) -> None:
    name = described["engines"][0]["name"]
    rest = ["--role", "file", "--root", str(root), "--listen", "127.0.0.1:0"]
    cases = [
        (["--engine", "warp", *rest], 2, name),
        (["--engine", f"{name},warp=9", *rest], 2, "sndbuf"),
        (["--engine", f"{name},sndbuf=lots", *rest], 2, "1073741824"),
        (["--engine", f"{name},nodelay=maybe", *rest], 2, "on off"),
        (rest, 2, "--engine"),
        (["--engine", name, "--role", "file", "--root", str(root)], 2, "--listen"),
        (["--engine", name, *rest, "--workers", "0"], 2, "--workers"),
        (["--engine", name, *rest, "--cpus", "9999"], 1, "--cpus"),
        (["--engine", name, *rest[:3], "/nonexistent", *rest[4:]], 1, "/nonexistent"),
        (["--engine", name, *rest[:-1], "nowhere"], 1, "nowhere"),
    ]
    for args, status, word in cases:
        got = run(binary, *args)
        assert got.returncode == status, (args, got)
        assert word in got.stderr, (args, got.stderr)


def test_port_in_use(binary: Path, name: str, root: Path) -> None:
    with running(binary, name, root) as server:
        address = "{}:{}".format(*server.address)
        got = run(
            binary, "--engine", name, "--role", "file", "--root", str(root), "--listen", address
        )
        assert got.returncode == 1
        assert "in use" in got.stderr


def test_engine_without_files_answers_anything(
    binary: Path, described: dict[str, Any], root: Path
) -> None:
    for engine in described["engines"]:
        if "constant" not in engine["sources"]:
            continue
        with running(binary, f"{engine['name']},size=2000", root) as server:
            assert len(server.get("/anything").body) == 2000
            assert server.get("/f1", Range="bytes=0-9").status == 206
            server.until("requests", 2)
            assert server.counters()["total"]["syscalls"]["open"] == 0


def test_roles_that_an_engine_has_not(binary: Path, described: dict[str, Any]) -> None:
    for engine in described["engines"]:
        for role in set(described["roles"]) - set(engine["roles"]):
            argv = [str(binary), "--engine", engine["name"], "--role", role, "--root", "/"]
            argv += ["--listen", "127.0.0.1:0", "--upstream", "127.0.0.1:1"]
            done = subprocess.run(argv, capture_output=True, timeout=DEADLINE_S, check=False)
            assert done.returncode == 3, (argv, done.stderr)
            assert done.stderr.startswith(b"unsupported: "), done.stderr


def test_a_forwarder_needs_an_upstream(binary: Path) -> None:
    argv = [str(binary), "--engine", "epoll", "--role", "forward", "--listen", "127.0.0.1:0"]
    done = subprocess.run(argv, capture_output=True, timeout=DEADLINE_S, check=False)
    assert done.returncode == 2
    assert b"--upstream" in done.stderr
