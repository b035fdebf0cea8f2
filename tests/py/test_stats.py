from __future__ import annotations

import math
import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from iolab import stats
from iolab.model import Cell, Plan, Sample, Server, Status, Workload

LOGS = st.lists(st.floats(-3, 3), min_size=1, max_size=40)
SIZE = 1000


def document(requests: float, server_ns: int = 400, client_share: float = 0.5) -> dict[str, Any]:
    """What iolab-load prints for a window of one second."""
    return {
        "window": {"ns": 10**9, "requests": int(requests), "body_bytes": int(requests * SIZE)},
        "total": {"requests": int(requests), "body_bytes": int(requests * SIZE)},
        "errors": {"connect": 0, "timeout": 0},
        "non_2xx": 0,
        "cpu": {
            "client_ns": int(client_share * 1e9),
            "server_ns": server_ns,
            "client_share": client_share,
        },
    }


def plan(*names: str) -> Plan:
    workload = Workload("w", SIZE, 1)
    return Plan("p", "", names[0], tuple(Cell(Server("engine", n), workload) for n in names))


def run(
    nr_blocks: int, rates: dict[str, Callable[[float], float]], noise: float, seed: int = 5
) -> list[Sample]:
    """Blocks in which all servers share the machine's wobble and have little of their own."""
    rng = random.Random(seed)
    samples = []
    for block in range(nr_blocks):
        level = 10_000 * math.exp(rng.gauss(0, 0.5))
        for order, (name, rate) in enumerate(rates.items()):
            load = document(rate(level) * math.exp(rng.gauss(0, noise)))
            samples.append(Sample(block, order, f"{name}@w", Status.OK, None, 0, 1, load))
    return samples


@given(LOGS)
def test_an_estimate_lies_inside_its_interval(logs: list[float]) -> None:
    result = stats.estimate(logs)
    assert result is not None
    slack = 1 + 1e-9
    assert result.low <= result.ratio * slack
    assert result.ratio <= result.high * slack
    assert 0 <= result.p_value <= 1
    assert 1 <= result.effective_blocks <= len(logs)


@given(LOGS)
def test_swapping_the_two_sides_inverts_the_verdict(logs: list[float]) -> None:
    there, back = stats.estimate(logs), stats.estimate([-x for x in logs])
    assert there is not None
    assert back is not None
    assert there.ratio == pytest.approx(1 / back.ratio)
    assert there.p_value == pytest.approx(back.p_value)
    low, high, _ = stats.order_interval(np.array(logs))
    other_low, other_high, _ = stats.order_interval(-np.array(logs))
    assert (low, high) == (-other_high, -other_low)


def test_order_interval_is_the_textbook_one() -> None:
    # n = 10: ranks 2 and 9 cover with 1 - 2 * 11 / 1024; n = 6: the range, with 1 - 2 / 64.
    low, high, coverage = stats.order_interval(np.arange(1.0, 11.0))
    assert (low, high) == (2.0, 9.0)
    assert coverage == pytest.approx(1 - 22 / 1024)
    assert stats.order_interval(np.arange(6.0))[2] == pytest.approx(1 - 2 / 64)


def test_too_few_blocks_give_the_range_with_its_true_coverage() -> None:
    assert stats.order_interval(np.array([3.0, 1.0, 2.0])) == (1.0, 3.0, pytest.approx(0.75))
    assert stats.order_interval(np.array([3.0])) == (3.0, 3.0, 0.0)


def test_intervals_cover_the_median_as_often_as_they_say() -> None:
    rng = np.random.default_rng(3)
    hits = 0
    for _ in range(400):
        result = stats.estimate(list(rng.normal(0.1, 1.0, 20)))
        assert result is not None
        hits += result.low <= math.exp(0.1) <= result.high
    assert hits / 400 >= 0.94


def test_correlation_widens_the_interval_and_weakens_the_evidence() -> None:
    rng = np.random.default_rng(1)
    steps = rng.normal(0, 1, 200)
    wave = np.zeros(200)
    for at in range(1, 200):
        wave[at] = 0.9 * wave[at - 1] + steps[at]
    wave += 0.5
    shuffled = rng.permutation(wave)
    assert stats.lag1(wave) > 0.7
    assert stats.effective_blocks(wave) < 50 < stats.effective_blocks(shuffled)
    bound, free = stats.bootstrap_interval(wave), stats.bootstrap_interval(shuffled)
    assert bound[1] - bound[0] > 1.5 * (free[1] - free[0])
    assert stats.paired_p_value(wave) > stats.paired_p_value(shuffled)


def test_the_paired_test_knows_the_exact_small_case() -> None:
    # six differences of one sign: 2 / 2^6
    assert stats.paired_p_value(np.arange(1.0, 7.0)) == pytest.approx(2 / 64)
    assert stats.paired_p_value(np.zeros(5)) == 1.0


