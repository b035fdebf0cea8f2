"""The map of a grid: leaders, ties, places without a ranking, and what is drawn of them."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from synthetic import load_document, make_manifest

from iolab import store
from iolab.model import Cell, Plan, Sample, Server, Status, Workload
from iolab.report import write_report
from iolab.report.build import build
from iolab.report.crossover import crossing, crossover_chart
from iolab.report.run import load
from iolab.stats import CellSummary, WorkloadSummary

SIZES = (1024, 1 << 20)
CONNECTIONS = (1, 64)
# True rate of each server, by size: `copies` leads below, `refers` above, and all tie at the last.
SPEED = {
    ("copies", 1024): 3000.0, ("refers", 1024): 2000.0,
    ("copies", 1 << 20): 100.0, ("refers", 1 << 20): 150.0,
}  # fmt: skip


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    """A grid of 2 x 2 places, of which the last ties and one is broken."""
    cells = tuple(
        Cell(Server("engine", name), Workload(f"{size}-c{nr}", size, nr))
        for size in SIZES
        for nr in CONNECTIONS
        for name in ("copies", "refers")
    )
    plan = Plan("grid", "", "copies", cells, grid=True, share_connections=True)
    directory = tmp_path / "20260102-101112-grid"
    directory.mkdir()
    store.write_json(directory / store.MANIFEST, make_manifest(plan, directory.name))
    rng = random.Random(11)
    with store.SampleWriter(directory) as writer:
        for block in range(12):
            for order, cell in enumerate(cells):
                writer.append(sample(block, order, cell, rng))
            writer.end_block(block, wall_ns=1)
    return directory


def sample(block: int, order: int, cell: Cell, rng: random.Random) -> Sample:
    work = cell.workload
    rate = SPEED[cell.server.name, work.size_bytes]
    if work.name == f"{1 << 20}-c64":
        rate = 100.0
    if work.name == "1024-c1" and cell.server.name == "copies":
        return Sample(block, order, cell.id, Status.FAILED, "gone", block * 10**9, 0)
    document = load_document(rate * rng.uniform(0.98, 1.02), work.size_bytes, 0.99, 0.4, rng)
    return Sample(block, order, cell.id, Status.OK, None, block * 10**9, 10**8, document)


def test_leaders_ties_and_places_without_ranking(run_dir: Path) -> None:
    view = build(load(run_dir))
    places = {(place.size_bytes, place.connections): place for place in view.crossings}
    assert list(places) == [(1024, 1), (1024, 64), (1 << 20, 1), (1 << 20, 64)]
    first = places[1024, 64]
    assert (first.leader, first.behind, first.sure) == ("copies", "refers", True)
    assert first.ahead is not None
    assert first.ahead.low < 1.5 < first.ahead.high
    assert places[1 << 20, 1].leader == "refers"
    tie = places[1 << 20, 64]
    assert {tie.leader, *tie.tied} == {"copies", "refers"}
    assert (tie.ahead, tie.sure) == (None, False)
    broken = places[1024, 1]
    assert (broken.leader, broken.sure) == (None, False)


def test_a_server_that_stood_still_is_not_the_better_for_it_on_the_map() -> None:
    """Without a byte in 7 of 12 blocks: ranks count them as almost standing still."""
    work = Workload("w", 1024, 1)
    cells = [
        CellSummary(f"{name}@w", name, "w", Status.OK, None, rank=rank)
        for rank, name in enumerate(("moves", "stalls"), start=1)
    ]
    rates = {
        "moves@w": dict.fromkeys(range(12), 150.0),
        "stalls@w": {block: 0.0 if block < 7 else 100.0 for block in range(12)},
    }
    found = crossing(WorkloadSummary(work, "moves", tuple(cells)), cells, rates, 1)
    assert found.ahead is not None
    assert found.ahead.value > 100


def test_the_map_is_drawn_and_shown(run_dir: Path) -> None:
    chart = crossover_chart(build(load(run_dir)))
    assert chart is not None
    assert [tick.label for tick in chart.ticks] == ["1KiB", "1MiB"]
    assert [tick.label for tick in chart.xticks] == ["1", "64"]
    sure = {(place.column, place.row): place.sure for place in chart.places}
    assert sure == {(0, 0): False, (1, 0): True, (0, 1): True, (1, 1): False}
    texts = {(place.column, place.row): " ".join(place.lines) for place in chart.places}
    assert texts[0, 0] == "no ranking"
    assert texts[1, 0].startswith("copies 1.")
    assert texts[1, 0].endswith("of refers")
    assert "= " in texts[1, 1]
    page = write_report(run_dir)
    assert (page.parent / "crossover.svg").read_text(encoding="utf-8").startswith("<?xml")
    assert 'src="crossover.svg"' in page.read_text(encoding="utf-8")
    rows = (page.parent / "data" / "crossover.tsv").read_text(encoding="utf-8").splitlines()
    assert len(rows) == 5
