from __future__ import annotations

import re
import tomllib
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from iolab import stats
from iolab.describe import Describe, Engine
from iolab.errors import InputError
from iolab.matrix import load_plan, parse_plan, plan_from_json, plan_to_json
from iolab.model import CopyLoad, Workload
from iolab.specs import Offer, PeerOffer, parse_server
from iolab.tuning.profile import knob_keys, load_profile, profile_names

MATRIX = """
schema_version = 1
name = "m"
summary = "s"
[run]
baseline = "nginx"
baseline_fallback = "epoll"
[servers]
list = ["peer:nginx", "engine:*"]
[[workload]]
name = "1KiB"
size = "1KiB"
connections = 50
"""
BASELINES = {
    "file": "nginx",
    "relay": "piping-server",
    "forward": "haproxy-splice",
    "copy": "read-write",
}


def test_the_table_of_matrices_has_every_one(house_root: Path) -> None:
    room = house_root / "workloads"
    rows = [
        line for line in (room / "README.md").read_text().splitlines() if line.startswith("| `")
    ]
    listed = {name for row in rows for name in re.findall(r"`([\w-]+)`", row.split("|")[1])}
    assert {path.stem for path in room.glob("*.toml")} - listed == set()


def test_every_matrix_of_the_tree_loads(house_root: Path, built_offer: Offer) -> None:
    paths = sorted((house_root / "workloads").glob("*.toml"))
    assert {path.stem for path in paths} >= {"quick", "smoke", "file", "options"}
    room = house_root / "tuning/profiles"
    tuned = replace(built_offer, knobs=lambda name: knob_keys(load_profile(room, name)))
    for path in paths:
        plan = load_plan(path, tuned)
        assert plan.name == path.stem
        alone = plan.grid or all(server.kind == "engine" for server in plan.servers)
        assert plan.baseline == ("epoll" if alone else BASELINES[plan.role])


def test_every_matrix_measures_blocks_enough_to_rank(house_root: Path, built_offer: Offer) -> None:
    """All but the one that only tries the path."""
    room = house_root / "tuning/profiles"
    tuned = replace(built_offer, knobs=lambda name: knob_keys(load_profile(room, name)))
    for path in sorted((house_root / "workloads").glob("*.toml")):
        plan = load_plan(path, tuned)
        ranked = Counter(cell.workload for cell in plan.cells if not cell.workload.open_loop)
        most = max(ranked.values(), default=1)
        assert path.stem == "smoke" or plan.min_blocks >= stats.least_blocks(most), path.name


def test_no_workload_claims_what_only_notifications_can_say(house_root: Path) -> None:
    """Its name stands beside each of its cells, in the report's table of what was copied too."""
    for path in sorted((house_root / "workloads").glob("*.toml")):
        names = [one.get("name", "") for one in tomllib.loads(path.read_text()).get("workload", [])]
        assert not [
            name
            for name in names
            if re.search(r"zero.?cop(y|ie)", name.lower()) and not name.startswith("msg_zerocopy")
        ], path.name


def test_every_option_of_a_file_engine_is_varied_beside_its_default(
    house_root: Path, built_offer: Offer
) -> None:
    plan = load_plan(house_root / "workloads/options.toml", built_offer)
    assert plan.syscall_check  # several options trade system calls for something else
    for workload in plan.workloads:
        servers = [cell.server for cell in plan.cells if cell.workload == workload]
        plain = {server.name for server in servers if set(server.options) <= {CACHED}}
        assert {server.name for server in servers} == plain, workload.name
    varied = {(server.name, key) for server in plan.servers for key, _ in server.options}
    wanted = {(engine, key) for engine, keys in VARIED.items() for key in keys.split()}
    assert wanted <= varied, wanted - varied
    spinning = [s for s in plan.servers if ("sqpoll", "on") in s.options]
    assert spinning
    assert all(("sqpoll_idle", "1") in server.options for server in spinning)


CACHED = ("cache", "memory")
VARIED = {
    "epoll": "sndbuf nodelay hold edge busy_poll buffer",
    "sendfile": "sndbuf nodelay hold chunk",
    "splice": "chunk pipe",
    "io_uring": "batch quiet_sends fixed_buffers fixed_files bundle coop_taskrun defer_taskrun "
    "ring_entries sqpoll sqpoll_cpu",
    "io_uring_splice": "pipe linked",
    "io_uring_zc": "chunk inflight source head registered",
}


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


GRID = (
    MATRIX[: MATRIX.index("[[workload]]")]
    + """
[[grid]]
sizes = ["64B", "1MiB"]
connections = [1, 4096]
[[grid]]
sizes = ["2MiB", "3MiB"]
connections = [1, 2]
servers = ["peer:nginx"]
"""
)


