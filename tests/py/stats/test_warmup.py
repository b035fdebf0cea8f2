from __future__ import annotations

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
