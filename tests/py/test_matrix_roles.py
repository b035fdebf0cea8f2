"""Matrices of streams and of copies."""

from __future__ import annotations

import pytest
from matrices import MATRIX, assert_refused

from iolab.errors import InputError
from iolab.matrix import parse_plan, plan_from_json, plan_to_json
from iolab.model import CopyLoad, Workload
from iolab.specs import Offer, parse_server

STREAMS = """
schema_version = 1
name = "m"
summary = "s"
[run]
role = "forward"
baseline = "haproxy-splice"
memory_limit = "1GiB"
[servers]
list = ["peer:*", "engine:*", "engine:mmap"]
[[workload]]
name = "w"
pairs = 16
direction = "both"
"""
COPIES = """
schema_version = 1
name = "copies"
summary = ""
[run]
role = "copy"
baseline = "read-write"
[servers]
list = ["technique:*", "technique:mmap,to=mapping"]
[[workload]]
name = "large"
size = "64MiB"
add = ["technique:read-write,direct=yes"]
[[workload]]
name = "small"
size = "16KiB"
files = 512
batch = 64
cache = "cold"
target = "tmpfs"
fresh = true
durable = true
"""


def test_a_star_is_all_that_play_the_role(offer: Offer) -> None:
    plan = parse_plan(STREAMS, offer, "m.toml")
    assert [server.label for server in plan.servers] == [
        "haproxy-splice",
        "epoll",
        "splice",
        "mmap",
    ]
    assert [s.label for s in parse_server("peer:*", offer, "relay")] == ["piping-server"]
    (workload,) = plan.workloads
    assert workload == Workload("w", 0, pairs=16, direction="both")
    assert (plan.memory_limit_bytes, workload.unit) == (1 << 30, "GiB")
    assert [plan.instance(cell) for cell in plan.cells[:1]] == ["haproxy-splice@w"]
    assert plan_from_json(plan_to_json(plan), "manifest.json") == plan


def test_an_engine_named_for_a_role_it_has_not_is_unsupported(offer: Offer) -> None:
    plan = parse_plan(STREAMS, offer, "m.toml")
    reason = "it does not play role forward: it moves bytes from mapping"
    assert plan.servers[-1].unsupported == reason
    assert plan.left_out == (f"mmap: {reason}",)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("pairs = 16", "", ["workload[1].pairs", "missing", "role forward"]),
        ("pairs = 16", "pairs = 1\nconnections = 2", ["workload[1].connections", "no key of role"]),
        ("pairs = 16", "pairs = 1\nchunked = true", ["workload[1].chunked", "direction, pairs"]),
        ("pairs = 16", "pairs = 1\nsize = 0", ["workload[1].size", "a byte at least"]),
        ("pairs = 16", "pairs = 0", ["workload[1].pairs", "greater than"]),
        ('"both"', '"sideways"', ["workload[1].direction", "up, down, both"]),
        ("peer:*", "peer:nginx", ["peer:nginx", "does not play role forward", "haproxy-splice"]),
        ("[run]", "[run]\nwrk_check = true", ["run.wrk_check", "wrk asks for files"]),
        ('role = "forward"', 'role = "relay"', ["workload[1].direction", "chunked, pairs, size"]),
        ("1GiB", "much", ["run.memory_limit", "KiB"]),
    ],
)
def test_wrong_matrices_of_streams_name_the_key(
    offer: Offer, old: str, new: str, words: list[str]
) -> None:
    assert old in STREAMS
    assert_refused(STREAMS.replace(old, new), offer, words)


def test_a_matrix_of_copies_names_techniques(offer: Offer) -> None:
    plan = parse_plan(COPIES, offer, "m.toml")
    large, small = plan.workloads
    assert [server.spec for server in plan.servers] == [
        "technique:read-write",
        "technique:mmap",
        "technique:io_uring",
        "technique:clone",
        "technique:mmap,to=mapping",
        "technique:read-write,direct=yes",
    ]
    reasons = [server.unsupported for server in plan.servers]
    assert reasons == [None, None, None, "no clones here", None, "no O_DIRECT here"]
    assert large.copy == CopyLoad()
    assert small.copy == CopyLoad(512, 64, "cold", "tmpfs", True, True)
    assert (large.unit, large.unit_bytes) == ("GiB", 1 << 30)
    assert (small.unit, small.unit_bytes) == ("file", 16384)
    assert plan_from_json(plan_to_json(plan), "manifest.json") == plan


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('size = "64MiB"', "", ["workload[1].size", "missing", "role copy"]),
        ('size = "64MiB"', "size = 0", ["workload[1].size", "a byte at least"]),
        ('size = "64MiB"', "size = 1\nconnections = 2", ["workload[1].connections", "role copy"]),
        ("batch = 64", "batch = 100", ["workload[2].batch", "does not divide files (512)"]),
        ("cold", "hot", ["workload[2].cache", "warm, cold"]),
        ("technique:*", "technique:cp", ["unknown technique 'cp'", "read-write"]),
        ("technique:*", "engine:*", ["technique:NAME", "engine:*"]),
        ("to=mapping", "to=disk", ["technique:mmap", "write, mapping"]),
        ("to=mapping", "too=disk", ["technique:mmap", "unknown option", "did you mean 'to'"]),
        ("technique:mmap,to=mapping", "technique:*,depth=1", ["no technique has the option depth"]),
        ("[run]", "[run]\nmemory_limit = '1GiB'", ["run.memory_limit", "no server"]),
        ("[run]", "[run]\nwrk_check = true", ["run.wrk_check", "wrk asks for files"]),
    ],
)
def test_wrong_matrices_of_copies_name_the_key(
    offer: Offer, old: str, new: str, words: list[str]
) -> None:
    assert old in COPIES
    assert_refused(COPIES.replace(old, new), offer, words)


def test_techniques_are_of_role_copy_alone(offer: Offer) -> None:
    with pytest.raises(InputError, match="engine:NAME"):
        parse_plan(MATRIX.replace("peer:nginx", "technique:mmap"), offer, "m.toml")


def test_the_copier_is_asked_only_when_it_is_named(offer: Offer) -> None:
    silent = Offer(offer.describe, offer.peers)
    parse_plan(MATRIX, silent, "m.toml")
    with pytest.raises(InputError, match="techniques are not known"):
        parse_plan(COPIES, silent, "m.toml")
