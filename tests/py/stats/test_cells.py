from __future__ import annotations

import pytest
from simulated import SIZE, document, plan, run, streamed

from iolab import stats
from iolab.model import Cell, Plan, Sample, Server, Status, Workload


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


def test_slices_without_any_cpu_time_of_the_server_count_as_such() -> None:
    """None is not known, 0 is: left out, a server that mostly rests would read as busy."""
    samples = [
        Sample(at, 0, "base@w", Status.OK, None, 0, 1, document(1000, used, 0.5))
        for at, used in enumerate((0, 0, 950_000_000))
    ]
    (found,) = stats.summarise(plan("base"), samples)[0].cells
    assert (found.server_share, found.limiter) == (0.0, "neither")


def test_a_baseline_that_failed_is_no_yardstick() -> None:
    two = plan("base", "other")
    samples = run(10, {"base": lambda level: level, "other": lambda level: 2 * level}, 0.01)
    sound = stats.summarise(two, samples)[0]
    assert all(cell.ratio is not None for cell in sound.cells)
    samples.append(Sample(10, 0, "base@w", Status.INVALID, "client saw 1 short", 0, 1, None))
    broken = stats.summarise(two, samples)[0]
    assert all(cell.ratio is None for cell in broken.cells)
    assert next(cell for cell in broken.cells if cell.server == "other").units_per_s
