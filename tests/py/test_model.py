from __future__ import annotations

from dataclasses import replace

from iolab.model import Cell, Plan, Sample, Server, Status, TestbedName, Workload, block_order


def plan(nr_servers: int = 4, seed: int = 1) -> Plan:
    servers = [Server("engine", f"e{n}") for n in range(nr_servers)]
    workloads = [Workload("small", 1024, 2), Workload("large", 1 << 20, 2)]
    cells = tuple(Cell(server, workload) for workload in workloads for server in servers)
    return Plan("p", "", "e0", cells, seed=seed)


def test_labels_and_ids() -> None:
    server = Server("engine", "epoll", (("cache", "memory"), ("sndbuf", "1MiB")))
    assert server.label == "epoll,cache=memory,sndbuf=1MiB"
    assert server.spec == "engine:epoll,cache=memory,sndbuf=1MiB"
    cell = Cell(server, Workload("1KiB", 1024, 50))
    assert cell.id == "epoll,cache=memory,sndbuf=1MiB@1KiB"
    assert Cell(server, cell.workload, profile="latency").id.endswith("@1KiB@latency")


def test_profiles_and_testbeds_are_in_ids_and_where_they_differ_in_labels() -> None:
    server, load = Server("engine", "epoll"), Workload("w", 1, 1)
    one = Cell(server, load, "latency", "netns")
    assert one.id == "epoll@w@latency@netns"
    assert Plan("p", "", "epoll", (one,)).label(one) == "epoll"
    two = replace(one, profile="baseline")
    plan = Plan("p", "", "epoll", (one, two), baseline_profile="baseline")
    assert [plan.label(cell) for cell in (one, two)] == ["epoll:latency", "epoll:baseline"]
    assert plan.reference(one) == plan.reference(two) == "epoll:baseline"
    assert len({plan.instance(cell) for cell in (one, two)}) == 2


def test_each_testbed_has_a_baseline_of_its_own() -> None:
    load = Workload("w", 1, 1)
    beds: tuple[TestbedName, ...] = ("loopback", "netns")
    cells = tuple(Cell(Server("engine", n), load, testbed=b) for b in beds for n in "ab")
    plan = Plan("p", "", "a", cells)
    assert [plan.reference(cell) for cell in cells] == ["a:loopback"] * 2 + ["a:netns"] * 2
    assert [len(group) for group in plan.groups().values()] == [2, 2]


def test_order_depends_on_seed_and_block_only() -> None:
    assert block_order(plan(), 3) == block_order(plan(), 3)
    orders = {block_order(plan(), block).cells for block in range(20)}
    assert len(orders) > 10
    assert block_order(plan(seed=2), 3) != block_order(plan(), 3)


def test_a_block_holds_every_cell_once_with_its_workload_together() -> None:
    for block in range(10):
        order = block_order(plan(), block).cells
        assert sorted(order) == sorted(cell.id for cell in plan().cells)
        names = [cell_id.partition("@")[2] for cell_id in order]
        assert names in (["small"] * 4 + ["large"] * 4, ["large"] * 4 + ["small"] * 4)


def test_skipping_a_cell_keeps_the_order_of_the_others() -> None:
    whole = block_order(plan(), 5).cells
    skip = frozenset({"e1@small"})
    assert block_order(plan(), 5, skip).cells == tuple(c for c in whole if c not in skip)


def test_samples_survive_a_round_trip_with_keys_of_later_versions() -> None:
    sample = Sample(1, 2, "a@b", Status.INVALID, "why", 3, 4, {"x": 1}, None, {"softirq": 5})
    document = sample.to_json()
    assert document["softirq"] == 5
    assert Sample.from_json(document) == sample


def test_labels_of_other_builds_handicaps_and_twins() -> None:
    server = Server("engine", "epoll", (("cache", "memory"),), build="base", handicap_percent=5)
    assert server.label == "base/epoll,cache=memory+5%"
    assert replace(server, twin=True).label == "base/epoll,cache=memory+5%#2"
    assert server.argument == "epoll,cache=memory"
    assert server.spec == "build:base/engine:epoll,cache=memory"


def test_what_is_compared_stands_together_in_a_block() -> None:
    names = [(build, name) for build in ("old", "new") for name in "abcd"]
    cells = tuple(Cell(Server("engine", n, build=b), Workload("w", 1, 1)) for b, n in names)
    plan = Plan("p", "", "old/a", cells, baseline_build="old")
    assert plan.reference(plan.cell("new/c@w")) == "old/c"
    for block in range(20):
        order = [cell.split("/")[1] for cell in block_order(plan, block).cells]
        assert [order[at] == order[at + 1] for at in range(0, 8, 2)] == [True] * 4
