"""HdrHistogram logs, of iolab-load and of the report, by another reading of the format."""

from __future__ import annotations

import base64
import json
import re
import socketserver
import struct
import subprocess
import threading
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from iolab.histogram import bucket
from iolab.model import Plan, Sample, Status
from iolab.paths import find_house
from iolab.report.hdrlog import encode, log

TIMEOUT_S = 60
LINE = re.compile(r"(\d+\.\d{3}),(\d+\.\d{3}),(\d+\.\d+),(\S+)")


class Handler(socketserver.StreamRequestHandler):
    """Answers every GET with two bytes."""

    def handle(self) -> None:
        """One connection, until its end."""
        while line := self.rfile.readline():
            if line == b"\r\n":
                self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")


@pytest.fixture
def target() -> Iterator[str]:
    """A server on loopback, as HOST:PORT."""
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def counts(payload: bytes) -> dict[int, int]:
    """The counts of a V2 payload by index: ZigZag LEB128, negative ones being runs of zeros."""
    found: dict[int, int] = {}
    index = at = 0
    while at < len(payload):
        value = shift = 0
        while True:
            byte = payload[at]
            at += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                break
        number = (value >> 1) ^ -(value & 1)
        if number > 0:
            found[index] = number
        index += -number if number < 0 else 1
    return found


def decode(text: str) -> dict[int, int]:
    """The counts of an encoded histogram, its head checked."""
    raw = base64.b64decode(text, validate=True)
    cookie, length = struct.unpack_from(">II", raw)
    assert cookie == 0x1C849314
    assert length == len(raw) - 8
    plain = zlib.decompress(raw[8:])
    head = struct.unpack_from(">IIIIqqd", plain)
    assert head[0] == 0x1C849313
    assert head[1] == len(plain) - 40
    assert head[2:5] == (0, 2, 1)
    assert head[5] >= 3_600_000_000_000
    assert head[6] == 1.0
    return counts(plain[40:])


def hdr_value(index: int) -> int:
    """The lowest value of a bucket as HdrHistogram defines it: 256 sub-buckets."""
    bucket_index = (index >> 7) - 1
    sub_bucket = (index & 127) + 128
    if bucket_index < 0:
        bucket_index, sub_bucket = 0, sub_bucket - 128
    return sub_bucket << bucket_index


def test_the_buckets_are_hdr_histograms() -> None:
    for index in range(6000):
        assert bucket(index, 7)[0] == hdr_value(index)


def test_the_log_holds_every_slice_whole(target: str, tmp_path: Path) -> None:
    house = find_house()
    log = tmp_path / "latency.hlog"
    argv = [
        str(house.need(house.load_binary)), "--target", target, "--path", "/x",
        "--connections", "2", "--slices", "--hdr-log", str(log),
    ]  # fmt: skip
    commands = "slice 0 30\nslice 5 30 rate=500\nslice 0 1 rate=0.001\nquit\n"
    done = subprocess.run(
        argv, input=commands, capture_output=True, text=True, timeout=TIMEOUT_S, check=True
    )
    documents = [json.loads(line) for line in done.stdout.splitlines()[1:]]
    lines = log.read_text().splitlines()
    assert "#[Histogram log format version 1.3]" in lines
    assert any(
        re.fullmatch(r"#\[StartTime: \d+\.\d{3} \(seconds since epoch\)\]", x) for x in lines
    )
    rows = [match for line in lines if (match := LINE.fullmatch(line))]
    assert len(rows) == len(documents) == 3
    assert lines[-4].startswith('"StartTimestamp","Interval_Length","Interval_Max"')
    for row, document in zip(rows, documents, strict=True):
        latency = document["latency"]
        assert decode(row[4]) == dict(latency["counts"])
        assert float(row[2]) == pytest.approx(document["window"]["ns"] / 1e9, abs=0.001)
        assert float(row[3]) == pytest.approx((latency["max"] or 0) / 1e6, abs=1e-5)
    assert decode(rows[2][4]) == {}  # nothing was due in this one
    assert sum(decode(rows[1][4]).values()) == documents[1]["open_loop"]["due"]


def test_the_reports_log_is_read_by_the_same_decoder() -> None:
    rows = {3: 5, 4: 1, 6: 2, 500: 70_000, 3000: 1}
    assert decode(encode(rows, 10**9)) == rows
    assert decode(encode({}, 0)) == {}
    assert decode(encode({0: 1}, 0)) == {0: 1}


def test_the_reports_log_has_a_line_for_each_cell() -> None:
    def sample(block: int, cell: str, counts: list[list[int]], bits: int = 7) -> Sample:
        latency = {
            "scheme": "log-linear", "sub_bucket_bits": bits, "counts": counts,
            "max": 2_000_000 if counts else None,
        }  # fmt: skip
        document = {"window": {"ns": 200_000_000}, "latency": latency}
        return Sample(block, 0, cell, Status.OK, None, 10**18 + block * 10**9, 1, document)

    several = [
        sample(0, "epoll,cache=memory@1KiB", [[5, 1]]), sample(1, "nginx@1KiB", []),
        sample(2, "epoll,cache=memory@1KiB", [[5, 2], [9, 1]]), sample(3, "old", [[5, 1]], bits=5),
    ]  # fmt: skip
    plan = Plan("p", "", "epoll", ())
    text = log(plan, several)
    assert text is not None
    lines = text.splitlines()
    assert "#[StartTime: 1000000000.000 (seconds since epoch)]" in lines
    first, second = (line.split(",") for line in lines[-2:])
    assert first[:4] == ["Tag=epoll;cache=memory@1KiB", "0.000", "0.400", "2.000000"]
    assert decode(first[4]) == {5: 3, 9: 1}
    assert second[:4] == ["Tag=nginx@1KiB", "1.000", "0.200", "0.000000"]
    assert decode(second[4]) == {}
    assert log(plan, several[3:]) is None
