"""Whom the relay turns away, and what it answers by itself: reserved paths, other methods."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest
from client import Server
from relay_client import (
    Party,
    head,
    receiver,
    sender,
    until_empty,
    until_waiting,
    words,
)


def refusal(party: Party) -> str:
    """The text of a 400, after which the connection ends."""
    party.read_fields()
    text = party.read_body().decode()
    assert party.status == 400, text
    assert text.startswith("400 "), text
    assert party.read_to_end() == b""
    return text


@contextlib.contextmanager
def waiting_pair_of_two(server: Server) -> Iterator[None]:
    """A sender that waits for two receivers, of which one is there."""
    frm = sender(server, "/taken?n=2", 10)
    to = receiver(server, "/taken?n=2")
    until_waiting(server, "/taken", with_sender=True)
    yield
    frm.reset()
    to.reset()
    until_empty(server)


@pytest.mark.parametrize("n", ["0", "-1", "x", "", "1.5", "257", "99999999999"])
def test_n_must_be_a_number_of_receivers(relay: Server, n: str) -> None:
    assert "n=" in refusal(receiver(relay, f"/n?n={n}"))
    assert "n=" in refusal(sender(relay, f"/n?n={n}", 1))


def test_what_does_not_fit_is_refused(relay: Server) -> None:
    with waiting_pair_of_two(relay):
        assert "expects n=" in refusal(receiver(relay, "/taken"))
        assert "expects n=" in refusal(sender(relay, "/taken?n=3", 1))
        assert "sender" in refusal(sender(relay, "/taken?n=2", 1))
    tos = [receiver(relay, "/full?n=2") for _ in range(2)]
    until_waiting(relay, "/full", 2)
    assert "receiver" in refusal(receiver(relay, "/full?n=2"))
    frm = sender(relay, "/full?n=2", 10)
    frm.send(b"12345")
    for to in tos:
        to.read_fields()
        to.read_exactly(5)
    assert "in use" in refusal(receiver(relay, "/full?n=2"))
    assert "in use" in refusal(sender(relay, "/full", 1))
    frm.send(b"67890")
    assert words(frm)[-1] == "done"


def test_fields_that_are_refused(relay: Server) -> None:
    party = sender(relay, "/part", 1, fields=[("Content-Range", "bytes 0-0/2")])
    assert "Content-Range" in refusal(party)
    party = Party(relay.address)
    party.send(head("GET", "/worker", "1.1", [("Service-Worker", "script")]))
    assert "Service-Worker" in refusal(party)


def test_reserved_paths(relay: Server) -> None:
    for path in ("/", "/version", "/help", "/status", "/favicon.ico", "/robots.txt"):
        assert "reserved" in refusal(sender(relay, path, 1))
        with Party(relay.address) as party:
            party.send(head("GET", path) + head("HEAD", path))
            party.read_fields()
            assert party.status == (204 if path == "/favicon.ico" else 200)
            if party.status == 200:
                assert party.read_body()
            party.read_fields()
            assert party.status == (204 if path == "/favicon.ico" else 200)
            assert party.quiet(0.02)


def test_other_methods(relay: Server) -> None:
    with Party(relay.address) as party:
        party.send(head("OPTIONS", "/any"))
        party.read_fields()
        assert (party.status, party.field("content-length")) == (200, "0")
        assert party.field("access-control-allow-origin") == "*"
        assert "PUT" in (party.field("access-control-allow-methods") or "")
        for method in ("DELETE", "PATCH", "HEAD"):
            party.send(head(method, "/any"))
            party.read_fields()
            assert party.status == 405
            assert party.field("allow") == "GET, POST, PUT, OPTIONS"
            if method != "HEAD":
                party.read_body()
