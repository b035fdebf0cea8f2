"""Many workloads in few lines: grids of sizes and connections, and rates of open loops."""

from __future__ import annotations

from dataclasses import replace

import pytest
from matrices import MATRIX, assert_refused

from iolab.errors import InputError
from iolab.matrix import parse_plan, plan_from_json, plan_to_json
from iolab.model import Workload
from iolab.specs import Offer

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
    assert_refused(text.replace(old, new), offer, words)


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
    assert_refused(with_keys(keys), offer, words)


def test_wrk_is_not_asked_for_a_rate(offer: Offer) -> None:
    text = with_keys("rate = 5").replace("[run]", "[run]\nwrk_check = true")
    with pytest.raises(InputError, match=r"run\.wrk_check: wrk knows no rate"):
        parse_plan(text, offer, "m.toml")
