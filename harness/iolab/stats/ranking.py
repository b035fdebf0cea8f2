"""Ranks within a workload, shared by cells that cannot be told apart."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

from iolab.stats.pairing import rate_logs
from iolab.stats.ratio import Estimate, estimate
from iolab.stats.significance import ALPHA, holm
from iolab.stats.summary import CellSummary


def rank(
    cells: Sequence[CellSummary], rates: Mapping[str, Mapping[int, float]], seed: int = 0
) -> list[CellSummary]:
    """`cells` in reading order with ranks; cells that are not distinguishable share one.

    Going down by median ratio, a cell shares the rank of the group's first member unless their
    own paired ratios say that it is slower: p below 0.05 after Holm's correction over all pairs of
    the workload, and an interval on that side of 1. Comparing with the first member keeps groups
    from chaining.
    Client-limited cells, twins and those without numbers come last and rank nothing.
    """
    able = [c for c in cells if c.ratio is not None and not c.client_limited and not c.twin]
    able.sort(key=lambda cell: -(cell.ratio.ratio if cell.ratio else 0.0))
    others = [cell for cell in cells if cell not in able]
    others.sort(key=lambda cell: (cell.ratio is None, -(cell.ratio.ratio if cell.ratio else 0.0)))
    different = _different_pairs(able, rates, seed)
    ranks: list[int] = []
    leader = 0
    for at, cell in enumerate(able):
        if at > 0 and (able[leader].cell, cell.cell) in different:
            leader = at
        ranks.append(leader + 1)
    placed = [
        replace(cell, rank=ranks[at], tied=ranks.count(ranks[at]) > 1)
        for at, cell in enumerate(able)
    ]
    return placed + others


def least_blocks(nr_cells: int) -> int:
    """The fewest blocks that can tell any two of `nr_cells` cells of a workload apart.

    The smallest p of signed ranks is that of n blocks which all agree, 2 / 2^n, and Holm's
    correction over all pairs multiplies it by their number: with fewer blocks all are tied,
    however far apart they are.
    """
    pairs = max(1, nr_cells * (nr_cells - 1) // 2)
    return math.floor(1 + math.log2(pairs / ALPHA)) + 1


def blind(blocks: int, nr_cells: int) -> str | None:
    """Why so many blocks tell no two of `nr_cells` cells apart, in words; None where they can."""
    least = least_blocks(nr_cells)
    if nr_cells < 2 or blocks >= least:
        return None
    return f"{blocks} blocks tell no two of {nr_cells} apart, however different: that takes {least}"


def _different_pairs(
    cells: Sequence[CellSummary], rates: Mapping[str, Mapping[int, float]], seed: int
) -> set[tuple[str, str]]:
    """The pairs (faster, slower) of `cells`, which fall by ratio, that their own ratios confirm.

    Medians need not be transitive: where a pair's own ratios say the opposite of those to the
    baseline, neither is ahead.
    """
    pairs: list[tuple[str, str]] = []
    estimates: list[Estimate] = []
    for at, upper in enumerate(cells):
        for lower in cells[at + 1 :]:
            result = estimate(rate_logs(rates[upper.cell], rates[lower.cell]), seed)
            if result is not None:
                pairs.append((upper.cell, lower.cell))
                estimates.append(result)
    adjusted = holm([result.p_value for result in estimates])
    return {
        pair
        for pair, result, p in zip(pairs, estimates, adjusted, strict=True)
        if p < ALPHA and result.low > 1
    }
