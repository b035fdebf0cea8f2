from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest
from madeup import sound_slice

from iolab import bystanders, stats
from iolab.bystanders import account, difference, disturbed, server_cpu_ns, share
from iolab.model import Cell, Plan, Sample, Server, Status, Workload

SLICE_NS = 200_000_000


def sample(block: int, cell: str, used_ns: int | None, requests: int = 1000) -> Sample:
    found = replace(sound_slice(block, cell, requests, requests=requests), wall_ns=SLICE_NS)
    if used_ns is None:
        return found
    used = {"ns": SLICE_NS, "cpu_ns": {"spinner": used_ns}}
    return replace(found, extra={"bystanders": used})


def test_only_time_worth_a_word_is_kept_and_none_of_the_dead() -> None:
    before = {"busy": 100, "idle": 100, "still": 7, "dead": 5}
    after = {"busy": 100 + SLICE_NS, "idle": 200, "still": 7}
    assert difference(before, after, SLICE_NS) == {"ns": SLICE_NS, "cpu_ns": {"busy": SLICE_NS}}


def test_the_limit_is_a_share_of_one_cpu() -> None:
    limit_ns = round(SLICE_NS * bystanders.LIMIT_SHARE)
    assert not disturbed(sample(0, "a@w", limit_ns))
    assert disturbed(sample(0, "a@w", limit_ns + 1))
    assert share(sample(0, "a@w", SLICE_NS // 2)) == 0.5


def test_what_stays_below_the_limit_is_evidence_all_the_same() -> None:
    samples = [sample(block, "a@w", SLICE_NS // 25) for block in range(3)]
    assert bystanders.evidence(samples) == "other servers 4.0% of a CPU"
    assert bystanders.evidence([sample(0, "a@w", SLICE_NS // 200)]) is None


def test_runs_of_earlier_versions_are_not_disturbed() -> None:
    assert not disturbed(sample(0, "a@w", None))
    assert account([sample(0, "a@w", None)]) is None


def plan() -> Plan:
    workload = Workload("w", 1, 1)
    return Plan("p", "", "a", tuple(Cell(Server("engine", name), workload) for name in "ab"))


def test_disturbed_slices_take_no_part_and_the_evidence_says_so() -> None:
    samples = [sample(block, "a@w", 0) for block in range(10)]
    # Where it was disturbed "b" read a tenth: nothing of that may show.
    samples += [
        sample(block, "b@w", SLICE_NS if block < 4 else 0, 100 if block < 4 else 2000)
        for block in range(10)
    ]
    (found,) = stats.summarise(plan(), samples)
    cells = {cell.server: cell for cell in found.cells}
    ratio = cells["b"].ratio
    assert ratio is not None
    assert (ratio.blocks, ratio.ratio) == (6, pytest.approx(2))
    assert cells["b"].slices == 6
    assert "4 of 10 slices do not count" in (cells["b"].limiter_evidence or "")
    assert "spinner with 100% of a CPU" in (cells["b"].limiter_evidence or "")
    assert "do not count" not in (cells["a"].limiter_evidence or "")
    base, cell = plan().cells
    (logs,) = stats.cell_logs(plan(), samples, [(base, cell)])
    assert len(logs) == 6


def test_a_cell_without_an_undisturbed_slice_has_no_number() -> None:
    samples = [sample(block, "a@w", 0) for block in range(3)]
    samples += [sample(block, "b@w", SLICE_NS) for block in range(3)]
    (found,) = stats.summarise(plan(), samples)
    cells = {cell.server: cell for cell in found.cells}
    assert (cells["b"].status, cells["b"].ratio) == (Status.INVALID, None)
    assert "another server: 3 of 3 slices" in (cells["b"].reason or "")


def test_a_process_clock_is_read_where_there_is_one() -> None:
    class Process:
        cpu_pids, cpu_usage = (os.getpid(),), None

    class Unknown:
        cpu_pids, cpu_usage = (), None

    assert (server_cpu_ns(Process()) or 0) > 0  # type: ignore[arg-type]
    assert server_cpu_ns(Unknown()) is None  # type: ignore[arg-type]


TRAP = """
schema_version = 1
name = "trap"
summary = "A kernel thread that spins for a minute after each of its slices."
[run]
baseline = "epoll"
budget_s = 60
min_blocks = 3
max_blocks = 3
slice_ms = 60
warmup_ms = 0
[servers]
list = ["engine:epoll", "engine:io_uring,sqpoll=on,sqpoll_idle=60000"]
[[workload]]
name = "w"
size = "1KiB"
connections = 2
"""


def test_a_spinning_sqpoll_thread_is_found_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from iolab.campaign import run_plan
    from iolab.lab import open_lab
    from iolab.paths import find_house
    from iolab.store import read_samples

    house = find_house()
    for binary in (house.server_binary, house.load_binary):
        if not os.access(binary, os.X_OK):
            pytest.skip(f"{binary.name} is not built: cmake --build build")
    monkeypatch.setenv("IOLAB_RESULTS", str(tmp_path))
    matrix = tmp_path / "trap.toml"
    matrix.write_text(TRAP)
    with open_lab() as lab:
        engine = lab.describe.engine("io_uring")
        if engine is None or engine.verdict is not None:
            pytest.skip(f"io_uring: {engine.verdict if engine else 'not in this build'}")
        result = run_plan(lab, lab.plan(str(matrix)))
    samples = read_samples(result.run_dir).samples
    spinner = "io_uring,sqpoll=on,sqpoll_idle=60000"
    # It spins from its own slice in the first block on; nobody else ever does.
    blamed = {
        name for one in samples if disturbed(one) for name in one.extra["bystanders"]["cpu_ns"]
    }
    assert spinner in blamed
    assert not any(disturbed(one) for one in samples if one.cell.startswith("io_uring"))
    said = [cell.reason or cell.limiter_evidence for s in result.summaries for cell in s.cells]
    assert any(text and "another server" in text and spinner in text for text in said)
