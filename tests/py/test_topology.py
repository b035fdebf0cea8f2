from __future__ import annotations

from pathlib import Path

import pytest

from iolab.topology import host_split, parse_cpu_list, split_cpus


@pytest.mark.parametrize(
    ("allowed", "siblings", "server", "client", "note"),
    [
        ({0, 1}, {}, 0, 1, None),
        ({3, 5, 9}, {}, 3, 5, None),
        ({0, 1, 2, 3}, {0: frozenset({0, 1})}, 0, 2, None),
        ({0, 1}, {0: frozenset({0, 1})}, 0, 1, "share one core"),
        ({4}, {}, 4, 4, "share the only CPU"),
    ],
)
def test_server_and_client_get_different_cores_where_there_are_some(
    allowed: set[int],
    siblings: dict[int, frozenset[int]],
    server: int,
    client: int,
    note: str | None,
) -> None:
    split = split_cpus(allowed, siblings)
    assert (split.server, split.client) == ((server,), client)
    assert (note is None) == (split.note is None)
    assert note is None or note in (split.note or "")


def test_cpu_lists() -> None:
    assert parse_cpu_list("0-2,5,8-9\n") == frozenset({0, 1, 2, 5, 8, 9})
    assert parse_cpu_list("") == frozenset()


def test_this_host_has_a_split_even_without_sysfs(tmp_path: Path) -> None:
    assert host_split(tmp_path).server
