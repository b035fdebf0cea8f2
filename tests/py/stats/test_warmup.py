from __future__ import annotations

from dataclasses import replace

from simulated import document, plan, run

from iolab import stats
from iolab.model import Sample


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


def test_compared_and_summarised_a_cell_has_one_ratio() -> None:
    """Cold blocks in which the baseline suffers more: the report drops them, so does compare."""
    one = plan("base", "other")
    cold = run(6, {"base": lambda x: 200, "other": lambda x: 500}, 0.02)
    warm = run(30, {"base": lambda x: 1000, "other": lambda x: 1000}, 0.02)
    level = [replace(s, block=s.block + 6) for s in warm]
    samples = [*cold, *level]
    assert stats.warmup_blocks(samples, one) == 6
    (logs,) = stats.cell_logs(one, samples, [(one.cells[0], one.cells[1])])
    found = stats.estimate(logs, one.seed)
    (summary,) = stats.summarise(one, samples)
    (cell,) = [cell for cell in summary.cells if cell.server == "other"]
    assert found is not None
    assert found.blocks == 30
    assert cell.ratio == found
