"""What is said of a cell and of a workload, as frozen data."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from iolab.limiter import CLIENT_LIMITED
from iolab.model import Status, Workload
from iolab.stats.ratio import Estimate


@dataclass(frozen=True)
class CellSummary:
    """What the slices of one cell say.

    Rates are medians over slices; CPU is process CPU time in microseconds a unit (the workload's: a
    request or a GiB); shares are of one CPU. `rank` is 1 for the fastest, equal for cells that are
    not distinguishable, None when the cell ranks nothing. `limiter` is a name of limiter.Limiter,
    with its evidence. Memory is the most that was seen: resident, that of the control group (the
    kernel's on the server's behalf included), and the capacity of its pipes. A `twin` is the
    baseline once more: it ranks nothing.
    """

    cell: str
    server: str
    workload: str
    status: Status
    reason: str | None
    slices: int = 0
    units_per_s: float | None = None
    bytes_per_s: float | None = None
    server_us_per_unit: float | None = None
    client_us_per_unit: float | None = None
    server_share: float | None = None
    client_share: float | None = None
    limiter: str | None = None
    limiter_evidence: str | None = None
    ratio: Estimate | None = None
    server_cpu_ratio: Estimate | None = None
    total_cpu_ratio: Estimate | None = None
    resident_peak_bytes: int | None = None
    group_peak_bytes: int | None = None
    pipe_peak_bytes: int | None = None
    rank: int | None = None
    tied: bool = False
    twin: bool = False

    @property
    def client_limited(self) -> bool:
        """True when the load generator set the rate: the number is a lower bound."""
        return self.limiter in CLIENT_LIMITED

    def to_json(self) -> dict[str, Any]:
        """Plain data for `--json`."""
        return asdict(self)


@dataclass(frozen=True)
class WorkloadSummary:
    """The cells of one workload in reading order: ranked first, then those without a rank."""

    workload: Workload
    baseline: str
    cells: tuple[CellSummary, ...]

    @property
    def best(self) -> CellSummary | None:
        """The highest-ranked cell, None when none has a rank."""
        return next((cell for cell in self.cells if cell.rank == 1), None)

    def to_json(self) -> dict[str, Any]:
        """Plain data for `--json`."""
        return {
            "workload": asdict(self.workload),
            "unit": self.workload.unit,
            "baseline": self.baseline,
            "cells": [cell.to_json() for cell in self.cells],
        }
