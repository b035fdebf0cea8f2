"""Paths: nothing outside the root can be reached, whatever is encoded in the target."""

from __future__ import annotations

import urllib.parse
from pathlib import Path

import pytest
from client import Server
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

OK = [
    ("/g.txt", b"g.txt"),
    ("/%67.txt", b"g.txt"),
    ("//g.txt", b"g.txt"),
    ("/./g.txt", b"g.txt"),
    ("/dir/../g.txt", b"g.txt"),
    ("/g.txt?query=1", b"g.txt"),
    ("http://iolab.test/g.txt", b"g.txt"),
    ("/dir/", b"<p>index"),
    ("/dir%2finner.txt", b"inner"),
    ("/inside", b"inner"),
    ("/with%20space%20%26%20more.txt", b"spaced"),
]


@pytest.mark.parametrize(("target", "body"), OK)
def test_found(server: Server, target: str, body: bytes) -> None:
    got = server.get(target)
    assert (got.status, got.body) == (200, body)


BAD = [
    ("/nope", {404}),
    ("/g.txt/", {404}),
    ("/g.txt/x", {404}),
    ("/empty/", {403}),
    ("/", {403}),
    ("/outside", {403}),
    ("/absolute", {403}),
    ("/up/secret", {403}),
    ("/fifo", {403}),
    ("/../secret", {403}),
    ("/%2e%2e/secret", {403}),
    ("/..%2fsecret", {403}),
    ("/%2e%2e%2fsecret", {403}),
    ("/dir/../../secret", {403}),
    ("/dir/%2e%2e/%2e%2e/secret", {403}),
    ("//etc/passwd", {404}),
    ("/%2fetc/passwd", {404}),
    ("/" + "d/" * 2000, {404}),
    ("/" + "n" * 300, {404}),
]


@pytest.mark.parametrize(("target", "statuses"), BAD, ids=[t[:24] for t, _ in BAD])
def test_not_found_or_forbidden(server: Server, target: str, statuses: set[int]) -> None:
    assert server.get(target).status in statuses


def test_directory_without_slash_redirects(server: Server) -> None:
    got = server.get("/dir?a=b")
    assert (got.status, got.fields["location"]) == (301, "/dir/?a=b")
    assert server.get("//dir").fields["location"] == "/dir/"


PIECES = st.sampled_from(
    (
        *("..", ".", "%2e%2e", "%2E.", "/", "%2f", "//", "dir", "up", "outside", "secret"),
        *("inside", "%5c", "\\", ";", "?", "%c0%ae", "%ff", "f1", "root", "proc"),
        *("etc/passwd", "absolute"),
    )
)


@given(pieces=st.lists(PIECES, max_size=12))
@settings(
    max_examples=150,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_the_secret_stays_outside(server: Server, root: Path, pieces: list[str]) -> None:
    target = "/" + "".join(pieces)
    got = server.get(target.replace("#", "%23"))
    assert b"TOP-SECRET" not in got.body, target
    assert b"root:" not in got.body, target
    if got.status == 200:
        path = urllib.parse.unquote(target.split("?")[0]).lstrip("/")
        assert (root / path).resolve().is_relative_to(root)
