"""What engines that send without copying owe: their sends are accounted for, whatever is short.

Engines are known by their counter `zc_sends`; for the others the same requests must merely work.
"""

from __future__ import annotations

import ctypes
import fcntl
import json
import os
import socket
import struct
import subprocess
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from client import DEADLINE_S, Sanitizer, Server, make_limited, make_request, running

CLONE_NEWNET = 0x40000000
SIOCGIFFLAGS, SIOCSIFFLAGS, IFF_UP = 0x8913, 0x8914, 1
BODY = "/f5242883"


def in_namespace(test: Callable[[], None], optmem_bytes: int | None = None) -> None:
    """Runs a test in a network namespace of its own, which ends with its last process.

    unshare(2) takes the calling thread alone, and its children inherit: so nothing of the host is
    changed, nor of the other tests.
    """
    failures: list[BaseException] = []

    def enter() -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.unshare(CLONE_NEWNET):
            pytest.skip(f"no network namespace: {os.strerror(ctypes.get_errno())}")
        with socket.socket() as sock:
            flags = fcntl.ioctl(sock, SIOCGIFFLAGS, struct.pack("16sh14x", b"lo", 0))
            up = struct.unpack("16sh14x", flags)[1] | IFF_UP
            fcntl.ioctl(sock, SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", up))
        if optmem_bytes is not None:
            optmem = Path("/proc/sys/net/core/optmem_max")
            if not optmem.exists():
                pytest.skip("needs Linux 6.8: optmem_max of a network namespace")
            optmem.write_text(str(optmem_bytes))
        test()

    def run() -> None:
        try:
            enter()
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if failures:
        raise failures[0]


def slow_bodies(server: Server, nr: int) -> list[bytes]:
    """Bodies asked for at once by a client whose small buffer keeps sends outstanding."""
    with server.connect(rcvbuf=8192) as conn:
        conn.send(make_request(BODY) * nr)
        return [conn.response().body for _ in range(nr)]


def settled(server: Server) -> dict[str, Any]:
    """The counters when no connection is left."""
    server.until("connections", 0)
    total: dict[str, Any] = server.counters()["total"]
    return total


def judge(total: dict[str, Any], size: int) -> None:
    """Every zero-copy send is finished, and none went by copy instead."""
    assert total["zc_inflight_bytes"] == 0
    assert total["zc_notified"] == total["zc_sends"]
    assert total["zc_waived"] == total["aborts"] == 0
    if not total["zc_sends"]:
        return
    assert total["zc_copied"] == total["zc_notified"], "loopback always copies"
    assert size <= total["zc_bytes"] <= total["bytes"]
    assert 0 < total["zc_inflight_peak_bytes"] <= total["zc_bytes"]
    assert total["zc_delay_max_ns"] <= total["zc_delay_ns"]


def test_a_slow_reader_gets_every_byte_without_copies(binary: Path, spec: str, root: Path) -> None:
    want = (root / BODY[1:]).read_bytes()
    with running(binary, spec, root) as server:
        assert slow_bodies(server, 3) == [want] * 3
        judge(settled(server), 3 * len(want))


def test_peaks_begin_anew_when_asked_to(binary: Path, name: str, root: Path) -> None:
    with running(binary, name, root) as server:
        slow_bodies(server, 1)
        before = settled(server)
        assert server.ask("new-peaks").strip() == "{}"
        assert server.get("/f511").status == 200
        after = settled(server)
        if before["zc_sends"]:
            assert before["zc_inflight_peak_bytes"] > 4096
            assert 511 <= after["zc_inflight_peak_bytes"] < 4096, "with its head, or without"
        else:
            assert after["zc_inflight_peak_bytes"] == 0


def test_room_for_one_notification_is_waited_for(binary: Path, name: str, root: Path) -> None:
    """ENOBUFS: a notification takes an skb's overhead (SKB_TRUESIZE) of optmem_max."""
    want = (root / BODY[1:]).read_bytes()

    def test() -> None:
        with running(binary, name, root) as server:
            assert slow_bodies(server, 3) == [want] * 3
            total = settled(server)
        judge(total, 3 * len(want))
        if name == "msg_zerocopy":
            assert total["zc_waits"] > 0

    in_namespace(test, optmem_bytes=1000)


@pytest.mark.skipif(os.geteuid() != 0, reason="a server without CAP_IPC_LOCK is made by root")
def test_locked_memory_of_others_is_waited_for(
    binary: Path, name: str, root: Path, tmp_path: Path, sanitizer: Sanitizer
) -> None:
    """16 connections want to pin 5 MiB each, of a user who may lock 1 MiB in all."""
    if sanitizer.active:
        pytest.skip("a sanitizer wants capabilities of its own (ptrace)")
    if "buffers" in name:
        pytest.skip("registered buffers are locked at the start, and then no more")
    want = (root / BODY[1:]).read_bytes()
    limited = make_limited(binary, tmp_path / "limited", 1 << 20)
    with running(limited, name, root) as server:

        def fetch(_: int) -> bytes:
            with server.connect(rcvbuf=65536) as conn:
                return conn.request(BODY).body

        with ThreadPoolExecutor(16) as readers:
            assert list(readers.map(fetch, range(16))) == [want] * 16
        total = settled(server)
        judge(total, 16 * len(want))
        assert total["zc_waits"] > 0 or not total["zc_sends"]


def test_a_reset_ends_what_is_outstanding(binary: Path, spec: str, root: Path) -> None:
    """A client that reads nothing is reset by the deadline, with sends outstanding."""
    args = ("--send-timeout", "300", "--linger-timeout", "300")
    with running(binary, spec, root, *args) as server:
        with server.connect(rcvbuf=8192) as conn:
            conn.send(make_request(BODY) * 3)
            server.until("timeouts", 1)
            total = settled(server)
        assert total["requests"] < 3
        server.until("zc_inflight_bytes", 0)
        assert server.get("/f1").status == 200


def test_waiting_for_notifications_ends_with_the_drain(binary: Path, name: str, root: Path) -> None:
    """Sends that nobody acknowledges do not keep a server that is to end."""
    with (
        running(binary, name, root, "--drain-timeout", "300", "--linger-timeout", "300") as server,
        server.connect(rcvbuf=8192) as conn,
    ):
        conn.send(make_request(BODY) * 3)
        server.until("accepts", 1)
        server.signal()
        assert server.proc.wait(DEADLINE_S) == 0


def delayed_acks() -> int:
    """Acknowledgements that this thread's namespace sent when a delay was over (DelayedACKs)."""
    lines = Path("/proc/thread-self/net/netstat").read_text().splitlines()
    names, values = (line.split() for line in lines if line.startswith("TcpExt:"))
    return int(values[names.index("DelayedACKs")])


@pytest.mark.parametrize(
    ("options", "size", "connections"),
    [
        ("source=buffers,registered=256k", 256 << 10, 8),  # two sends for all of them
        ("chunk=1m,inflight=256k", 1 << 20, 1),  # one send would be all that may be in flight
    ],
)
def test_no_send_is_left_to_a_delayed_acknowledgement(
    binary: Path,
    ring_zc_name: str,
    tmp_path: Path,
    sanitizer: Sanitizer,
    options: str,
    size: int,
    connections: int,
) -> None:
    """A receiver waits 40 ms with the last segment, unless more comes: so more must be under way.

    After the end of a response that is the next request, which the last ones of the run lack. It
    takes a client that reads at once, on a CPU of its own: what waits in a queue is acknowledged
    together. A server that does not run for so long makes receivers wait as well: hence not none.
    """
    cpus = sorted(os.sched_getaffinity(0))
    if sanitizer.active or len(cpus) < 2:
        pytest.skip("needs a server as fast as its client, on another CPU")
    client = binary.with_name("iolab-load")
    (tmp_path / "body").write_bytes(bytes(size))

    def test() -> None:
        before = delayed_acks()
        spec, args = f"{ring_zc_name},{options}", ("--cpus", str(cpus[0]))
        with running(binary, spec, tmp_path, *args) as server:
            target = f"{server.address[0]}:{server.address[1]}"
            argv = [str(client), f"--target={target}", "--path=/body", f"--cpu={cpus[1]}"]
            argv += [f"--connections={connections}", "--duration=1"]
            out = subprocess.run(argv, check=True, capture_output=True, timeout=DEADLINE_S * 3)
            requests = json.loads(out.stdout)["total"]["requests"]
        assert requests > connections
        assert delayed_acks() - before <= requests / 5 + connections

    in_namespace(test)
