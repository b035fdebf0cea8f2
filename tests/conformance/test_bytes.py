"""Bytes: whatever the technique, what arrives is what the file holds."""

from __future__ import annotations

import os
import random
import threading
import time
from pathlib import Path

import pytest
from client import SIZES, Connection, ProtocolError, Sanitizer, Server, make_request, running


@pytest.mark.parametrize("size", SIZES)
def test_whole_file_twice_on_one_connection(server: Server, root: Path, size: int) -> None:
    want = (root / f"f{size}").read_bytes()
    with server.connect() as conn:
        for _ in range(2):
            got = conn.request(f"/f{size}")
            assert got.status == 200
            assert got.body == want


@pytest.mark.parametrize("size", SIZES)
def test_head_has_the_length_and_no_body(server: Server, root: Path, size: int) -> None:
    with server.connect() as conn:
        got = conn.request(f"/f{size}", "HEAD")
        assert got.fields["content-length"] == str(size)
        # A body byte would be read as the next status line.
        assert conn.request(f"/f{size}").body == (root / f"f{size}").read_bytes()


def test_ranges_of_every_kind(server: Server, root: Path) -> None:
    want = (root / "f65537").read_bytes()
    cases = [(0, 0), (0, 65536), (1, 4096), (4095, 4097), (65536, 65536), (100, 99999999)]
    with server.connect() as conn:
        for first, last in cases:
            got = conn.request("/f65537", Range=f"bytes={first}-{last}")
            end = min(last, 65536)
            assert got.status == 206
            assert got.fields["content-range"] == f"bytes {first}-{end}/65537"
            assert got.body == want[first : end + 1]
        assert conn.request("/f65537", Range="bytes=65000-").body == want[65000:]
        assert conn.request("/f65537", Range="bytes=-17").body == want[-17:]
        assert conn.request("/f65537", Range="bytes=-999999").body == want


def test_beyond_four_gib(server: Server) -> None:
    with server.connect() as conn:
        assert conn.request("/huge", "HEAD").fields["content-length"] == str(5 << 30)
        first = (4 << 30) - 8
        got = conn.request("/huge", Range=f"bytes={first}-{first + 15}")
        assert (got.status, got.body) == (206, b"before4Gafter4G!")
        assert conn.request("/huge", Range="bytes=-3").body == bytes(3)


def test_whole_file_of_five_gib(
    server: Server, pytestconfig: pytest.Config, sanitizer: Sanitizer
) -> None:
    if not pytestconfig.getoption("--slow"):
        pytest.skip("5 GiB through every engine takes minutes: --slow")
    with server.connect() as conn:
        conn.send(make_request("/huge"))
        _, fields, _ = conn.read_head()
        left = int(fields["content-length"])
        while left:
            left -= len(conn.read_exactly(min(left, 1 << 24)))


@pytest.mark.parametrize("depth", [2, 16, 17, 100])
def test_pipelined_in_one_send(server: Server, root: Path, depth: int) -> None:
    source = random.Random(depth)
    names = [f"f{source.choice(SIZES[:-2])}" for _ in range(depth)]
    with server.connect() as conn:
        conn.send(b"".join(make_request(f"/{name}") for name in names))
        for name in names:
            assert conn.response().body == (root / name).read_bytes(), name


def test_pipelined_with_errors_between(server: Server, root: Path) -> None:
    with server.connect() as conn:
        names = ["/f1024", "/nope", "/f0", "/dir", "/f4097", "/nope", "/f1"]
        conn.send(b"".join(make_request(name) for name in names))
        statuses = [conn.response().status for _ in names]
    assert statuses == [200, 404, 200, 301, 200, 404, 200]


def test_two_requests_split_at_every_byte(server: Server, root: Path) -> None:
    data = make_request("/f511") + make_request("/f1", Range="bytes=0-0")
    for cut in range(1, len(data)):
        with server.connect() as conn:
            conn.send(data[:cut])
            conn.send(data[cut:])
            assert conn.response().body == (root / "f511").read_bytes()
            assert conn.response().body == (root / "f1").read_bytes()


def test_byte_by_byte(server: Server, root: Path) -> None:
    with server.connect() as conn:
        for byte in make_request("/f511"):
            conn.send(bytes([byte]))
        assert conn.response().body == (root / "f511").read_bytes()


