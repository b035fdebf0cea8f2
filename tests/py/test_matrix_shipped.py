"""The matrices of this tree."""

from __future__ import annotations

import re
import tomllib
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from iolab import stats
from iolab.matrix import load_plan
from iolab.specs import Offer
from iolab.tuning.profile import knob_keys, load_profile, profile_names

PROFILES = "tuning/profiles"
BASELINES = {
    "file": "nginx",
    "relay": "piping-server",
    "forward": "haproxy-splice",
    "copy": "read-write",
}
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


def with_profiles(offer: Offer, house_root: Path) -> Offer:
    """`offer` with the knobs of the tree's profiles."""
    room = house_root / PROFILES
    return replace(offer, knobs=lambda name: knob_keys(load_profile(room, name)))


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
    tuned = with_profiles(built_offer, house_root)
    for path in paths:
        plan = load_plan(path, tuned)
        assert plan.name == path.stem
        alone = plan.grid or all(server.kind == "engine" for server in plan.servers)
        usual = "epoll" if alone else BASELINES[plan.role]
        assert plan.baseline == (usual if len(plan.servers) > 1 else plan.servers[0].label)


def test_every_matrix_measures_blocks_enough_to_rank(house_root: Path, built_offer: Offer) -> None:
    """All but the one that only tries the path."""
    tuned = with_profiles(built_offer, house_root)
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


@pytest.mark.parametrize("role", ["file", "relay", "forward"])
def test_every_shipped_profile_is_measured_on_every_role_and_without_each_knob(
    house_root: Path, offer: Offer, role: str
) -> None:
    tuned, profiles = with_profiles(offer, house_root), profile_names(house_root / PROFILES)
    tail = "" if role == "file" else f"-{role}"
    for name, ablates in ((f"tuning{tail}", False), (f"tuning-ablation{tail}", True)):
        plan = load_plan(house_root / f"workloads/{name}.toml", tuned)
        assert (plan.role, plan.baseline_profile, plan.partial) == (role, "baseline", True)
        steps = {
            f"{profile}~{key}"
            for profile in profiles
            for key in tuned.knobs(profile)
            if ablates and profile != "baseline"
        }
        measured = {condition.profile for condition in plan.conditions}
        assert measured == set(profiles) | steps