def test_a_grid_is_every_size_at_every_number_of_connections(offer: Offer) -> None:
    plan = parse_plan(GRID, offer, "m.toml")
    assert plan.grid
    names = [workload.name for workload in plan.workloads]
    assert names == [
        "64B-c1", "64B-c4096", "1MiB-c1", "2MiB-c1", "2MiB-c2", "3MiB-c1", "3MiB-c2",
    ]  # fmt: skip
    assert plan.left_out[0] == "1MiB-c4096: its connections would ask for over 1GiB"
    small = [cell.server.label for cell in plan.cells if cell.workload.name == "64B-c1"]
    assert "sendfile" in small
    large = [cell.server.label for cell in plan.cells if cell.workload.name == "2MiB-c1"]
    assert large == ["nginx"]
    sharing = replace(plan, share_connections=True)
    assert len({sharing.session(cell) for cell in sharing.cells}) < len(plan.cells)
    assert len({plan.session(cell) for cell in plan.cells}) == len(plan.cells)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('["64B", "1MiB"]', '["64B"]', ["grid[1].sizes", "at least 2"]),
        ("[run]", '[run]\nrole = "relay"', ["grid", "only for role file"]),
        ('["2MiB", "3MiB"]', '["64B", "3MiB"]', ["nginx@64B-c1", "two workloads"]),
        ("[[grid]]", "[[gird]]", ["gird", "unknown key"]),
    ],
)
def test_wrong_grids_name_the_key(offer: Offer, old: str, new: str, words: list[str]) -> None:
    text = GRID if "role" not in new else GRID.replace("peer:nginx", "peer:piping-server")
    with pytest.raises(InputError) as caught:
        parse_plan(text.replace(old, new), offer, "m.toml")
    for word in ["m.toml", *words]:
        assert word in str(caught.value)


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
    with pytest.raises(InputError) as caught:
        parse_plan(STREAMS.replace(old, new), offer, "m.toml")
    for word in ["m.toml", *words]:
        assert word in str(caught.value)


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
    with pytest.raises(InputError) as caught:
        parse_plan(MATRIX.replace(old, new), offer, "m.toml")
    message = str(caught.value)
    for word in ["m.toml", *words]:
        assert word in message


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
    with pytest.raises(InputError) as caught:
        parse_plan(COPIES.replace(old, new), offer, "m.toml")
    for word in ["m.toml", *words]:
        assert word in str(caught.value)


def test_techniques_are_of_role_copy_alone(offer: Offer) -> None:
    with pytest.raises(InputError, match="engine:NAME"):
        parse_plan(MATRIX.replace("peer:nginx", "technique:mmap"), offer, "m.toml")


def test_the_copier_is_asked_only_when_it_is_named(offer: Offer) -> None:
    silent = Offer(offer.describe, offer.peers)
    parse_plan(MATRIX, silent, "m.toml")
    with pytest.raises(InputError, match="techniques are not known"):
        parse_plan(COPIES, silent, "m.toml")


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


def with_keys(text: str) -> str:
    return MATRIX + text


def test_loads_are_the_closed_loop_and_an_open_one_for_each(offer: Offer) -> None:
    plan = parse_plan(with_keys('loads = [1.2, 0.5]\narrivals = "constant"'), offer, "m.toml")
    closed = Workload("1KiB", 1024, 50, arrivals="constant")
    assert plan.workloads == (
        closed,
        replace(closed, name="1KiB-load0.5", load=0.5),
        replace(closed, name="1KiB-load1.2", load=1.2),
    )
    assert [workload.open_loop for workload in plan.workloads] == [False, True, True]
    assert len(plan.cells) == 3 * len(plan.servers)
    assert plan_from_json(plan_to_json(plan), "manifest.json") == plan


def test_a_rate_makes_an_open_loop(offer: Offer) -> None:
    (workload,) = parse_plan(with_keys("rate = 1500"), offer, "m.toml").workloads
    assert workload == Workload("1KiB", 1024, 50, rate_per_s=1500.0)
    assert workload.open_loop


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ("rate = 0", ["workload[1].rate", "0.001"]),
        ("rate = 1e9", ["workload[1].rate", "10000000"]),
        ('rate = "fast"', ["workload[1].rate", "number"]),
        ("loads = []", ["workload[1].loads", "at least 1"]),
        ("loads = [0.5, 0]", ["workload[1].loads[2]", "0.01"]),
        ("loads = [0.5, 1, 0.5]", ["workload[1].loads", "0.5 is given twice"]),
        ("loads = [0.5]\nrate = 5", ["workload[1]: rate and loads: give one"]),
        ('arrivals = "poisson"', ["workload[1].arrivals", "only for an open loop"]),
        ('rate = 5\narrivals = "bursts"', ["workload[1].arrivals", "poisson", "constant"]),
        ('rate = 5\n[[workload]]\nname = "b"\nsize = 1', ["workload[2].connections: missing"]),
    ],
)
def test_wrong_rates_name_the_key(offer: Offer, keys: str, words: list[str]) -> None:
    with pytest.raises(InputError) as caught:
        parse_plan(with_keys(keys), offer, "m.toml")
    for word in ["m.toml", *words]:
        assert word in str(caught.value)


def test_wrk_is_not_asked_for_a_rate(offer: Offer) -> None:
    text = with_keys("rate = 5").replace("[run]", "[run]\nwrk_check = true")
    with pytest.raises(InputError, match=r"run\.wrk_check: wrk knows no rate"):
        parse_plan(text, offer, "m.toml")


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


@pytest.mark.parametrize("role", ["file", "relay", "forward"])
def test_every_shipped_profile_is_measured_on_every_role_and_without_each_knob(
    house_root: Path, offer: Offer, role: str
) -> None:
    room = house_root / "tuning/profiles"
    tuned = replace(offer, knobs=lambda name: knob_keys(load_profile(room, name)))
    tail = "" if role == "file" else f"-{role}"
    for name, ablates in ((f"tuning{tail}", False), (f"tuning-ablation{tail}", True)):
        plan = load_plan(house_root / f"workloads/{name}.toml", tuned)
        assert (plan.role, plan.baseline_profile, plan.partial) == (role, "baseline", True)
        steps = {
            f"{profile}~{key}"
            for profile in profile_names(room)
            for key in tuned.knobs(profile)
            if ablates and profile != "baseline"
        }
        measured = {condition.profile for condition in plan.conditions}
        assert measured == set(profile_names(room)) | steps
