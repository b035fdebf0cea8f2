"""Stored lines of real runs, each member removed in turn, or null: read, or refused by name."""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from realruns import KINDS

from iolab import compare, control, curve, export, stats, store, syscallcheck, verdict
from iolab.model import Status
from iolab.report import hdrlog
from iolab.report.build import build
from iolab.report.run import load

Place = tuple[str, ...]


def members(document: dict[str, Any], above: Place = ()) -> Iterator[Place]:
    """The places of all members; of tables of counters, that of the first stands for all."""
    counters = above[:1] in (("kernel",), ("server_counters",)) and len(above) > 1
    for key, value in list(document.items())[: 1 if counters else None]:
        yield (*above, key)
        if isinstance(value, dict):
            yield from members(value, (*above, key))


def without(document: dict[str, Any], place: Place) -> dict[str, Any]:
    changed = copy.deepcopy(document)
    del table(changed, place)[place[-1]]
    return changed


def with_null(document: dict[str, Any], place: Place) -> dict[str, Any]:
    changed = copy.deepcopy(document)
    table(changed, place)[place[-1]] = None
    return changed


def table(document: dict[str, Any], place: Place) -> dict[str, Any]:
    for key in place[:-1]:
        document = document[key]
    return document


def read_all(run_dir: Path) -> None:
    """All that is ever made of a stored run, but drawing it."""
    run = load(run_dir)
    summaries = stats.summarise(run.plan, run.samples)
    stats.summarise(run.plan, run.samples, syscallcheck.futexes_per_sleep(run.syscalls))
    curve.curve_sets(run.plan, stats.counted_samples(run.plan, run.samples), summaries)
    control.lacking(run.plan, run.samples)
    measured = compare.Measured(run.name, run.plan, run.samples)
    verdict.judge(compare.against_references(measured))
    for cell in run.plan.cells:
        measured.capped(cell)
    export.to_csv(run)
    export.to_openmetrics(run)
    hdrlog.log(run.plan, run.samples)
    build(run)


def copied(run_dir: Path, place: Path) -> Path:
    shutil.copytree(run_dir, place, ignore=shutil.ignore_patterns("report"))
    read_all(place)  # as it was written, it is read
    return place


CHANGES = [pytest.param(without, id="removed"), pytest.param(with_null, id="null")]


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("kind", KINDS)
def test_a_slice_that_lacks_a_member_is_read_or_named_with_its_line(
    real_run: Callable[[str], Path],
    tmp_path: Path,
    kind: str,
    change: Callable[[dict[str, Any], Place], dict[str, Any]],
) -> None:
    run_dir = copied(real_run(kind), tmp_path / "run")
    refused = fuzz(run_dir, store.SAMPLES, change)
    # What no slice can do without, whatever it measured.
    assert refused >= {
        (key,) for key in ("schema_version", "block", "cell", "status", "started_unix_ns")
    }
    assert refused >= {
        ("load", "window"), ("load", "window", "ns"), ("load", "window", "body_bytes"),
        ("load", "cpu"), ("load", "cpu", "client_ns"), ("load", "cpu", "client_share"),
        ("kernel", "ns"), ("kernel", "tick_ns"), ("bystanders", "ns"), ("bystanders", "cpu_ns"),
    }  # fmt: skip
    if kind == "open":
        offered = ("load", "open_loop")
        assert refused >= {
            ("load", "latency"), ("load", "latency", "counts"), ("load", "latency", "min"),
            (*offered, "due"), (*offered, "abandoned"), (*offered, "overload"),
            (*offered, "lateness"), (*offered, "lateness", "counts"), (*offered, "backlog_end"),
        }  # fmt: skip


@pytest.mark.parametrize("change", CHANGES)
def test_a_record_of_wrk_that_lacks_a_member_is_read_or_named_with_its_line(
    real_run: Callable[[str], Path],
    tmp_path: Path,
    change: Callable[[dict[str, Any], Place], dict[str, Any]],
) -> None:
    refused = fuzz(copied(real_run("wrk"), tmp_path / "run"), store.WRK, change)
    assert ("schema_version",) in refused


@pytest.mark.parametrize("change", CHANGES)
def test_a_count_of_system_calls_that_lacks_a_member_is_read_or_named_with_its_line(
    real_run: Callable[[str], Path],
    tmp_path: Path,
    change: Callable[[dict[str, Any], Place], dict[str, Any]],
) -> None:
    run_dir = copied(real_run("closed"), tmp_path / "run")
    if not (run_dir / store.SYSCALLS).exists():
        pytest.skip("no system call was counted here: see `left_out` of the run's manifest")
    assert ("traced", "total") in fuzz(run_dir, store.SYSCALLS, change)


def fuzz(
    run_dir: Path, name: str, change: Callable[[dict[str, Any], Place], dict[str, Any]]
) -> set[Place]:
    """Changes each member of a line in turn; those for which the line is refused, by its name.

    The line is the first that is ok. Any other outcome than being read or refused is an error.
    """
    path = run_dir / name
    whole = path.read_text()
    lines = whole.splitlines()
    at = next(n for n, line in enumerate(lines) if json.loads(line).get("status") == Status.OK)
    document = json.loads(lines[at])
    refused = set()
    for place in members(document):
        changed = json.dumps(change(document, place))
        path.write_text("\n".join([*lines[:at], changed, *lines[at + 1 :]]) + "\n")
        try:
            read_all(run_dir)
        except store.StoreError as error:
            named = str(error)
            refused.add(place)
        except Exception as error:
            raise AssertionError(f"{'.'.join(place)}: {error!r}") from error
        else:
            continue
        assert named.startswith(f"{path}:{at + 1}: "), place
    path.write_text(whole)
    return refused
