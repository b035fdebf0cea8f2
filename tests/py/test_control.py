from __future__ import annotations

import math
import random
from dataclasses import replace
from pathlib import Path

import pytest
from madeup import sound_slice

from iolab import control, stats
from iolab.model import Cell, Plan, Sample, Server, Status, Workload

A, B = Server("engine", "a"), Server("engine", "b")
SMALL, LARGE = Workload("small", 1000, 1), Workload("large", 5000, 1)


def plan() -> Plan:
    return control.with_control(
        Plan(
            "p", "", "a", tuple(Cell(server, load) for load in (SMALL, LARGE) for server in (A, B))
        )
    )


def samples(
    chosen: Plan, nr_blocks: int, twin: float = 1.0, noise: float = 0.02, seed: int = 1
) -> list[Sample]:
    """Blocks in which b is twice as fast, and the twin at the large workload as fast as said."""
    rng = random.Random(seed)
    found = []
    for block in range(nr_blocks):
        for order, cell in enumerate(chosen.cells):
            speed = 2.0 if cell.server.name == "b" else 1.0
            if cell.server.twin and cell.workload == LARGE:
                speed = twin
            rate = 1000 * speed * math.exp(rng.gauss(0, noise))
            size = rate * cell.workload.size_bytes
            found.append(sound_slice(block, cell.id, size, order=order, requests=rate))
    return found


def test_the_baseline_gets_a_twin_beside_it_once() -> None:
    chosen = plan()
    assert [cell.id for cell in chosen.cells] == [
        "a@small", "a#2@small", "b@small", "a@large", "a#2@large", "b@large",
    ]  # fmt: skip
    assert chosen.instance(chosen.cells[0]) != chosen.instance(chosen.cells[1])
    assert control.with_control(chosen) == chosen


def test_a_baseline_that_cannot_run_has_no_twin() -> None:
    broken = replace(A, unsupported="no")
    cells = (Cell(broken, SMALL), Cell(B, SMALL))
    assert control.with_control(Plan("p", "", "a", cells)).cells == cells


def test_with_builds_each_reference_gets_a_twin() -> None:
    servers = [replace(s, build=build) for s in (A, B) for build in ("base", "new")]
    chosen = Plan("p", "", "base/a", tuple(Cell(s, SMALL) for s in servers), baseline_build="base")
    labels = [cell.server.label for cell in control.with_control(chosen).cells]
    assert labels == ["base/a", "base/a#2", "new/a", "base/b", "base/b#2", "new/b"]


def test_equal_twins_are_trusted_and_different_ones_are_not() -> None:
    chosen = plan()
    same = control.read(chosen, samples(chosen, 30))
    assert [found.twin.id for found in same] == ["a#2@small", "a#2@large"]
    assert control.untrusted(same) is None
    words = control.untrusted(control.read(chosen, samples(chosen, 30, twin=0.9)))
    assert words is not None
    assert "the baseline differs from itself: a#2 to a at large: 0.9" in words
    assert "small" not in words


def test_with_a_threshold_only_a_difference_that_would_change_a_verdict_counts() -> None:
    """Two processes of one server are never quite equal, which enough blocks show."""
    chosen, verdicts = plan(), {}
    for twin in (0.98, 0.97):
        found = samples(chosen, 40, twin=twin, noise=0.005)
        assert control.untrusted(control.read(chosen, found)) is not None
        at_5 = replace(chosen, threshold=0.05)
        verdicts[twin] = control.untrusted(control.read(at_5, found))
    assert verdicts[0.98] is None
    assert verdicts[0.97] is not None


def test_with_a_threshold_measuring_goes_on_until_interval_and_test_agree() -> None:
    """Blocks in which the base stood still: the median hardly minds, the signed ranks do."""
    cells = (Cell(A, SMALL), Cell(B, SMALL))
    chosen = control.with_control(Plan("p", "", "a", cells, confidence=0.99))
    at_5 = replace(chosen, threshold=0.05)

    def measured(nr_blocks: int) -> list[Sample]:
        found = samples(chosen, nr_blocks, noise=0.001)
        for sample in found:
            window = (sample.load or {})["window"]
            if sample.cell == "b@small":
                window["body_bytes"] *= 0.45
            elif sample.block in (3, 9, 15):
                window["body_bytes"] *= 0.3
        return found

    enough = math.log1p(0.05) / 2
    assert control.known(chosen, measured(20), enough)
    assert not control.known(at_5, measured(20), enough)
    assert control.known(at_5, measured(40), enough)


