"""What a receiver is told of an upload: its fields, its type, the first part of a form."""

from __future__ import annotations

import pytest
from client import ProtocolError, Server
from relay_client import (
    digest,
    head,
    payload,
    receiver,
    sender,
    until_empty,
    upload,
    words,
)


def test_fields_that_reach_the_receiver(relay: Server) -> None:
    fields = [
        ("Content-Type", "Text/HTML; charset=utf-8"),
        ("Content-Disposition", 'attachment; filename="a.b"'),
        ("X-Piping", "one"),
        ("X-Other", "stays"),
        ("X-Piping", "two"),
    ]
    to = receiver(relay, "/fields")
    frm = sender(relay, "/fields", 1, fields=fields)
    frm.send(b"x")
    to.read_fields()
    assert to.field("content-type") == "text/plain; charset=utf-8"
    assert to.field("content-disposition") == 'attachment; filename="a.b"'
    assert to.all("x-piping") == ["one", "two"]
    assert to.field("access-control-expose-headers") == "X-Piping"
    assert to.field("access-control-allow-origin") == "*"
    assert to.field("x-robots-tag") == "none"
    assert to.field("x-content-type-options") == "nosniff"
    assert to.field("x-other") is None
    frm.sock.close()

    to.read_body()
    to.send(head("GET", "/plain"))
    frm = sender(relay, "/plain", 1, fields=[("Content-Type", "text/htmlx")])
    frm.send(b"x")
    to.read_fields()
    assert to.field("content-type") == "text/htmlx"
    assert to.field("content-disposition") is None
    assert to.field("access-control-expose-headers") is None
    frm.sock.close()
    to.sock.close()


@pytest.mark.parametrize(
    ("sent", "got"),
    [
        (["a/b, text/html"], "a/b, text/plain"),
        (["a/b,TEXT/HTML ;c=d,\ttext/html"], "a/b,text/plain ;c=d,\ttext/plain"),
        (['a/b;c="d, text/html'], 'a/b;c="d, text/plain'),
        (["text/html(x)"], "text/plain(x)"),
        (["a/b", "text/html"], "text/plain"),
        (["text/html", "a/b"], "a/b"),
        (["text/html", ""], ""),
        ([], None),
    ],
)
def test_no_type_makes_a_page_of_an_upload(relay: Server, sent: list[str], got: str | None) -> None:
    to = receiver(relay, "/type")
    frm = sender(relay, "/type", 6, fields=[("Content-Type", value) for value in sent])
    frm.send(b"<html>")
    to.read_fields()
    assert to.field("content-type") == got
    assert to.field("x-content-type-options") == "nosniff"
    assert to.read_body() == b"<html>"
    assert words(frm)[-1] == "done"
    frm.sock.close()
    to.sock.close()


def test_a_folded_type_smuggles_nothing(relay: Server) -> None:
    """The parser may refuse the fold; what it lets through arrives as one line."""
    to = receiver(relay, "/folded")
    with sender(relay, "/folded", 1, fields=[("Content-Type", "a/b,\r\n text/html")]) as frm:
        frm.send(b"x")
        frm.read_fields()
        assert frm.status in (200, 400)
        if frm.status == 200:
            to.read_fields()
            assert to.field("content-type") == "a/b,   text/plain"
    to.sock.close()
    until_empty(relay)


def form(boundary: str, body: bytes, tail: bytes, content_type: str = "text/html") -> bytes:
    """A form upload of two parts, the first one of a file."""
    first = 'Content-Disposition: form-data; name="f"; filename="x.html"\r\nContent-Type: '
    first += content_type
    return f"--{boundary}\r\n{first}\r\n\r\n".encode() + body + tail


def test_multipart_passes_the_first_part(relay: Server) -> None:
    body = payload(200_000) + b"\r\n--almost\r\n"
    whole = form("cut", body, b"\r\n--cut\r\nX: y\r\n\r\nother\r\n--cut--\r\n")
    for length in (len(whole), None):
        to = receiver(relay, "/form")
        frm = sender(
            relay, "/form", length, fields=[("Content-Type", "multipart/form-data; boundary=cut")]
        )
        thread = upload(frm, whole, None if length else [997, 50_000])
        to.read_fields()
        assert to.field("content-type") == "text/plain"
        assert to.field("content-disposition") == 'form-data; name="f"; filename="x.html"'
        assert digest(to.read_body()) == digest(body)
        thread.join()
        assert words(frm)[-1] == "done"
        frm.sock.close()
        to.sock.close()


def test_the_type_of_a_part_makes_no_page(relay: Server) -> None:
    whole = form("cut", b"<html>", b"\r\n--cut--\r\n", "a/b,\r\n Text/HTML;c=d")
    to = receiver(relay, "/part")
    frm = sender(
        relay, "/part", len(whole), fields=[("Content-Type", "multipart/form-data; boundary=cut")]
    )
    frm.send(whole)
    to.read_fields()
    assert to.field("content-type") == "a/b,   text/plain;c=d"
    assert to.field("x-content-type-options") == "nosniff"
    assert to.read_body() == b"<html>"
    assert words(frm)[-1] == "done"
    frm.sock.close()
    to.sock.close()


def test_a_form_that_breaks_off_shows(relay: Server) -> None:
    whole = form("cut", payload(5000), b"")
    to = receiver(relay, "/broken")
    frm = sender(
        relay, "/broken", len(whole), fields=[("Content-Type", "multipart/form-data; boundary=cut")]
    )
    frm.send(whole)
    to.read_fields()
    with pytest.raises(ProtocolError):
        to.read_body()
    assert words(frm)[-1] == "failed"
