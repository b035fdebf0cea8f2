"""Curves of latency against load, from slices whose latencies are known."""

from __future__ import annotations

import itertools
import json
import math
import random
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from iolab import stats
from iolab.curve import at_share, curve_sets, quantiles, to_json
from iolab.histogram import Counts, bucket, gather
from iolab.model import Cell, Plan, Sample, Server, Status, Workload

BITS = 7
CLOSED = Workload("1KiB", 1024, 50)
LOADS = tuple(
    replace(CLOSED, name=f"1KiB-load{load:g}", load=load, rate_per_s=1000 * load)
    for load in (0.5, 0.9, 1.2)
)


def index_of(value: int) -> int:
    if value < 2 << BITS:
        return value
    shift = value.bit_length() - 1 - BITS
    return (shift << BITS) + (value >> shift)


def histogram(values: list[int], bits: int = BITS) -> dict[str, Any]:
    counts: dict[int, int] = {}
    for value in values:
        counts[index_of(value)] = counts.get(index_of(value), 0) + 1
    return {
        "scheme": "log-linear", "sub_bucket_bits": bits, "counts": sorted(counts.items()),
        "min": min(values, default=None), "max": max(values, default=None),
    }  # fmt: skip


def load_document(
    values: list[int], lateness: int = 10, due: int = 0, overload: bool = False, abandoned: int = 0
) -> dict[str, Any]:
    return {
        "window": {"ns": 10**9, "requests": len(values), "body_bytes": 1024 * len(values)},
        "cpu": {"client_ns": 5 * 10**8, "server_ns": 5 * 10**8, "client_share": 0.5},
        "latency": histogram(values),
        "open_loop": {
            "due": due or len(values), "unsent": abandoned, "abandoned": abandoned,
            "overload": overload, "lateness": histogram([lateness] * len(values)),
        },
    }  # fmt: skip


def plan() -> Plan:
    servers = [Server("engine", "a"), Server("engine", "b")]
    cells = [Cell(server, load) for load in (CLOSED, *LOADS) for server in servers]
    return Plan("p", "", "a", tuple(cells))


def run(blocks: int = 8, saturated: str = "b@1KiB-load1.2") -> list[Sample]:
    """Latency of `a` is 1 ms at every rate, that of `b` 2 ms, of 1 in 100 twenty times as much."""
    samples = []
    rng = random.Random(3)
    for block, cell in itertools.product(range(blocks), plan().cells):
        typical = 1_000_000 if cell.server.name == "a" else 2_000_000
        values = [typical + rng.randrange(1000) for _ in range(99)] + [20 * typical]
        document = load_document(values, overload=cell.id == saturated)
        if not cell.workload.open_loop:
            document = load_document([9_000_000] * 1200) | {"open_loop": None}
        samples.append(Sample(block, 0, cell.id, Status.OK, None, 0, 1, document))
    return samples


def curves(samples: list[Sample]) -> Any:
    (found,) = curve_sets(plan(), samples, stats.summarise(plan(), samples))
    return found


def test_a_curve_has_every_rate_and_the_closed_loops_capacity() -> None:
    found = curves(run())
    assert found.name == "1KiB"
    assert [curve.server for curve in found.curves] == ["a", "b"]
    for curve in found.curves:
        assert curve.capacity_per_s == pytest.approx(1200)
        assert [point.load for point in curve.points] == [0.5, 0.9, 1.2]
        assert [point.rate_per_s for point in curve.points] == [500, 900, 1200]
        assert all(point.requests == 800 for point in curve.points)
    a, b = (curve.points[0].quantiles for curve in found.curves)
    assert a["p50"].ns == pytest.approx(1_000_500, rel=0.005)
    assert a["p99"].ns == pytest.approx(1_000_500, rel=0.005)
    assert a["p99.9"].ns == pytest.approx(20_000_000, rel=0.005)
    assert a["max"].ns == 20_000_000
    assert b["p50"].ns == pytest.approx(2_000_500, rel=0.005)
    assert a["p50"].low == pytest.approx(a["p50"].ns, rel=0.01)
    assert a["max"].low is None


def test_a_curve_ends_where_its_server_is_saturated() -> None:
    a, b = curves(run()).curves
    assert len(a.kept_up) == 3
    assert [point.load for point in b.kept_up] == [0.5, 0.9]
    assert [point.overload for point in b.points] == [False, False, True]


def test_a_rate_that_was_met_limits_the_cell_and_nothing_is_ranked() -> None:
    summaries = stats.summarise(plan(), run())
    cells = {cell.cell: cell for summary in summaries for cell in summary.cells}
    assert cells["a@1KiB-load0.5"].limiter == "rate"
    assert cells["b@1KiB-load1.2"].limiter == "neither"
    ranks = {cell.rank for name, cell in cells.items() if "load" in name}
    assert ranks == {None}
    assert cells["a@1KiB"].rank == 1


def test_a_few_stalled_slices_are_no_saturation_most_of_them_are() -> None:
    documents = [load_document([5], overload=at < 3) for at in range(7)]
    assert not stats.overloaded(documents)
    assert not stats.overloaded(documents[:6])
    assert stats.overloaded(documents[:5])
    assert not stats.overloaded([])
    assert not stats.overloaded([{"open_loop": None}])


