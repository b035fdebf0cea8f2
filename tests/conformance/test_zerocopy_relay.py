"""What is between sockets sent by copy instead, when there is no room for another notification.

Engines that send without copying are known by their counters; for the others the same transfers
must merely work.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from client import Sanitizer, Server, make_limited, running
from relay_client import (
    payload,
    push_until_blocked,
    receiver,
    sender,
    transfers,
    until,
    upload,
    words,
)

# One worker, so that it is known where the parties meet.
SIZE = 8 << 20


def fan_out(server: Server, n: int) -> None:
    """One upload to n receivers, each of which gets every byte."""
    data = payload(SIZE)
    tos = [receiver(server, f"/fan?n={n}") for _ in range(n)]
    frm = sender(server, f"/fan?n={n}", SIZE)
    readers = [upload(frm, data)]
    for to in tos:
        to.read_fields()
    at = 0
    while at < SIZE:  # in step with each other, since the slowest governs
        for to in tos:
            assert to.read_exactly(65536) == data[at : at + 65536], at
        at += 65536
    readers[0].join()
    assert words(frm)[-1] == "done"


def with_small_ring(described: dict[str, Any], name: str) -> str:
    """The engine; its rings are small, whose memory is locked memory, too (Linux 6.14)."""
    engine = next(engine for engine in described["engines"] if engine["name"] == name)
    options = [option["name"] for option in engine["options"]]
    return f"{name},ring_entries=16" if "ring_entries" in options else name


def sends_without_copying(binary: Path, name: str) -> bool:
    """Whether the engine does so where nothing is in its way."""
    with running(binary, name, None, role="relay") as server:
        fan_out(server, 1)
        return server.total("zc_sends") > 0


@pytest.mark.skipif(os.geteuid() != 0, reason="a server without CAP_IPC_LOCK is made by root")
@pytest.mark.parametrize("n", [1, 2, 5])
def test_without_memory_to_lock_everybody_is_served_by_copy(
    binary: Path,
    described: dict[str, Any],
    relay_name: str,
    tmp_path: Path,
    sanitizer: Sanitizer,
    n: int,
) -> None:
    """Of a round every send may be refused, the first one and those begun beside it."""
    if sanitizer.active:
        pytest.skip("a sanitizer wants capabilities of its own (ptrace)")
    limited = make_limited(binary, tmp_path / "limited", 256 << 10)
    spec = with_small_ring(described, relay_name)
    with running(limited, spec, None, role="relay") as server:
        fan_out(server, n)
        total = server.counters()["total"]
        assert total["aborts"] == 0
    if sends_without_copying(binary, relay_name):
        assert total["zc_waived"] >= n


def test_what_is_out_is_bounded(binary: Path, relay_name: str) -> None:
    """A receiver that stands still: what waits in its queue keeps its notifications."""
    with running(binary, f"{relay_name},sndbuf=4m", None, role="relay") as server:
        to = receiver(server, "/still", rcvbuf=8192)
        frm = sender(server, "/still", 1 << 30)
        push_until_blocked(server, frm.sock, bytes(1 << 16), 1 << 30)
        total = server.counters()["total"]
        if total["zc_sends"]:
            assert total["zc_waived"] > 0
        frm.reset()
        to.reset()
        until(lambda: server.total("zc_inflight_bytes") == 0, "every notification")


def test_notifications_come_one_by_one(binary: Path, ring_zc_name: str) -> None:
    """What was read is notified, while what was sent behind it still waits for its reader.

    Sends that share a packet would be notified together, and the last of them is never read.
    """
    size, part, read = 1 << 20, 4096, 288 << 10
    spec = f"{ring_zc_name},chunk={part},inflight=512k,sndbuf=4m"
    with running(binary, spec, None, role="relay") as server:
        to = receiver(server, "/part", rcvbuf=8192)
        frm = sender(server, "/part", size)
        frm.send(bytes(size))
        to.read_fields()
        until(lambda: server.total("zc_waived") > 0, "a full queue in front of the receiver")
        to.read_exactly(read)

        def notified() -> bool:
            """The kernel frees in batches, when there is traffic; see docs/engine-contract.md."""
            transfers(server)
            return server.total("zc_notified") >= read // part * 3 // 4

        until(notified, "notifications of what was read")
        assert server.total("zc_inflight_bytes") > 0
        frm.reset()
        to.reset()
        until(lambda: server.total("zc_inflight_bytes") == 0, "every notification")
