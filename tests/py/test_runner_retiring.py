"""Cells that are out: with which reason, and that all others are driven on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from fakestage import FakeSession, FakeStage
from stagedruns import LARGE, SMALL, measure, plan

from iolab import stats
from iolab.executor import ProcessError
from iolab.load import LoadSession, UnsupportedError
from iolab.model import Cell, Plan, Server, Status, Workload
from iolab.servers import RunningServer
from iolab.store import read_samples


def test_builds_are_driven_while_their_own_reference_is_fit(
    stage: FakeStage, tmp_path: Path
) -> None:
    servers = [Server("engine", name, build=build) for name in "ab" for build in ("old", "new")]
    cells = tuple(Cell(server, SMALL) for server in servers)
    chosen = Plan("p", "", "old/a", cells, baseline_build="old", min_blocks=2, max_blocks=3)
    stage.broken["old/a"] = "would not start"
    outcome = measure(stage, chosen, tmp_path)
    driven = {s.cell for s in read_samples(tmp_path).samples if s.status is Status.OK}
    assert driven == {"old/b@small", "new/b@small"}
    assert outcome.blocks == 3


def test_an_invalid_slice_retires_its_cell_and_no_other(stage: FakeStage, tmp_path: Path) -> None:
    def timeout(session: FakeSession, document: dict[str, Any]) -> None:
        if stage.label(session) == "b" and session.workload is LARGE:
            document["errors"]["timeout"] = 1

    stage.tamper = timeout
    chosen = plan("a", "b")
    measure(stage, chosen, tmp_path)
    samples = read_samples(tmp_path).samples
    bad = [sample for sample in samples if sample.status is not Status.OK]
    assert [(s.cell, s.block, s.status, s.reason) for s in bad] == [
        ("b@large", 0, Status.INVALID, "client saw 1 timeout")
    ]
    assert sum(sample.cell == "b@small" for sample in samples) == 3
    assert sum(sample.cell == "b@large" for sample in samples) == 1
    summaries = stats.summarise(chosen, samples)
    statuses = {cell.cell: cell.status for summary in summaries for cell in summary.cells}
    assert statuses.pop("b@large") is Status.INVALID
    assert set(statuses.values()) == {Status.OK}


def test_counts_that_differ_make_a_slice_invalid(stage: FakeStage, tmp_path: Path) -> None:
    def lose(session: FakeSession, document: dict[str, Any]) -> None:
        if stage.label(session) == "b":
            session.server.total["requests"] += 1  # type: ignore[operator]

    stage.tamper = lose
    measure(stage, plan("a", "b"), tmp_path)
    reasons = {s.reason for s in read_samples(tmp_path).samples if s.cell.startswith("b")}
    assert reasons == {"requests: client counted 10, server 11"}


def test_a_death_is_told_by_the_server_and_others_go_on(stage: FakeStage, tmp_path: Path) -> None:
    def die(session: FakeSession, document: dict[str, Any]) -> None:
        if stage.label(session) == "b":
            session.server.death = "the server died; its last words: SIGBUS"
            raise ProcessError("iolab-load: said nothing")

    stage.tamper = die
    measure(stage, plan("a", "b"), tmp_path)
    samples = read_samples(tmp_path).samples
    assert {s.reason for s in samples if s.status is Status.FAILED} == {
        "the server died; its last words: SIGBUS"
    }
    assert sum(s.cell.startswith("a@") for s in samples) == 6


def test_a_document_without_its_keys_fails_the_cell(stage: FakeStage, tmp_path: Path) -> None:
    def forget(session: FakeSession, document: dict[str, Any]) -> None:
        if stage.label(session) == "b":
            del document["errors"]

    stage.tamper = forget
    measure(stage, plan("a", "b"), tmp_path)
    reasons = {s.reason for s in read_samples(tmp_path).samples if s.cell.startswith("b")}
    assert reasons == {"the load generator's document lacks 'errors'"}


def test_a_document_that_statistics_could_not_read_fails_the_cell(
    stage: FakeStage, tmp_path: Path
) -> None:
    def forget(session: FakeSession, document: dict[str, Any]) -> None:
        if stage.label(session) == "b":
            del document["cpu"]

    stage.tamper = forget
    chosen = plan("a", "b")
    measure(stage, chosen, tmp_path)
    samples = read_samples(tmp_path).samples
    assert {s.reason for s in samples if s.cell.startswith("b")} == {
        "the load generator's document: no key 'load.cpu'"
    }
    # What a gate asks of every cell, failed or not.
    assert [stats.limiter_of(cell, samples) is None for cell in chosen.cells] == [
        cell.server.label == "b" for cell in chosen.cells
    ]


def test_what_is_out_from_the_start_is_stored_with_its_reason(
    stage: FakeStage, tmp_path: Path
) -> None:
    stage.broken = {"c": "c: did not become ready"}
    measure(stage, plan("a", "b", "c", "d", unsupported="d"), tmp_path)
    out = {
        s.cell: (s.status, s.reason)
        for s in read_samples(tmp_path).samples
        if s.status is not Status.OK
    }
    assert out == {
        "c@small": (Status.FAILED, "c: did not become ready"),
        "c@large": (Status.FAILED, "c: did not become ready"),
        "d@small": (Status.UNSUPPORTED, "not here"),
        "d@large": (Status.UNSUPPORTED, "not here"),
    }


def test_what_a_tool_cannot_do_here_is_unsupported_and_no_failure(
    stage: FakeStage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_load = stage.open_load

    def refuse_large(
        server: RunningServer, workloads: Sequence[Workload], seed: int
    ) -> LoadSession:
        if LARGE in workloads and server is stage.servers["b"]:
            raise UnsupportedError("not between these file systems")
        return open_load(server, workloads, seed)

    monkeypatch.setattr(stage, "open_load", refuse_large)
    measure(stage, plan("a", "b"), tmp_path)
    samples = read_samples(tmp_path).samples
    assert [(s.cell, s.status, s.reason) for s in samples if s.status is not Status.OK] == [
        ("b@large", Status.UNSUPPORTED, "not between these file systems")
    ]


def test_a_workload_without_its_baseline_is_not_driven_on(stage: FakeStage, tmp_path: Path) -> None:
    def fail(session: FakeSession, document: dict[str, Any]) -> None:
        if stage.label(session) == "a" and session.workload is SMALL:
            document["non_2xx"] = 1

    stage.tamper = fail
    measure(stage, plan("a", "b"), tmp_path)
    samples = read_samples(tmp_path).samples
    assert max(s.block for s in samples if s.cell == "b@small") == 0
    assert max(s.block for s in samples if s.cell == "b@large") == 2