def test_the_generators_own_lateness_makes_a_point_client_limited() -> None:
    samples = [
        replace(sample, load=load_document([1000] * 100, lateness=late))
        if sample.load and sample.load["open_loop"]
        else sample
        for sample in run()
        for late in [600 if sample.cell.startswith("a") else 400]
    ]
    a, b = curves(samples).curves
    assert all(point.client_limited for point in a.points)
    assert not any(point.client_limited for point in b.points)
    assert a.points[0].lateness["p99"] == pytest.approx(600, rel=0.01)


def test_percentiles_that_may_be_the_generators_are_named() -> None:
    samples = run()
    for at, sample in enumerate(samples):
        if sample.load and sample.load["open_loop"]:
            tail = histogram([10] * 985 + [15_000_000] * 15)
            one = sample.load["open_loop"] | {"lateness": tail}
            samples[at] = replace(sample, load=sample.load | {"open_loop": one})
    a, b = curves(samples).curves
    # 20 and 40 ms at p99.9; 1 and 2 ms at p99, of which the lateness is many times more.
    assert [point.late for point in a.points] == [("p99", "p99.9")] * 3
    assert [point.late for point in b.points] == [("p99",)] * 3
    assert not any(point.client_limited for point in (*a.points, *b.points))


def test_a_backlog_that_grows_is_not_settled() -> None:
    samples = run(12)
    rng = random.Random(5)
    for at, sample in enumerate(samples):
        if sample.load and sample.load["open_loop"]:
            growth = 12 if sample.cell.endswith("load0.9") else 0
            begin, change = rng.randrange(10, 20), rng.randrange(-8, 9)
            one = {"backlog_begin": begin, "backlog_end": begin + change + growth}
            one = sample.load["open_loop"] | one
            samples[at] = replace(sample, load=sample.load | {"open_loop": one})
    for curve in curves(samples).curves:
        assert [point.unsettled for point in curve.points] == [False, True, False]


def test_a_curve_that_the_grid_ended_says_so() -> None:
    found = curves(run())
    assert [curve.ended_by_grid for curve in found.curves] == [True, False]
    assert [one["ended_by_grid"] for one in to_json(found)["curves"]] == [True, False]


def test_requests_never_sent_are_later_than_all_others() -> None:
    documents = [load_document([1000] * 980, due=1000, abandoned=20) for _ in range(8)]
    counts = gather((one["latency"] for one in documents), [20] * 8)
    assert counts is not None
    found = quantiles(counts, 1)
    assert found["p90"].ns == 1000
    assert found["p99"].ns == found["p99.9"].ns == found["max"].ns == math.inf
    assert found["p99"].low == math.inf
    assert json.loads(json.dumps(to_json(curves(run())), allow_nan=False))["name"] == "1KiB"


def test_whole_blocks_are_resampled() -> None:
    """One block of eight is ten times slower, and p99 its value or the others', as it is drawn."""
    rows = [[1000] * 100] * 7 + [[10_000] * 100]
    counts = gather([histogram(row) for row in rows])
    assert counts is not None
    found = quantiles(counts, 1)["p99"]
    assert found.ns == pytest.approx(10_000, rel=0.01)
    assert found.low == pytest.approx(1000, rel=0.01)
    assert found.high == pytest.approx(10_000, rel=0.01)


def test_few_blocks_have_no_interval() -> None:
    counts = gather([histogram([1000, 2000])] * 5)
    assert counts is not None
    assert quantiles(counts, 1)["p50"].low is None


@given(st.lists(st.integers(min_value=1, max_value=10**10), min_size=1, max_size=300))
def test_percentiles_are_within_the_buckets_bound(values: list[int]) -> None:
    counts = gather([histogram(values)])
    assert counts is not None
    ordered = sorted(values)
    for share in (0.0, 0.5, 0.9, 0.999, 1.0):
        exact = ordered[max(1, math.ceil(share * len(values))) - 1]
        got = at_share(counts.table, counts.values, share)[0]
        assert abs(got - exact) <= exact / 256


def test_histograms_of_slices_stand_side_by_side() -> None:
    counts = gather([histogram([5, 5, 300]), histogram([]), histogram([7])], [0, 2, 0])
    assert counts is not None
    assert counts.table.sum(axis=1).tolist() == [3, 2, 1]
    assert counts.values.tolist()[:2] == [5, 7]
    assert counts.most == math.inf
    assert np.isinf(counts.values[-1])
    low, high = bucket(index_of(300), BITS)
    assert low <= counts.values[2] <= high
    assert gather([]) is None
    assert gather([histogram([])]) is None
    with pytest.raises(ValueError, match="cannot be merged"):
        gather([histogram([5]), histogram([5], bits=5)])


@pytest.mark.parametrize("blocks", [8, 12, 20, 30])
def test_intervals_of_percentiles_cover_from_few_blocks_on(blocks: int) -> None:
    """Blocks at levels of their own, as a wobbling machine has them, around a median of 100."""
    rng = np.random.default_rng(blocks)
    values = np.arange(201.0)
    hits = 0
    for seed in range(200):
        levels = 100 + rng.normal(0, 12, (blocks, 1))
        noise = rng.normal(0, 4, (blocks, 40))
        latencies = np.clip(np.rint(levels + noise), 0, 200).astype(int)
        table = np.stack([np.bincount(row, minlength=201) for row in latencies]).astype(float)
        found = quantiles(Counts(table, values, 200.0), seed)["p50"]
        assert found.low is not None
        assert found.high is not None
        hits += found.low <= 100 <= found.high
    assert hits / 200 >= 0.92