def test_slow_reader_gets_everything(server: Server, root: Path) -> None:
    want = (root / f"f{SIZES[-1]}").read_bytes()
    with server.connect(rcvbuf=4096) as conn:
        conn.send(make_request(f"/f{SIZES[-1]}") + make_request("/f1"))
        _, fields, _ = conn.read_head()
        time.sleep(0.05)  # the server meets a full socket; no assertion depends on how long
        assert conn.read_exactly(int(fields["content-length"])) == want
        assert conn.response().body == (root / "f1").read_bytes()


def test_many_connections_at_once(server: Server, root: Path) -> None:
    wrong: list[str] = []

    def client(seed: int) -> None:
        source = random.Random(seed)
        with server.connect() as conn:
            for _ in range(12):
                size = source.choice(SIZES[:-1])
                got = conn.request(f"/f{size}")
                if got.body != (root / f"f{size}").read_bytes():
                    wrong.append(f"f{size}")

    threads = [threading.Thread(target=client, args=(i,)) for i in range(24)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


# ---------------------------------------------------------------------------- files that change


def cut_response(conn: Connection, length: int) -> int:
    """Reads on; how many bytes of the body came before the connection ended."""
    have = len(conn.buffer)
    conn.buffer = b""
    while have < length and conn.fill():
        have += len(conn.buffer)
        conn.buffer = b""
    return have


def test_file_that_shrinks_is_cut(binary: Path, spec: str, tmp_path: Path) -> None:
    name, size = "shrink", 24 << 20
    (tmp_path / name).write_bytes(os.urandom(1 << 20) * 24)
    (tmp_path / "other").write_bytes(b"still here")
    with running(binary, spec, tmp_path) as server:
        with server.connect(rcvbuf=65536) as conn:
            conn.send(make_request(f"/{name}"))
            _, fields, _ = conn.read_head()
            assert int(fields["content-length"]) == size
            os.truncate(tmp_path / name, 4321)
            assert cut_response(conn, size) < size
            assert not conn.fill()
        assert server.get("/other").body == b"still here"


def test_file_that_is_deleted_while_sent_is_finished(
    binary: Path, spec: str, tmp_path: Path
) -> None:
    want = os.urandom(1 << 20) * 8
    (tmp_path / "gone").write_bytes(want)
    with running(binary, spec, tmp_path) as server, server.connect(rcvbuf=65536) as conn:
        conn.send(make_request("/gone"))
        _, fields, _ = conn.read_head()
        (tmp_path / "gone").unlink()
        assert conn.read_exactly(int(fields["content-length"])) == want


def test_file_that_grows_is_sent_as_announced(binary: Path, spec: str, tmp_path: Path) -> None:
    want = os.urandom(1 << 20) * 8
    (tmp_path / "grow").write_bytes(want)
    with running(binary, spec, tmp_path) as server, server.connect(rcvbuf=65536) as conn:
        conn.send(make_request("/grow"))
        _, fields, _ = conn.read_head()
        with (tmp_path / "grow").open("ab") as file:
            file.write(b"more")
        assert conn.read_exactly(int(fields["content-length"])) == want
        # Anything surplus would be taken for the next status line.
        assert conn.request("/nope").status == 404


def test_replaced_file_is_served_anew(binary: Path, spec: str, tmp_path: Path) -> None:
    (tmp_path / "page").write_bytes(b"old")
    with running(binary, spec, tmp_path, "--cache-valid", "50") as server:
        assert server.get("/page").body == b"old"
        (tmp_path / "next").write_bytes(b"brand new")
        (tmp_path / "next").rename(tmp_path / "page")
        end = time.monotonic() + 20
        while (got := server.get("/page").body) != b"brand new":
            assert got == b"old"
            assert time.monotonic() < end
            time.sleep(0.02)


def test_a_cut_body_is_noticed_by_this_client(server: Server) -> None:
    """The suite's own eye: reading more than there is must fail."""
    with server.connect() as conn:
        conn.send(make_request("/f1", Connection="close"))
        conn.read_head()
        with pytest.raises(ProtocolError):
            conn.read_exactly(2)
