from __future__ import annotations

from dataclasses import replace

import pytest

from iolab.model import Status, Workload
from iolab.stats import CellSummary, Estimate, WorkloadSummary
from iolab.wrkcheck import contenders, rate


def cell(server: str, ratio: float | None) -> CellSummary:
    estimate = None if ratio is None else Estimate(ratio, ratio, ratio, 1.0, 9, 9.0, 0.95)
    return CellSummary(f"{server}@w", server, "w", Status.OK, None, ratio=estimate)


def summary(*cells: CellSummary) -> WorkloadSummary:
    return WorkloadSummary(Workload("w", 1024, 1), "base", cells)


def test_the_baseline_meets_the_best_of_the_others() -> None:
    cells = [cell("a", 1.5), cell("base", 1.0), cell("b", 2.0), cell("c", None)]
    assert contenders(summary(*cells)) == ["base@w", "b@w"]


def test_the_baselines_twin_is_no_rival() -> None:
    twin = replace(cell("base#2", 3.0), twin=True)
    assert contenders(summary(cell("base", 1.0), twin, cell("b", 0.5))) == ["base@w", "b@w"]
    assert contenders(summary(cell("base", 1.0), twin)) == []


def test_without_a_rival_or_a_baseline_there_is_no_check() -> None:
    assert contenders(summary(cell("base", 1.0), cell("c", None))) == []
    assert contenders(summary(cell("a", 1.0), cell("base", None))) == []


def test_rates_are_counted_in_requests_or_for_large_bodies_in_bytes() -> None:
    document = {"duration_us": 2_000_000, "requests": 10, "bytes": 64 << 20}
    assert rate(document, 1024) == pytest.approx(5)
    assert rate(document, 16 << 20) == pytest.approx(2)
    assert rate({"requests": 10}, 1024) is None
    assert rate(document | {"duration_us": 0}, 1024) is None