def test_required_blocks_grow_with_the_square() -> None:
    result = stats.Estimate(1.0, math.exp(-0.1), math.exp(0.1), 1.0, 20, 20.0, 0.95)
    assert stats.required_blocks(result, 0.05) == pytest.approx(80)
    with pytest.raises(ValueError, match="above 0"):
        stats.required_blocks(result, 0)


def test_holm_is_the_step_down_method() -> None:
    assert stats.holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert stats.holm([]) == []


@given(st.lists(st.floats(0, 1), max_size=20))
def test_holm_never_strengthens_and_keeps_order(p_values: list[float]) -> None:
    adjusted = stats.holm(p_values)
    pairs = sorted(zip(p_values, adjusted, strict=True))
    assert all(p <= q <= 1 for p, q in pairs)
    assert [q for _, q in pairs] == sorted(q for _, q in pairs)


def test_pairing_finds_five_percent_under_wobble_of_fifty() -> None:
    rates = {"base": lambda x: x, "slow": lambda x: 0.95 * x, "same": lambda x: x}
    (summary,) = stats.summarise(plan("base", "slow", "same"), run(30, rates, noise=0.02))
    found = {cell.server: cell for cell in summary.cells}
    slow, same = found["slow"].ratio, found["same"].ratio
    assert slow is not None
    assert same is not None
    assert slow.high < 1
    assert 0.93 < slow.ratio < 0.97
    assert same.low < 1 < same.high


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


def test_one_bad_slice_takes_the_number_away() -> None:
    rates = {"base": lambda x: x, "other": lambda x: 2 * x}
    samples = run(10, rates, 0.01)
    samples.append(Sample(10, 0, "other@w", Status.INVALID, "client saw 1 timeout", 0, 1))
    (summary,) = stats.summarise(plan("base", "other"), samples)
    other = summary.cells[-1]
    assert (other.status, other.reason, other.ratio) == (
        Status.INVALID,
        "client saw 1 timeout",
        None,
    )


def test_cells_without_slices_and_unsupported_ones_say_why() -> None:
    workload = Workload("w", SIZE, 1)
    servers = [Server("engine", "a"), Server("engine", "b", (), "no kernel support")]
    two = Plan("p", "", "a", tuple(Cell(server, workload) for server in servers))
    (summary,) = stats.summarise(two, [])
    assert [(cell.status, cell.reason) for cell in summary.cells] == [
        (Status.FAILED, "no slice was measured"),
        (Status.UNSUPPORTED, "no kernel support"),
    ]


def test_large_bodies_are_counted_in_parts() -> None:
    load = document(0)
    load["window"] |= {"requests": 1, "body_bytes": 2500}
    assert stats.unit_rate(load, SIZE) == pytest.approx(2.5)
    assert stats.unit_rate(load, 0) == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("change", "counters", "words"),
    [
        ({}, None, None),
        ({}, {"requests": 100, "body_bytes": 100 * SIZE}, None),
        ({}, {"requests": 99, "body_bytes": 100 * SIZE}, "requests: client counted 100, server 99"),
        ({}, {"requests": 100, "body_bytes": 1}, "body_bytes: client counted"),
        ({"errors": {"timeout": 2, "short": 0}}, None, "client saw 2 timeout"),
        ({"non_2xx": 7}, None, "client saw 7 non-2xx"),
        ({"total": {"requests": 0, "body_bytes": 0}}, None, "no request was completed"),
    ],
)
def test_slices_are_judged(
    change: dict[str, Any], counters: dict[str, int] | None, words: str | None
) -> None:
    verdict = stats.judge_slice(document(100) | change, counters)
    assert verdict is None if words is None else verdict is not None and words in verdict


def test_a_rate_so_low_that_nothing_was_due_is_no_fault() -> None:
    nothing = {"window": {"ns": 10**9, "requests": 0}, "total": {"requests": 0, "body_bytes": 0}}
    idle = document(0) | nothing | {"open_loop": {"due": 0}}
    assert stats.judge_slice(idle, {"requests": 0, "body_bytes": 0}) is None
    assert stats.judge_slice(idle | {"open_loop": {"due": 1}}, None) == "no request was completed"
    assert stats.judge_slice(idle | {"open_loop": None}, None) == "no request was completed"


def streamed(**total: int) -> dict[str, Any]:
    """What iolab-load says of a slice of pairs: a stream need not end in it."""
    counts = {"requests": 0, "body_bytes": 5000, "sent_bytes": 5000, "greeting_bytes": 16}
    changes = {"mode": "forward", "total": {**counts, **total}}
    document_ = document(0)
    document_["window"] |= {"body_bytes": 4000}
    return document_ | changes


