"""HTTP: versions, persistence, conditions, ranges, errors (RFC 9110, RFC 9112)."""

from __future__ import annotations

import email.utils
import re
from pathlib import Path

import pytest
from client import Server, make_request, running

DATE = re.compile(r"(Mon|Tue|Wed|Thu|Fri|Sat|Sun), \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT")


def test_fields_of_a_200(server: Server, root: Path) -> None:
    got = server.get("/f1024")
    assert got.fields["content-length"] == "1024"
    assert got.fields["accept-ranges"] == "bytes"
    assert DATE.fullmatch(got.fields["date"])
    assert DATE.fullmatch(got.fields["last-modified"])
    assert re.fullmatch(r'"[^"]+"', got.fields["etag"])
    parsed = email.utils.parsedate_to_datetime(got.fields["last-modified"])
    assert int(parsed.timestamp()) == int((root / "f1024").stat().st_mtime)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("a.html", "text/html"),
        ("b.css", "text/css"),
        ("c.js", "text/javascript"),
        ("d.json", "application/json"),
        ("e.png", "image/png"),
        ("f.svg", "image/svg+xml"),
        ("g.txt", "text/plain"),
        ("h.wasm", "application/wasm"),
        ("i.zzz", "application/octet-stream"),
        ("f1024", "application/octet-stream"),
    ],
)
def test_content_type(server: Server, name: str, kind: str) -> None:
    assert server.get(f"/{name}").fields["content-type"].split(";")[0] == kind


def test_persistence(server: Server) -> None:
    cases = [
        ("1.1", "", True),
        ("1.1", "close", False),
        ("1.1", "keep-alive", True),
        ("1.0", "", False),
        ("1.0", "keep-alive", True),
        ("1.0", "close", False),
    ]
    for version, connection, stays in cases:
        with server.connect() as conn:
            conn.send(make_request("/f511", version=version, Connection=connection))
            got = conn.response()
            assert (got.status, len(got.body), got.version) == (200, 511, "HTTP/1.1")
            if stays:
                if version == "1.0":
                    assert got.fields["connection"].lower() == "keep-alive"
                assert conn.request("/f1").status == 200
            else:
                assert got.fields["connection"].lower() == "close"
                assert conn.at_end()


def test_http_1_0_without_host(server: Server) -> None:
    with server.connect() as conn:
        conn.send(b"GET /f1 HTTP/1.0\r\n\r\n")
        assert conn.response().status == 200
        assert conn.at_end()


def test_half_closed_client_is_answered(server: Server, root: Path) -> None:
    with server.connect() as conn:
        conn.send(make_request("/f65537"))
        conn.sock.shutdown(1)
        assert conn.response().body == (root / "f65537").read_bytes()
        assert conn.at_end()


# ---------------------------------------------------------------------------- conditions


def test_if_none_match(server: Server) -> None:
    etag = server.get("/f1024").fields["etag"]
    with server.connect() as conn:
        for value in (etag, "*", f"W/{etag}", f'"x", {etag}', f'"x",W/{etag} , "y"'):
            got = conn.request("/f1024", If_None_Match=value)
            assert (got.status, got.fields["etag"]) == (304, etag), value
        assert conn.request("/f1024", If_None_Match='"x"').status == 200
        assert conn.request("/f1024", "HEAD", If_None_Match=etag).status == 304


def test_if_modified_since(server: Server) -> None:
    stamp = server.get("/f1024").fields["last-modified"]
    then = email.utils.parsedate_to_datetime(stamp)
    asctime = then.strftime("%a %b %e %H:%M:%S %Y")
    rfc850 = then.strftime("%A, %d-%b-%y %H:%M:%S GMT")
    with server.connect() as conn:
        for value in (stamp, "Fri, 01 Jan 2100 00:00:00 GMT", asctime, rfc850):
            assert conn.request("/f1024", If_Modified_Since=value).status == 304, value
        for value in ("Thu, 01 Jan 1998 00:00:00 GMT", "yesterday", "0"):
            assert conn.request("/f1024", If_Modified_Since=value).status == 200, value
        # If-None-Match decides alone where both stand.
        assert conn.request("/f1024", If_None_Match='"x"', If_Modified_Since=stamp).status == 200


def test_if_match_and_if_unmodified_since(server: Server) -> None:
    got = server.get("/f1024")
    etag, old = got.fields["etag"], "Thu, 01 Jan 1998 00:00:00 GMT"
    with server.connect() as conn:
        assert conn.request("/f1024", If_Match=etag).status == 200
        assert conn.request("/f1024", If_Match="*").status == 200
        assert conn.request("/f1024", If_Match=f"W/{etag}").status == 412
        assert conn.request("/f1024", If_Match='"x"').status == 412
        assert conn.request("/f1024", If_Unmodified_Since=old).status == 412
        assert conn.request("/f1024", If_Match=etag, If_Unmodified_Since=old).status == 200
        assert conn.request("/f1024").status == 200


# ---------------------------------------------------------------------------- ranges


@pytest.mark.parametrize("value", ["bytes=1024-", "bytes=99999999999999999999999-", "bytes=-0"])
def test_unsatisfiable_range(server: Server, value: str) -> None:
    got = server.get("/f1024", Range=value)
    assert got.status == 416
    assert got.fields["content-range"] == "bytes */1024"


@pytest.mark.parametrize(
    "value", ["bytes=", "bytes=a-b", "bytes=5-3", "lines=0-1", "bytes=0-1,4-5", "bytes 0-1", "x"]
)
def test_range_that_is_ignored(server: Server, value: str) -> None:
    got = server.get("/f1024", Range=value)
    assert (got.status, len(got.body)) == (200, 1024)


