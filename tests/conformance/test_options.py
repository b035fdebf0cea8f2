"""Options together, and options of files in roles that have none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from client import Server, make_request, running
from conftest import NOT_FOR_RELAYS, values_to_try
from relay_client import digest, payload, receiver, sender, upload, words

# Each is for the engines that have all of its options.
COMBINED = [
    "sndbuf=16384,nodelay=off,hold=cork",
    "edge=on,cache=memory,sndbuf=16384,hold=cork",
    "edge=on,busy_poll=50,cache=none,buffer=4096",
    "edge=on,cache=none,hold=none,nodelay=off",
    "pipe=4096,chunk=1m,sndbuf=16384,hold=cork",
    "pipe=1m,chunk=4096,hold=none",
    "buffer=4096,buffers=2,sndbuf=16384,hold=cork",
    "cache=memory,chunk=4096,sndbuf=16384,hold=none",
]
RELAY_COMBINED = [
    "policy=buffered,edge=on,buffer=4096,sndbuf=16384",
    "policy=hybrid,threshold=4096,sndbuf=16384",
    "policy=hybrid,pipe=4096,batch=65536,chunk=4096",
    "sndbuf=16384,nodelay=off",
    "buffer=4096,buffers=2,sndbuf=16384",
    "chunk=4096,inflight=256k,ring_entries=4,fixed_files=on",
    "chunk=1m,inflight=256k,sqpoll=on,sndbuf=16384",
    "pipe=4096,linked=off,ring_entries=4,fixed_files=on",
    "buffer=4096,ring_entries=4,fixed_files=on,coop_taskrun=on",
]


def options_of(described: dict[str, Any], name: str) -> list[dict[str, Any]]:
    """The options of an engine, as --describe has them."""
    engine = next(engine for engine in described["engines"] if engine["name"] == name)
    options: list[dict[str, Any]] = engine["options"]
    return options


def fitting(described: dict[str, Any], name: str, combined: list[str]) -> list[str]:
    """The combinations whose options the engine has, with values that it takes; else a skip."""
    values = {o["name"]: o.get("values") or [] for o in options_of(described, name)}

    def fits(pair: str) -> bool:
        option, _, value = pair.partition("=")
        return option in values and (not values[option] or value in values[option])

    found = [one for one in combined if all(map(fits, one.split(",")))]
    if not found:
        pytest.skip(f"no combination is for {name}")
    return found


def relay_to_two(server: Server, chunks: list[int] | None) -> None:
    """An upload, whole or in chunks, that two receivers get."""
    data = payload(3_000_000)
    tos = [receiver(server, "/both?n=2") for _ in range(2)]
    frm = sender(server, "/both?n=2", None if chunks else len(data))
    sending = upload(frm, data, chunks)
    for to in tos:
        to.read_fields()
    got = [b"", b""]
    while len(got[0]) < len(data):
        for i, to in enumerate(tos):
            part = to.read_chunk() if chunks else to.read_exactly(50_000)
            assert part, digest(got[i])
            got[i] += part
    sending.join()
    assert [digest(one) for one in got] == [digest(data)] * 2
    assert words(frm)[-1] == "done"
    for party in (frm, *tos):
        party.reset()


def test_options_together(binary: Path, described: dict[str, Any], name: str, root: Path) -> None:
    names = ["f511", "f65537", "f1", "f4097", "f0", "f1048576", "f16384"]
    for options in fitting(described, name, COMBINED):
        with running(binary, f"{name},{options}", root) as server, server.connect() as conn:
            conn.send(b"".join(make_request(f"/{one}") for one in names))
            for one in names:
                assert conn.response().body == (root / one).read_bytes(), (options, one)


def test_options_together_between_sockets(
    binary: Path, described: dict[str, Any], relay_name: str
) -> None:
    for options in fitting(described, relay_name, RELAY_COMBINED):
        with running(binary, f"{relay_name},{options}", None, role="relay") as server:
            relay_to_two(server, None)
            relay_to_two(server, [1, 4096, 70_000])


def test_options_of_files_leave_a_relay_alone(
    binary: Path, described: dict[str, Any], relay_name: str
) -> None:
    """All of those that the suite does not try in relays one by one, at once."""
    spec = relay_name
    for option in options_of(described, relay_name):
        if option["name"] in NOT_FOR_RELAYS:
            spec += "".join(f",{option['name']}={value}" for value in values_to_try(option)[:1])
    assert spec != relay_name
    with running(binary, spec, None, role="relay") as server:
        relay_to_two(server, None)
        relay_to_two(server, [1, 4096, 70_000])
