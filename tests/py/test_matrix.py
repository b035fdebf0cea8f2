"""Matrices of files: servers, workloads, and what is refused."""

from __future__ import annotations

from dataclasses import replace

import pytest
from matrices import MATRIX, assert_refused

from iolab.describe import Describe, Engine
from iolab.errors import InputError
from iolab.matrix import parse_plan, plan_from_json, plan_to_json
from iolab.specs import Offer, PeerOffer, parse_server


def test_a_star_means_every_engine_that_serves_files(offer: Offer) -> None:
    plan = parse_plan(MATRIX, offer, "m.toml")
    labels = [server.label for server in plan.servers]
    assert labels == ["nginx", "epoll", "sendfile", "mmap", "io_uring"]


def test_what_cannot_run_stays_in_the_plan_with_its_reason(offer: Offer) -> None:
    plan = parse_plan(MATRIX, offer, "m.toml")
    (uring,) = [server for server in plan.servers if server.name == "io_uring"]
    assert uring.unsupported == "kernel.io_uring_disabled is 2"
    assert plan.left_out == ("io_uring: kernel.io_uring_disabled is 2",)


def test_options_limit_a_star_to_engines_that_have_them(offer: Offer) -> None:
    servers = parse_server("engine:*,cache=memory", offer, "file")
    names = ["epoll", "sendfile", "io_uring"]
    assert [server.label for server in servers] == [f"{name},cache=memory" for name in names]


def test_without_nginx_the_fallback_is_the_baseline_and_the_plan_says_so(offer: Offer) -> None:
    poor = replace(offer, peers={"nginx": PeerOffer(("file",), "no binary found")})
    plan = parse_plan(MATRIX, poor, "m.toml")
    assert plan.baseline == "epoll"
    assert "baseline is epoll instead of nginx (no binary found)" in plan.left_out


def test_workloads_replace_add_and_exclude_servers(offer: Offer) -> None:
    text = MATRIX + 'add = ["engine:epoll,cache=memory"]\nexclude = ["engine:s*"]\n'
    text += '[[workload]]\nname="b"\nsize=0\nconnections=1\n'
    text += 'servers=["peer:nginx", "engine:epoll"]\n'
    plan = parse_plan(text, offer, "m.toml")
    by_workload = [
        [cell.server.label for cell in plan.cells if cell.workload == workload]
        for workload in plan.workloads
    ]
    assert by_workload == [
        ["nginx", "epoll", "mmap", "io_uring", "epoll,cache=memory"],
        ["nginx", "epoll"],
    ]


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('name = "1KiB"', 'nmae = "1KiB"', ["workload[1].nmae", "did you mean 'name'"]),
        ("[run]", "[run]\nslice = 3", ["run.slice", "did you mean 'slice_ms'"]),
        ("[run]", "[run]\nrole = 'fiel'", ["run.role", "did you mean 'file'"]),
        ("[run]", "[run]\nslice_ms = 'x'", ["run.slice_ms", "integer", "'x'"]),
        ("[run]", "[run]\nbudget_s = 0", ["run.budget_s", "greater than 0"]),
        ("[run]", "[run]\nmin_blocks = 500", ["run.max_blocks", "min_blocks (500)"]),
        ('size = "1KiB"', 'size = "1 Kb"', ["workload[1].size", "KiB"]),
        ('size = "1KiB"', "", ["workload[1].size", "missing"]),
        ("connections = 50", "connections = 0", ["workload[1].connections", "greater than or"]),
        ('baseline = "nginx"', 'baseline = "ngimx"', ["run.baseline", "did you mean 'nginx'"]),
        ("engine:*", "engine:epol", ["servers.list", "did you mean 'epoll'"]),
        ("engine:*", "engine:epoll,cache=ram", ["servers.list", "none, memory"]),
        ("engine:*", "engine:epoll,cahce=none", ["unknown option", "did you mean 'cache'"]),
        ("engine:*", "engine:epoll,cache", ["is not option=value"]),
        ("engine:*", "engine:epoll,sndbuf=2GiB", ["allowed are 0 to"]),
        ("engine:*", "engine:epoll,cache=none,cache=none", ["given twice"]),
        ("peer:nginx", "peer:ngnix", ["did you mean 'nginx'"]),
        ("peer:nginx", "peer:nginx,a=b", ["takes no options"]),
        ("peer:nginx", "nginx", ["engine:NAME", "peer:NAME"]),
        ('engine:*"]', 'engine:*"]\nexclude = ["engine:zz"]', ["servers.exclude", "no server"]),
        ("[run]", "[run", ["not TOML"]),
        ("schema_version = 1", "schema_version = 2", ["schema_version"]),
    ],
)
def test_wrong_matrices_name_file_key_and_remedy(
    offer: Offer, old: str, new: str, words: list[str]
) -> None:
    assert old in MATRIX
    assert_refused(MATRIX.replace(old, new), offer, words)


def test_every_workload_must_hold_the_baseline(offer: Offer) -> None:
    text = MATRIX + '[[workload]]\nname="b"\nsize=1\nconnections=1\nservers=["engine:mmap"]\n'
    with pytest.raises(InputError, match=r"workload\[2\]: the baseline 'nginx'"):
        parse_plan(text, offer, "m.toml")


def test_two_workloads_of_one_name_are_refused(offer: Offer) -> None:
    text = MATRIX + '[[workload]]\nname="1KiB"\nsize=1\nconnections=1\n'
    with pytest.raises(InputError, match=r"workload\[2\]\.name.*used twice"):
        parse_plan(text, offer, "m.toml")


def test_a_machine_that_can_run_nothing_says_so(offer: Offer) -> None:
    text = MATRIX.replace('["peer:nginx", "engine:*"]', '["peer:other"]')
    text = text.replace('"nginx"', '"other"').replace('baseline_fallback = "epoll"', "")
    with pytest.raises(InputError, match="no server of this matrix can run here: other: missing"):
        parse_plan(text, offer, "m.toml")


def test_plans_survive_the_manifest(offer: Offer) -> None:
    plan = parse_plan(MATRIX, offer, "m.toml")
    assert plan_from_json(plan_to_json(plan), "manifest.json") == plan
    with pytest.raises(InputError, match=r"manifest\.json: plan"):
        plan_from_json({"name": "x"}, "manifest.json")


def test_system_calls_are_counted_per_request_only(offer: Offer) -> None:
    assert parse_plan(
        MATRIX.replace("[run]", "[run]\nsyscall_check = true"), offer, "m.toml"
    ).syscall_check
    text = MATRIX.replace("[run]", '[run]\nrole = "relay"\nsyscall_check = true')
    with pytest.raises(InputError, match=r"run\.syscall_check: counts per request"):
        parse_plan(text, offer, "m.toml")


def test_engines_of_other_builds_are_checked_against_those(offer: Offer) -> None:
    epoll = Engine(name="epoll", sources=("file",), roles=("file",))
    builds = {"base": Describe(schema_version=1, engines=(epoll,))}
    both = Offer(offer.describe, offer.peers, builds=builds)
    (server,) = parse_server("build:base/engine:epoll", both, "file")
    assert (server.build, server.label) == ("base", "base/epoll")
    for spec, words in (
        ("build:base/engine:epoll,cache=memory", "unknown option 'cache'"),
        ("build:bass/engine:epoll", "did you mean 'base'"),
        ("build:base/peer:nginx", "'build:NAME/engine:...'"),
        ("build:base", "'build:NAME/engine:...'"),
    ):
        with pytest.raises(InputError, match=words):
            parse_server(spec, both, "file")