def test_range_of_an_empty_file(server: Server) -> None:
    assert server.get("/f0", Range="bytes=0-").status == 416
    assert server.get("/f0").status == 200


def test_range_is_for_get_only(server: Server) -> None:
    with server.connect() as conn:
        got = conn.request("/f1024", "HEAD", Range="bytes=0-1")
        assert (got.status, got.fields["content-length"]) == (200, "1024")


def test_if_range(server: Server) -> None:
    first = server.get("/f1024")
    etag, stamp = first.fields["etag"], first.fields["last-modified"]
    with server.connect() as conn:
        for value, status in [
            (etag, 206),
            (stamp, 206),
            (f"W/{etag}", 200),
            ('"x"', 200),
            ("Thu, 01 Jan 1998 00:00:00 GMT", 200),
        ]:
            got = conn.request("/f1024", Range="bytes=0-9", If_Range=value)
            assert (got.status, len(got.body)) == (status, 10 if status == 206 else 1024), value


# ---------------------------------------------------------------------------- errors

BAD = [
    (b"GET /f1 HTTP/1.1\r\n\r\n", 400),  # no Host
    (b"GET /f1 HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
    (b"GET /f1\r\n\r\n", 400),
    (b"GET f1 HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    (b"GET /%zz HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    (b"GET /%00 HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    (b"GET /f1 HTTP/1.1\r\nHost : a\r\n\r\n", 400),
    (b"GET /f1 HTTP/1.1\r\nHost: a\r\nContent-Length: x\r\n\r\n", 400),
    (b"GET /f1 HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", 400),
    (
        b"GET /f1 HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"0\r\n\r\n",
        400,
    ),
    (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400),
    (b"GET /f1 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 501),
    (b"BREW /f1 HTTP/1.1\r\nHost: a\r\n\r\n", 501),
    (b"GET /f1 HTTP/2.0\r\nHost: a\r\n\r\n", 505),
    (b"GET /f1 HTTP/3.7\r\nHost: a\r\n\r\n", 505),
    (b"GET /" + b"x" * 9000 + b" HTTP/1.1\r\nHost: a\r\n\r\n", 414),
    (b"GET /f1 HTTP/1.1\r\nHost: a\r\nX: " + b"y" * 17000 + b"\r\n\r\n", 431),
    (b"GET /f1 HTTP/1.1\r\nHost: a\r\n" + b"X: y\r\n" * 4000 + b"\r\n", 431),
    (b"GET /f1 HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999\r\n\r\n", 413),
    (b"GET /f1 HTTP/1.1\r\nHost: a\r\nContent-Length: 18446744073709551616\r\n\r\n", 400),
]


@pytest.mark.parametrize(("data", "status"), BAD, ids=[f"{s}-{d[:40]!r}" for d, s in BAD])
def test_bad_request_is_answered_and_closed(server: Server, data: bytes, status: int) -> None:
    with server.connect() as conn:
        conn.send(data)
        got = conn.response()
        assert got.status == status
        if status != 400 or b"/%" not in data:
            assert got.fields["connection"] == "close"
            assert conn.at_end()
    assert server.get("/f1").status == 200


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE"])
def test_other_methods(server: Server, method: str) -> None:
    with server.connect() as conn:
        got = conn.request("/f1", method, Content_Length="0")
        assert (got.status, got.fields["allow"]) == (405, "GET, HEAD")
        assert conn.request("/f1").status == 200


def test_body_of_a_get_is_skipped(server: Server) -> None:
    with server.connect() as conn:
        conn.send(make_request("/f1", Content_Length="60000") + b"z" * 60000)
        assert conn.response().status == 200
        chunks = b"3\r\nabc\r\n" * 50 + b"0\r\nTrailer: x\r\n\r\n"
        conn.send(make_request("/f511", Transfer_Encoding="chunked") + chunks)
        assert len(conn.response().body) == 511
        assert conn.request("/f1").status == 200


def test_chunked_body_without_end_is_limited(server: Server) -> None:
    with server.connect() as conn:
        conn.send(make_request("/f1", Transfer_Encoding="chunked") + b"1\r\nx\r\n" * 100000)
        assert conn.response().status == 413


def test_expectation(server: Server) -> None:
    with server.connect() as conn:
        assert conn.request("/f1", Expect="100-continue").status == 200
        assert conn.request("/f1", Expect="tea").status == 417


def test_upgrade_is_ignored(server: Server) -> None:
    with server.connect() as conn:
        conn.send(make_request("/f1", Connection="Upgrade", Upgrade="h2c") + make_request("/f511"))
        assert conn.response().status == 200
        assert len(conn.response().body) == 511


def test_slow_head_times_out(binary: Path, name: str, root: Path) -> None:
    with running(binary, name, root, "--header-timeout", "200") as server:
        with server.connect() as conn:
            conn.send(b"GET /f1 HTTP/1.1\r\nHo")
            assert conn.response().status == 408
            assert conn.at_end()
        assert server.total("timeouts") >= 1
        assert server.get("/f1").status == 200


def test_idle_connection_times_out(binary: Path, name: str, root: Path) -> None:
    with running(binary, name, root, "--idle-timeout", "200") as server, server.connect() as conn:
        assert conn.request("/f1").status == 200
        assert conn.at_end()


def test_reader_that_stalls_times_out(binary: Path, name: str, root: Path) -> None:
    args = ["--send-timeout", "300", "--linger-timeout", "300"]
    with running(binary, name, root, *args) as server:
        with server.connect(rcvbuf=4096) as conn:
            conn.send(make_request("/huge"))
            conn.read_head()
            server.until("connections", 0)  # the server gave up: nothing more was read here
        assert server.total("timeouts") >= 1
