from __future__ import annotations

import random

import pytest
from simulated import document, plan, run

from iolab import stats
from iolab.model import Sample, Status


def test_cells_that_are_not_distinguishable_share_a_rank() -> None:
    rates = {
        "base": lambda x: x,
        "fast": lambda x: 2 * x,
        "fast2": lambda x: 2.001 * x,
        "slow": lambda x: 0.5 * x,
    }
    (summary,) = stats.summarise(plan(*rates), run(20, rates, noise=0.03))
    ranks = {cell.server: (cell.rank, cell.tied) for cell in summary.cells}
    assert ranks == {
        "fast": (1, True),
        "fast2": (1, True),
        "base": (3, False),
        "slow": (4, False),
    }
    assert summary.best is not None
    assert summary.best.server in ("fast", "fast2")


@pytest.mark.parametrize("nr", [2, 4, 8])
def test_with_fewer_blocks_than_it_takes_all_are_tied(nr: int) -> None:
    def ranks(blocks: int) -> set[int | None]:
        rates = {f"s{at}": lambda x, at=at: 2**at * x for at in range(nr)}
        (summary,) = stats.summarise(plan(*rates), run(blocks, rates, noise=0.0001))
        return {cell.rank for cell in summary.cells}

    least = stats.least_blocks(nr)
    assert ranks(least) == set(range(1, nr + 1))
    assert ranks(least - 1) == {1}
    assert stats.blind(least, nr) is None
    assert f"that takes {least}" in (stats.blind(least - 1, nr) or "")


def test_one_server_alone_needs_no_blocks_to_be_told_apart() -> None:
    assert stats.blind(1, 1) is None


def test_a_client_limited_cell_ranks_nothing() -> None:
    samples = []
    for block in range(12):
        for name, share, server_ns in (("base", 0.5, 950_000_000), ("quick", 0.99, 500_000_000)):
            load = document(1000 + block, server_ns, share)
            samples.append(Sample(block, 0, f"{name}@w", Status.OK, None, 0, 1, load))
    (summary,) = stats.summarise(plan("base", "quick"), samples)
    assert [(c.server, c.rank, c.limiter) for c in summary.cells] == [
        ("base", 1, "server"),
        ("quick", None, "client"),
    ]


def test_a_client_limited_cell_ranks_nothing_though_its_servers_cpu_time_is_unknown() -> None:
    samples = []
    for block in range(12):
        for name, share in (("base", 0.5), ("forks", 0.99)):
            load = document(1000 + block, 950_000_000, share)
            if name == "forks":
                load["cpu"]["server_ns"] = None
            samples.append(Sample(block, 0, f"{name}@w", Status.OK, None, 0, 1, load))
    (summary,) = stats.summarise(plan("base", "forks"), samples)
    assert [(c.server, c.rank, c.limiter) for c in summary.cells] == [
        ("base", 1, "server"),
        ("forks", None, "client"),
    ]


def test_a_cell_is_not_ranked_below_one_that_it_beats() -> None:
    """To the baseline `a` has the higher median, yet `b` is ahead of it in two blocks of three."""
    ratios = {0: (1.0, 1.5), 1: (3.0, 3.5), 2: (3.0, 2.9)}
    samples = []
    kinds = [0] * 24 + [1] * 15 + [2] * 21
    random.Random(2).shuffle(kinds)
    for block, kind in enumerate(kinds):
        for name, ratio in zip(("base", "a", "b"), (1.0, *ratios[kind]), strict=True):
            load = document(100_000 * ratio)
            samples.append(Sample(block, 0, f"{name}@w", Status.OK, None, 0, 1, load))
    (summary,) = stats.summarise(plan("base", "a", "b"), samples)
    found = {cell.server: (cell.rank, cell.tied) for cell in summary.cells}
    assert (found["a"], found["b"]) == ((1, True), (1, True))
