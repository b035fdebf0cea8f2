"""What each engine counts of its own system calls is what the kernel's tracepoints see of it."""

from __future__ import annotations

import os
from typing import Any

import pytest

from iolab import store
from iolab.campaign import run_plan
from iolab.executor import HostExecutor
from iolab.lab import open_lab
from iolab.paths import find_house
from iolab.syscallcheck import mounted_tracefs, why_not

MATRIX = """
schema_version = 1
name = "traced"
summary = "Every engine, small bodies and such as take several moves."
[run]
baseline = "epoll"
budget_s = 1
min_blocks = 1
max_blocks = 1
slice_ms = 100
warmup_ms = 0
syscall_check = true
[servers]
list = ["engine:*"]
[[workload]]
name = "1KiB"
size = "1KiB"
connections = 4
[[workload]]
name = "256KiB"
size = "256KiB"
connections = 4
"""
# The slice's ends: threads that wait when it begins are in a call that was not seen to begin, and
# reading the counters is itself a handful of calls.
_ENDS = 50


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """The lines of syscalls.jsonl of a run of all engines."""
    house = find_house()
    for binary in (house.server_binary, house.load_binary):
        if not os.access(binary, os.X_OK):
            pytest.skip(f"{binary.name} is not built: cmake --build build")
    with HostExecutor() as executor, mounted_tracefs(executor):
        reason = why_not(executor)
        if reason is not None:
            pytest.skip(reason)
    place = tmp_path_factory.mktemp("traced")
    (place / "traced.toml").write_text(MATRIX)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("IOLAB_RESULTS", str(place))
        with open_lab() as lab:
            result = run_plan(lab, lab.plan(str(place / "traced.toml")))
    return list(store.read_jsonl(result.run_dir / store.SYSCALLS))


def test_every_engine_counts_what_the_kernel_sees(records: list[dict[str, Any]]) -> None:
    assert len(records) >= 4  # the baseline and its twin at two sizes, and what else runs here
    wrong = {}
    for record in records:
        assert record["status"] == "ok", record
        assert record["requests"] > 0
        traced = record["traced"]["total"]
        counted = sum(record["server_counters"]["syscalls"].values())
        if abs(traced - counted) > _ENDS + 0.02 * traced:
            wrong[record["cell"]] = (traced, counted, record["requests"])
    assert not wrong, "traced, counted, requests"


def test_switches_of_the_same_slice_stand_beside(records: list[dict[str, Any]]) -> None:
    assert all(record["switches"]["threads"] >= 1 for record in records)
