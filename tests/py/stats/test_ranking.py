from __future__ import annotations

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
