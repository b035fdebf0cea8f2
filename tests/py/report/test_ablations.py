"""The report of a run with profiles: its groups, its knobs, and what this host did not set."""

from __future__ import annotations

import json
import math
import random
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from synthetic import load_document, make_manifest

from iolab import store
from iolab.model import Cell, Plan, Sample, Server, Status, Workload
from iolab.report import write_report

SPEED = {"base": 1.0, "fast": 1.4, "fast~nic.offloads.gro": 1.0, "fast~sysctl.net.x": 1.4}
LACKING = "fast~cpu.governor"
LOAD = Workload("16KiB", 16 << 10, 50)


def plan() -> Plan:
    cells = tuple(
        Cell(Server("engine", name), LOAD, profile, "netns")
        for profile in (*SPEED, LACKING)
        for name in ("epoll", "sendfile")
    )
    return Plan(
        "tuned", "Profiles.", "epoll", cells, testbed="netns", baseline_profile="base",
        partial=True,
    )  # fmt: skip


def knob(name: str, outcome: str, reason: str = "") -> dict[str, str | None]:
    return {"knob": name, "requested": "1", "original": "0", "effective": "1",
            "outcome": outcome, "reason": reason}  # fmt: skip


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the report."""
    run_dir = tmp_path_factory.mktemp("results") / "20260102-101112-tuned"
    run_dir.mkdir()
    knobs = [knob("somaxconn", "exact"), knob("governor", "unavailable", "no cpufreq <here>")]
    profiles = [{"profile": "fast", "testbed": "netns", "scope": "host", "knobs": knobs}]
    manifest = make_manifest(plan(), run_dir.name, profiles=profiles, testbed="netns")
    store.write_json(run_dir / store.MANIFEST, manifest)
    rng = random.Random(3)
    with store.SampleWriter(run_dir) as writer:
        for block in range(20):
            for place, cell in enumerate(plan().cells):
                writer.append(sample(block, place, cell, rng))
            writer.end_block(block, wall_ns=1)
    return write_report(run_dir).parent


def sample(block: int, place: int, cell: Cell, rng: random.Random) -> Sample:
    if cell.profile == LACKING:
        reason = "cpu.governor changes nothing here"
        return Sample(block, -1, cell.id, Status.UNSUPPORTED, reason, 1, 0)
    rate = 40e3 * SPEED[cell.profile] * math.exp(rng.gauss(0, 0.02))
    load = load_document(rate, LOAD.size_bytes, 0.97, 0.5, rng)
    return Sample(block, place, cell.id, Status.OK, None, 1 + block, 1, load)


def test_each_server_is_a_group_of_its_own(report: Path) -> None:
    summary = json.loads((report / "summary.json").read_text())
    names = [workload["name"] for workload in summary["workloads"]]
    assert names == ["16KiB, epoll:base", "16KiB, sendfile:base"]
    for workload in summary["workloads"]:
        leaders = {workload["leader"], *workload["tied"]}
        server = workload["name"].split(", ")[1].split(":")[0]
        assert f"{server}:fast" in leaders
        assert f"{server}:base" not in leaders


def test_the_page_says_which_knob_carries_the_effect(report: Path) -> None:
    page = (report / "index.html").read_text()
    section = page[page.index('id="ablation"') : page.index('id="profiles"')]
    rows = [row for row in section.split("<tr") if "nic.offloads.gro" in row]
    assert len(rows) == 2
    assert all("<b>helps</b>" in row for row in rows)
    idle = [row for row in section.split("<tr") if "sysctl.net.x" in row]
    assert all("no effect shown" in row for row in idle)
    assert section.count("unsupported: cpu.governor changes nothing here") == 2


def test_the_chart_of_an_ablation_has_a_row_for_each_knob(report: Path) -> None:
    for number in (1, 2):
        ET.parse(report / f"ablation-{number}.svg")
        table = (report / "data" / f"ablation-{number}.tsv").read_text()
        assert "nic.offloads.gro" in table
        assert "cpu.governor" not in table
    assert "ablation-2.svg" in (report / "index.html").read_text()


def test_what_a_profile_did_not_set_is_said(report: Path) -> None:
    page = (report / "index.html").read_text()
    section = page[page.index('id="profiles"') : page.index('id="trust"')]
    assert "no cpufreq &lt;here&gt;" in section
    assert "governor" in section
