from __future__ import annotations

from dataclasses import replace

import pytest
from rich.console import Console

from iolab.console import print_table, ranking_table, time_left
from iolab.model import Status, Workload
from iolab.runner import Tick
from iolab.stats import CellSummary, Estimate, WorkloadSummary

RATIO = Estimate(1.5, 1.4, 1.6, 0.001, 20, 20.0, 0.96)
FEW = Estimate(1.0, 0.9, 1.1, 1.0, 3, 3.0, 0.75)


def text_of(summary: WorkloadSummary) -> str:
    """The table as plain words, whatever the line breaks."""
    console = Console(width=140)
    with console.capture() as capture:
        console.print(ranking_table(summary))
    return " ".join(capture.get().split())


def cell(server: str, **changes: object) -> CellSummary:
    fields: dict[str, object] = {
        "cell": f"{server}@w", "server": server, "workload": "w", "status": Status.OK,
        "reason": None, "units_per_s": 1234.5, "bytes_per_s": 2048.0, "ratio": RATIO,
    }  # fmt: skip
    return CellSummary(**(fields | changes))  # type: ignore[arg-type]


def test_a_table_shows_ranks_ties_limits_and_reasons() -> None:
    cells = (
        cell("a", rank=1, tied=True, limiter="server", server_us_per_unit=3.25),
        cell("base", rank=1, tied=True, ratio=FEW),
        cell("slow", limiter="both"),
        cell("short", limiter="client ports"),
        cell("gone", status=Status.UNSUPPORTED, reason="no io_uring", ratio=None),
    )
    text = text_of(WorkloadSummary(Workload("w", 1024, 50, 4), "base", cells))
    for words in (
        "w: 50 connections, 4 deep",
        "ratio of requests/s to base",
        "1=",
        "1.40 to 1.60",
        "0.90 to 1.10",
        "intervals cover 75% only",
        "1,234",
        "2KiB",
        "3.2",
        "client (lower bound)",
        "client ports (lower bound)",
        "unsupported: no io_uring",
    ):
        assert words in text


def test_a_table_says_where_ties_are_for_want_of_blocks() -> None:
    def text(**ratio: float) -> str:
        cells = tuple(
            cell(name, rank=1, tied=True, ratio=replace(RATIO, **ratio)) for name in "abcdef"
        )
        return text_of(WorkloadSummary(Workload("w", 1024, 50), "a", cells))

    assert "9 blocks tell no two of 6 apart, however different: that takes 10" in text(blocks=9)
    assert "apart" not in text(blocks=10)


def test_a_table_in_a_pipe_is_neither_cut_nor_wrapped(capsys: pytest.CaptureFixture[str]) -> None:
    name = "io_uring,cache=memory,sqpoll=on,sqpoll_idle=1,sqpoll_cpu=1," + "long=value," * 20
    reason = "another server: " + "words that take many columns " * 10
    cells = (
        cell(name, rank=1, limiter="server", server_us_per_unit=3.25),
        cell("gone", status=Status.INVALID, reason=reason, ratio=None),
    )
    print_table(ranking_table(WorkloadSummary(Workload("w", 1024, 50), "base", cells)))
    lines = capsys.readouterr().out.splitlines()
    (row,) = [line for line in lines if name in line]
    assert row.split() == [
        "1",
        name,
        "1.50",
        "1.40",
        "to",
        "1.60",
        "1,234",
        "2KiB",
        "3.2",
        "server",
    ]
    assert any(reason.strip() in line for line in lines)
    assert not any("\N{HORIZONTAL ELLIPSIS}" in line or line.endswith(" ") for line in lines)


def test_a_cell_without_a_pair_says_why() -> None:
    lonely = WorkloadSummary(Workload("w", 1024, 50), "base", (cell("a", ratio=None),))
    assert "ok: no block in which the baseline was measured too" in text_of(lonely)


def test_time_left() -> None:
    assert time_left(Tick(0, 10.0, 135.4, "c")) == "2:05 left"
    assert time_left(Tick(0, 10.0, 9.0, "c")) == "finishing"
