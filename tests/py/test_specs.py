from __future__ import annotations

import pytest

from iolab.errors import InputError
from iolab.matrix import parse_plan
from iolab.specs import MAX_COMBINATIONS, Offer, expand_lists, parse_server


def labels(spec: str, offer: Offer) -> list[str]:
    return [server.label for server in parse_server(spec, offer, "file")]


def test_a_list_of_values_is_a_server_for_each(offer: Offer) -> None:
    assert labels("engine:epoll,cache={none,memory}", offer) == [
        "epoll,cache=none",
        "epoll,cache=memory",
    ]


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("engine:a,b=1", ["engine:a,b=1"]),
        ("engine:a,b={1}", ["engine:a,b=1"]),
        (
            "engine:a,b={1,2},c=3,d={4,5}",
            [f"engine:a,b={b},c=3,d={d}" for b in "12" for d in "45"],
        ),
        ("engine:a,b={64,256}KiB", ["engine:a,b=64KiB", "engine:a,b=256KiB"]),
        ("engine:a,b={1,2}{3,4}", [f"engine:a,b={x}{y}" for x in "12" for y in "34"]),
        ("build:base/engine:a,b={1,2}", ["build:base/engine:a,b=1", "build:base/engine:a,b=2"]),
    ],
)
def test_several_lists_mean_every_combination(spec: str, expected: list[str]) -> None:
    assert list(expand_lists(spec)) == expected


def test_a_star_takes_a_list_for_every_engine_with_the_option(offer: Offer) -> None:
    assert labels("engine:*,cache={none,memory}", offer) == [
        f"{name},cache={value}"
        for value in ("none", "memory")
        for name in ("epoll", "sendfile", "io_uring")
    ]


@pytest.mark.parametrize(
    ("spec", "complaint"),
    [
        ("engine:epoll,cache={none,memory", "cache: '}' is missing"),
        ("engine:epoll,cache=none}", "cache: a '}' without its '{'"),
        ("engine:epoll,cache={none,{memory}}", "cache: a list within a list"),
        ("engine:epoll,cache={none,,memory}", "cache: an empty value in its list"),
        ("engine:epoll,cache={}", "cache: an empty value in its list"),
        ("engine:epoll,cache={none,none}", "cache: 'none' is listed twice"),
        ("engine:{epoll,mmap}", "only values of options can be listed"),
        ("engine:epoll,{cache,edge}=on", "only values of options can be listed"),
        ("engine:epoll,{cache=none,cache=memory}", "only values of options can be listed"),
        ("engine:epoll,cache={none,disk}", "cache=disk: "),
        ("engine:epoll,cache={none,memory},cache=none", "option 'cache' is given twice"),
    ],
)
def test_a_list_that_cannot_be_right_is_refused_with_its_option(
    offer: Offer, spec: str, complaint: str
) -> None:
    with pytest.raises(InputError) as caught:
        parse_server(spec, offer, "file", "m.toml: servers.list")
    assert str(caught.value).startswith("m.toml: servers.list: ")
    assert complaint in str(caught.value)


def test_combinations_have_a_limit_which_names_each_option_and_the_remedy() -> None:
    eight = ",".join("12345678")
    spec = f"engine:a,b={{{eight}}},c={{{eight}}}"
    assert len(expand_lists(spec)) == MAX_COMBINATIONS
    with pytest.raises(InputError) as caught:
        expand_lists(f"{spec},d={{1,2}}", "m.toml: grid[1].servers")
    assert "m.toml: grid[1].servers: " in str(caught.value)
    assert "128 combinations of values (b 8, c 8, d 2), at most 64" in str(caught.value)
    assert "list fewer" in str(caught.value)


MATRIX = """
schema_version = 1
name = "m"
summary = "s"
[run]
baseline = "epoll"
[servers]
list = ["engine:epoll", "engine:sendfile,cache={none,memory}"]
[[workload]]
name = "w"
size = 1
connections = 1
add = ["engine:epoll,cache={none,memory}"]
[[grid]]
sizes = [2, 3]
connections = [1, 2]
servers = ["engine:epoll", "engine:io_uring,cache={none,memory}"]
"""


def test_lists_work_wherever_a_matrix_names_servers(offer: Offer) -> None:
    plan = parse_plan(MATRIX, offer, "m.toml")
    met = {
        name: [cell.server.label for cell in plan.cells if cell.workload.name == name]
        for name in ("w", "2B-c1")
    }
    assert met == {
        "w": [
            "epoll",
            *(f"{name},cache={value}" for name in ("sendfile", "epoll") for value in VALUES),
        ],
        "2B-c1": ["epoll", *(f"io_uring,cache={value}" for value in VALUES)],
    }


VALUES = ("none", "memory")
