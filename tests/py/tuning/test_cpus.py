from __future__ import annotations

import pytest

from iolab.topology import Topology, parse_cpu_list
from iolab.tuning.cpus import (
    Policy,
    candidates,
    format_list,
    format_mask,
    one_each,
    same_mask,
    share_out,
)

# Two nodes of two cores with two hardware threads: cores {0,4} {1,5} on node 0, {2,6} {3,7} on 1.
TOPOLOGY = Topology(
    online=frozenset(range(8)),
    nodes={0: frozenset({0, 1, 4, 5}), 1: frozenset({2, 3, 6, 7})},
    siblings={cpu: frozenset({cpu % 4, cpu % 4 + 4}) for cpu in range(8)},
)


@pytest.mark.parametrize(
    ("policy", "node", "reserve", "expected"),
    [
        ("local-node", 1, "", [2, 3, 6, 7]),
        ("local-node", 1, "2", [3, 6, 7]),
        ("local-node", 1, "2-3,6-7", [2, 3, 6, 7]),
        ("local-node", None, "", [0, 1, 2, 3, 4, 5, 6, 7]),
        ("all", 1, "0", [1, 2, 3, 4, 5, 6, 7]),
        ("one-per-queue", 1, "", [2, 3, 6, 7, 0, 1, 4, 5]),
        ("one-per-queue", 0, "0,4", [1, 5, 2, 3, 6, 7]),
    ],
)
def test_policies_take_whole_cores_of_the_right_node_first(
    policy: Policy, node: int | None, reserve: str, expected: list[int]
) -> None:
    assert candidates(policy, TOPOLOGY, node, parse_cpu_list(reserve)) == expected


def test_a_thread_whose_sibling_is_reserved_counts_as_a_core() -> None:
    assert candidates("local-node", TOPOLOGY, 1, {2}) == [3, 6, 7]
    assert TOPOLOGY.cores_first({3, 6, 7}) == [3, 6, 7]


def test_more_queues_than_cpus_wrap() -> None:
    assert one_each(5, [2, 3]) == [2, 3, 2, 3, 2]


def test_every_cpu_sends_on_exactly_one_queue() -> None:
    shares = share_out(3, range(8), [2, 3, 6, 7])
    assert sorted(cpu for one in shares for cpu in one) == list(range(8))
    assert [min(one & {2, 3, 6}) for one in shares] == [2, 3, 6]


@pytest.mark.parametrize(
    ("cpus", "mask", "listed"),
    [
        ([], "0", ""),
        ([0], "1", "0"),
        ([0, 1, 2, 5], "27", "0-2,5"),
        ([32], "1,00000000", "32"),
        ([0, 31, 63], "80000000,80000001", "0,31,63"),
        ([64], "1,00000000,00000000", "64"),
    ],
)
def test_kernel_spellings(cpus: list[int], mask: str, listed: str) -> None:
    assert format_mask(cpus) == mask
    assert format_list(cpus) == listed
    assert parse_cpu_list(listed) == frozenset(cpus)


def test_masks_are_the_same_whatever_their_zeros() -> None:
    assert same_mask("f", "00000000,0000000f")
    assert not same_mask("f", "1f")