@pytest.mark.parametrize(
    ("load", "counters", "words"),
    [
        (streamed(), None, None),
        (streamed(), {"relayed_bytes": 5016, "transfers_failed": 0, "requests": 0}, None),
        (streamed(), {"relayed_bytes": 5000}, "relayed_bytes: client counted 5016, server 5000"),
        (streamed(), {"relayed_bytes": 5016, "transfers_failed": 1}, "1 failed transfers"),
        (streamed(sent_bytes=5001), None, "5001 bytes were sent, 5000 arrived"),
        (streamed(body_bytes=0, sent_bytes=0), None, "no byte arrived"),
        (streamed() | {"errors": {"mismatch": 1}}, None, "client saw 1 mismatch"),
        (streamed() | {"mode": "relay"}, {"relayed_bytes": 5016}, None),
        (document(7) | {"mode": "copy"}, None, None),
        (document(7) | {"mode": "copy", "errors": {"cache": 2}}, None, "copier saw 2 cache"),
    ],
)
def test_slices_of_pairs_are_judged_by_their_bytes(
    load: dict[str, Any], counters: dict[str, int] | None, words: str | None
) -> None:
    verdict = stats.judge_slice(load, counters)
    assert verdict is None if words is None else verdict is not None and words in verdict


def test_streams_are_counted_in_gib_and_their_memory_is_the_most_seen() -> None:
    workload = Workload("w", 0, pairs=4)
    cell = Cell(Server("engine", "base"), workload)
    samples = []
    for block, peak in enumerate((3 << 20, 9 << 20, 5 << 20)):
        load = streamed() | {"cpu": {"client_ns": 10**9, "server_ns": 10**9, "client_share": 0.5}}
        load["window"] = {"ns": 2 * 10**9, "body_bytes": 1 << 29, "requests": 0}
        extra = {"memory": {"resident_peak_bytes": peak, "group_peak_bytes": None}}
        samples.append(
            Sample(block, 0, cell.id, Status.OK, None, 0, 1, load, {"relayed_bytes": 1}, extra)
        )
    (summary,) = stats.summarise(Plan("p", "", "base", (cell,), role="forward"), samples)
    (found,) = summary.cells
    assert summary.to_json()["unit"] == "GiB"
    assert found.units_per_s == pytest.approx(0.25)
    assert found.bytes_per_s == pytest.approx(1 << 28)
    assert found.server_us_per_unit == pytest.approx(2e6)
    assert found.resident_peak_bytes == 9 << 20
    assert (found.group_peak_bytes, found.pipe_peak_bytes) == (None, None)


def test_warm_up_is_what_differs_from_all_that_follows() -> None:
    one = plan("base", "other")
    steady = run(20, {"base": lambda x: 1000, "other": lambda x: 2000}, noise=0.01)
    assert stats.warmup_blocks(steady, one) == 0
    cold = [
        Sample(s.block, 0, s.cell, s.status, None, 0, 1, document(300))
        if s.block < 2
        else s
        for s in steady
    ]  # fmt: skip
    assert stats.warmup_blocks(cold, one) == 2
    (summary,) = stats.summarise(one, cold)
    assert summary.cells[0].slices == 18


def test_precision_waits_for_enough_blocks() -> None:
    one = plan("base", "other")
    rates = {"base": lambda x: x, "other": lambda x: 2 * x}
    assert stats.widest_interval(one, run(4, rates, 0.001)) == math.inf
    assert stats.widest_interval(one, run(12, rates, 0.001)) < 0.01
    assert stats.widest_interval(one, []) == math.inf


def test_a_width_that_is_too_large_need_not_be_exact() -> None:
    one = plan("base", "other")
    samples = run(30, {"base": lambda x: x, "other": lambda x: 2 * x}, 0.05)
    exact = stats.widest_interval(one, samples)
    assert stats.widest_interval(one, samples, exact) == exact
    assert exact / 4 < stats.widest_interval(one, samples, exact / 4) <= exact
    assert stats.widest_interval(one, run(4, {"base": lambda x: x}, 0.1), 1.0) == math.inf


def test_a_baseline_that_failed_is_no_yardstick() -> None:
    two = plan("base", "other")
    samples = run(10, {"base": lambda level: level, "other": lambda level: 2 * level}, 0.01)
    sound = stats.summarise(two, samples)[0]
    assert all(cell.ratio is not None for cell in sound.cells)
    samples.append(Sample(10, 0, "base@w", Status.INVALID, "client saw 1 short", 0, 1, None))
    broken = stats.summarise(two, samples)[0]
    assert all(cell.ratio is None for cell in broken.cells)
    assert next(cell for cell in broken.cells if cell.server == "other").units_per_s
