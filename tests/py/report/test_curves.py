"""Latency against load in the report: the chart's rows, the table, and what a curve leaves out."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from synthetic import histogram, load_document, make_manifest

from iolab import export, store
from iolab.histogram import SCHEME
from iolab.model import Cell, Plan, Sample, Server, Status, Workload
from iolab.report import hdrlog, write_report
from iolab.report.build import build
from iolab.report.curves import curve_chart
from iolab.report.run import load

RATES = (1000.0, 5000.0, 9000.0)
LATE = "<late>"


def make_plan(closed: bool) -> Plan:
    shape = Workload("1KiB", 1024, 50)
    offered = [
        replace(shape, name=f"1KiB-load{rate / 1e4:g}", load=rate / 1e4, rate_per_s=rate)
        for rate in RATES
    ]
    servers = [Server("engine", name) for name in ("base", "quick", LATE)]
    loads = [shape, *offered] if closed else offered
    return Plan("curves", "", "base", tuple(Cell(s, load) for load in loads for s in servers))


def open_document(cell: Cell, rng: random.Random) -> dict[str, Any]:
    """`quick` is never saturated, `base` at 9,000, and the client is late where it drives LATE.

    At 5,000 `quick` left 3% unsent, through a stall and not for want of speed.
    """
    rate = cell.workload.rate_per_s
    slow = cell.server.name == "base" and rate == 9000
    stalled = cell.server.name == "quick" and rate == 5000
    document = load_document(rate, 1024, 0.4, 0.4, rng)
    values = [round(50_000 + rate * rng.uniform(1, 3)) for _ in range(100)]
    return document | {
        "closed_loop": False,
        "latency": histogram(values) | {"kind": "open loop, from the intended send time"},
        "open_loop": {
            "rate_per_s": rate, "due": document["window"]["requests"], "unsent": 9 * slow,
            "outstanding": 0, "abandoned": 5 * slow + 3 * stalled, "overload": slow,
            "lateness": histogram([45_000 if cell.server.name == LATE else 500] * 100),
        },
    }  # fmt: skip


def write_run(results: Path, closed: bool) -> Path:
    plan = make_plan(closed)
    directory = results / "20260102-101112-curves"
    directory.mkdir()
    store.write_json(directory / store.MANIFEST, make_manifest(plan, directory.name))
    rng = random.Random(4)
    with store.SampleWriter(directory) as writer:
        for block in range(8):
            for order, cell in enumerate(plan.cells):
                document = load_document(8000 * rng.uniform(0.98, 1.02), 1024, 0.99, 0.4, rng)
                if cell.workload.open_loop:
                    document = open_document(cell, rng)
                at_ns = block * 10**9
                writer.append(
                    Sample(block, order, cell.id, Status.OK, None, at_ns, 10**8, document)
                )
            writer.end_block(block, wall_ns=1)
    return directory


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    return write_run(tmp_path, closed=True)


def test_a_chart_has_the_points_below_saturation(run_dir: Path) -> None:
    chart = curve_chart(build(load(run_dir)), 0)
    assert chart is not None
    rates = {}
    for row in chart.table:
        rates.setdefault((row[4], row[3]), []).append(round(float(row[5] or 0), -2))
    assert set(rates) == {(q, s) for q in ("p50", "p99", "p99.9") for s in ("base", "quick", LATE)}
    assert rates["p99", "quick"] == list(RATES)
    assert rates["p99", "base"] == list(RATES[:2])
    assert [row[0] for row in chart.table] == sorted(row[0] for row in chart.table)


def test_exports_have_what_an_open_loops_latency_needs(run_dir: Path) -> None:
    run = load(run_dir)
    table = export.rows(run)
    (overloaded,) = {row["cell"] for row in table if row.get("overload")}
    assert str(overloaded).startswith("base@")
    row = next(row for row in table if row["cell"] == overloaded)
    assert (row["rate_per_s"], row["unsent"], row["abandoned"]) == (9000, 9, 5)
    assert row["due"] == row["requests"]
    late = next(row for row in table if row["server"] == LATE and row.get("rate_per_s"))
    assert late["lateness_max_ns"] == 45_000
    closed = next(row for row in table if row["workload"] == run.plan.workloads[0].name)
    assert closed.get("rate_per_s") is None
    kinds = {bool(row.get("rate_per_s")): row["latency_kind"] for row in table}
    assert kinds == {
        False: "closed loop, service time",
        True: "open loop, from the intended send time",
    }
    assert set(row) <= set(export.columns(table))
    metrics = export.to_openmetrics(run).splitlines()
    ratios = [line for line in metrics if line.startswith("iolab_ratio{")]
    assert ratios
    assert not [line for line in ratios if "-load" in line]
    limited = [line for line in metrics if line.startswith("iolab_client_limited{")]
    assert {line[-1] for line in limited} <= {"0", "1"}
    assert len(limited) == len([line for line in metrics if line.startswith("iolab_cell_ok")])


def test_the_log_of_latencies_counts_what_counts(run_dir: Path) -> None:
    run = load(run_dir)
    samples = []
    for sample in run.samples:
        document = sample.load or {}
        latency = document["latency"] | {"scheme": SCHEME, "sub_bucket_bits": 7}
        samples.append(replace(sample, load=document | {"latency": latency}))
    whole = hdrlog.log(run.plan, samples)
    assert whole is not None
    assert f"#[base@{run.plan.workloads[-1].name}: 40 of " in whole
    assert f"#[base@{run.plan.workloads[0].name}: closed loop, service time]" in whole
    assert f"#[base@{run.plan.workloads[-1].name}: open loop, from the intended send" in whole
    disturbed = []
    for sample in samples:
        busy = {"bystanders": {"ns": 100, "cpu_ns": {"other": 50}}} if sample.block == 3 else {}
        disturbed.append(replace(sample, extra=sample.extra | busy))
    less = [sample for sample in samples if sample.block != 3]
    assert hdrlog.log(run.plan, disturbed) == hdrlog.log(run.plan, less) != whole


def test_servers_that_no_rate_saturated_are_named(run_dir: Path) -> None:
    chart = curve_chart(build(load(run_dir)), 0)
    assert chart is not None
    assert "Not saturated by the highest rate: quick; " in chart.subtitle
    assert "base" not in chart.subtitle


def test_a_line_is_broken_where_the_percentile_is_unknown(run_dir: Path) -> None:
    chart = curve_chart(build(load(run_dir)), 0)
    assert chart is not None
    lines = {q: [row[1] for row in chart.table if row[3:5] == ("quick", q)] for q in ("p50", "p99")}
    assert lines["p50"] == [1, 1, 1]
    assert lines["p99"] == [1, 1, 2]
    assert {row[1] for row in chart.table} <= {int(name) for name in chart.rows}


def test_points_that_the_client_limits_are_hollow(run_dir: Path) -> None:
    view = build(load(run_dir))
    chart = curve_chart(view, 0)
    assert chart is not None
    markers = {(row[3], row[11]) for row in chart.table}
    assert (LATE, view.styles[LATE].hollow) in markers
    assert ("quick", view.styles["quick"].filled) in markers
    assert len(markers) == 3


def test_open_loops_are_ranked_nowhere(run_dir: Path) -> None:
    view = build(load(run_dir))
    assert [workload.name for workload in view.workloads] == ["1KiB"]
    assert not any("Closed loop at saturation" in text for text in view.limitations)


def test_the_page_has_chart_table_and_summary(run_dir: Path) -> None:
    folder = write_report(run_dir).parent
    page = (folder / "index.html").read_text()
    assert "Latency against load" in page
    assert page.count("data-point=") == 9
    assert page.count("saturated</span>") == 1
    assert page.count('class="tag">client-limited') == 3
    assert "40 never sent" in page
    assert "<late>" not in page
    assert "nan" not in page.lower().replace("nano", "")
    assert (folder / "curve-1.svg").stat().st_size > 1000
    summary = json.loads((folder / "summary.json").read_text())
    (curves,) = summary["curves"]
    assert [curve["server"] for curve in curves["curves"]] == ["base", "quick", LATE]


def test_a_run_of_open_loops_alone_has_a_report(tmp_path: Path) -> None:
    page = write_report(write_run(tmp_path, closed=False)).read_text()
    assert page.count("data-point=") == 9
