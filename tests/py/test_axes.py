from __future__ import annotations

from dataclasses import replace

import pytest

from iolab.errors import InputError
from iolab.matrix import parse_plan, plan_from_json, plan_to_json
from iolab.specs import Offer

MATRIX = """
schema_version = 1
name = "m"
summary = "s"
[run]
baseline = "epoll"
{run}
[servers]
list = ["engine:epoll", "engine:sendfile"]
[profiles]
{profiles}
[[workload]]
name = "1KiB"
size = "1KiB"
connections = 50
{workload}
"""
KNOBS = {"base": ("sysctl.a",), "fast": ("sysctl.a", "nic.gro"), "slow": ()}
TWO = 'list = ["base", "fast"]\nbaseline = "base"\n'


def knobs(name: str) -> tuple[str, ...]:
    if name not in KNOBS:
        raise InputError(f"profile {name!r}: not found")
    return KNOBS[name]


@pytest.fixture
def tuned(offer: Offer) -> Offer:
    return replace(offer, knobs=knobs)


def matrix(run: str = "", profiles: str = TWO, workload: str = "") -> str:
    return MATRIX.format(run=run, profiles=profiles, workload=workload)


def ids(text: str, offer: Offer) -> list[str]:
    return [cell.id for cell in parse_plan(text, offer, "m.toml").cells]


def test_every_server_meets_every_profile(tuned: Offer) -> None:
    assert ids(matrix(), tuned) == [
        "epoll@1KiB@base", "sendfile@1KiB@base", "epoll@1KiB@fast", "sendfile@1KiB@fast",
    ]  # fmt: skip


def test_each_cell_is_compared_with_itself_under_the_baseline(tuned: Offer) -> None:
    plan = parse_plan(matrix(), tuned, "m.toml")
    for cell in plan.cells:
        assert plan.reference(cell) == f"{cell.server.label}:base"
    assert plan_from_json(plan_to_json(plan), "p") == plan


def test_an_ablation_leaves_each_knob_out_in_turn(tuned: Offer) -> None:
    plan = parse_plan(matrix(profiles=TWO + 'ablate = ["fast"]'), tuned, "m.toml")
    profiles = [condition.profile for condition in plan.conditions]
    assert profiles == ["base", "fast", "fast~sysctl.a", "fast~nic.gro"]


def test_some_servers_meet_the_baseline_only(tuned: Offer) -> None:
    found = ids(matrix(profiles=TWO + 'servers = ["engine:e*"]'), tuned)
    assert found == ["epoll@1KiB@base", "sendfile@1KiB@base", "epoll@1KiB@fast"]


def test_a_workload_has_profiles_and_testbeds_of_its_own(tuned: Offer) -> None:
    text = matrix(
        run='testbeds = ["loopback", "netns"]',
        workload='profiles = ["base", "none"]\ntestbeds = ["netns"]',
    )
    assert ids(text, tuned)[::2] == ["epoll@1KiB@base@netns", "epoll@1KiB@netns"]


def test_several_testbeds_multiply_the_cells(tuned: Offer) -> None:
    plan = parse_plan(matrix(run='testbeds = ["netns", "loopback"]'), tuned, "m.toml")
    assert len(plan.cells) == 8
    assert plan.testbed == "netns"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"profiles": 'list = ["base"]\nbaseline = "fast"'}, "profiles.baseline: 'fast' is not in"),
        (
            {"profiles": 'list = ["bas"]\nbaseline = "bas"'},
            "profile 'bas': not found",
        ),
        (
            {"profiles": TWO + 'ablate = ["slow"]'},
            "profiles.ablate: 'slow' is not in",
        ),
        ({"profiles": 'list = ["netns"]\nbaseline = "netns"'}, "is the name of a testbed"),
        ({"workload": 'profiles = ["fast"]'}, r"workload\[1\].profiles: the baseline 'base'"),
        ({"workload": 'testbeds = ["moon"]'}, "moon"),
        ({"run": 'testbed = "netns"\ntestbeds = ["netns"]'}, "run.testbed and run.testbeds"),
        ({"run": "wrk_check = true"}, "run.wrk_check: only where all cells have the same profile"),
    ],
)
def test_messages_name_file_and_key(tuned: Offer, given: dict[str, str], message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        parse_plan(matrix(**given), tuned, "m.toml")
    assert str(caught.value).startswith("m.toml: ")


def test_profiles_of_a_workload_need_their_baseline(tuned: Offer) -> None:
    text = matrix(workload='profiles = ["base"]').replace("[profiles]\n" + TWO, "")
    with pytest.raises(InputError, match=r"workload\[1\].profiles: the matrix has no \[profiles\]"):
        parse_plan(text, tuned, "m.toml")