def test_few_blocks_never_make_a_run_untrusted() -> None:
    chosen = plan()
    assert control.untrusted(control.read(chosen, samples(chosen, 5, twin=0.5))) is None


def test_a_twin_that_failed_says_nothing() -> None:
    chosen = plan()
    found = samples(chosen, 30, twin=0.5)
    found.append(Sample(30, 0, "a#2@large", Status.FAILED, "died", 0, 1))
    assert [one.twin.id for one in control.read(chosen, found)] == ["a#2@small"]


def test_sound_runs_are_seldom_called_untrusted() -> None:
    chosen = plan()
    alarms = 0
    for seed in range(100):
        alarms += any(c.differs for c in control.read(chosen, samples(chosen, 20, seed=seed)))
    assert alarms <= 4  # of 100 at 1%


def test_a_twin_ranks_nothing() -> None:
    chosen = plan()
    for summary in stats.summarise(chosen, samples(chosen, 20)):
        ranks = {cell.server: cell.rank for cell in summary.cells}
        assert ranks == {"b": 1, "a": 2, "a#2": None}


def test_the_precision_does_not_wait_for_the_twin() -> None:
    chosen = plan()
    found = samples(chosen, 20)
    found = [s for s in found if "#2" not in s.cell or s.block < 2]
    assert stats.widest_interval(chosen, found) < 0.05


@pytest.mark.parametrize("twin", [1.0, 0.8])
def test_the_report_says_untrusted_on_its_first_line(tmp_path: Path, twin: float) -> None:
    from iolab import store
    from iolab.matrix import plan_to_json
    from iolab.report import write_report

    chosen = plan()
    run_dir = tmp_path / "20260102-101112-p"
    run_dir.mkdir()
    store.write_json(
        run_dir / store.MANIFEST,
        {"schema_version": 1, "run": run_dir.name, "plan": plan_to_json(chosen)},
    )
    with store.SampleWriter(run_dir) as writer:
        for sample in samples(chosen, 20, twin=twin):
            if sample.order == 0 and sample.block:
                writer.end_block(sample.block - 1, wall_ns=1)
            writer.append(sample)
        writer.end_block(19, wall_ns=1)
    text = write_report(run_dir).read_text(encoding="utf-8")
    body = text.partition("<main>")[2]
    assert ('id="untrusted"' in text) == (twin != 1.0)
    if twin != 1.0:
        assert body.index("Untrusted: the baseline differs from itself") < body.index("<h1>")
    assert "A/A pair at large" in text


def test_a_pair_that_could_have_shown_nothing_is_no_evidence() -> None:
    chosen = plan()
    assert control.lacking(chosen, samples(chosen, 40)) is None
    assert control.lacking(chosen, samples(chosen, 40), 0.0001) is not None
    few = control.lacking(chosen, samples(chosen, 4)) or ""
    assert few.startswith("no A/A evidence: a#2@small: 4 blocks are too few")
    wide = control.lacking(chosen, samples(chosen, 40, noise=0.5)) or ""
    assert "wide" in wide
    bare = replace(chosen, cells=tuple(c for c in chosen.cells if not c.server.twin))
    assert "none in the plan" in (control.lacking(bare, samples(bare, 40)) or "")


def test_a_twin_that_fails_is_no_evidence_either() -> None:
    chosen = plan()
    found = [
        replace(one, status=Status.FAILED, reason="died") if one.cell == "a#2@large" else one
        for one in samples(chosen, 40)
    ]
    assert control.untrusted(control.read(chosen, found)) is None
    assert "a#2@large has no number (failed: died)" in (control.lacking(chosen, found) or "")


def test_how_much_longer_a_pair_would_take_to_show_something() -> None:
    chosen = plan()
    assert control.growth(chosen, samples(chosen, 40)) is None
    # At 99.5% for two pairs: nine blocks at least, and four are there.
    assert control.growth(chosen, samples(chosen, 4)) == pytest.approx(9 / 4)
    wide = samples(chosen, 40, noise=0.5)
    widths = [one.estimate.half_width for one in control.read(chosen, wide)]
    times = control.growth(chosen, wide)
    assert times == pytest.approx((max(widths) / math.log1p(control.NOTABLE)) ** 2)
    dead = [
        replace(one, status=Status.FAILED, reason="died") if one.cell == "a#2@large" else one
        for one in samples(chosen, 4)
    ]
    assert control.growth(chosen, dead) is None
