"""The report as a whole: written from stored runs, read back as text."""

from __future__ import annotations

import json
import random
import re
import shutil
import xml.etree.ElementTree as ET
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from synthetic import Synthetic, load_document, make_manifest, make_plan

from iolab import stats, store
from iolab.model import Cell, CopyLoad, Plan, Sample, Server, Status, Workload
from iolab.report import ReportError, fmt, summarise_run, write_readme_picture, write_report
from iolab.report.build import build, headline
from iolab.report.run import load
from iolab.report.view import CellView, Estimate, ZeroCopy

CHARTS = ("ratio", "throughput", "cost", "drift", "latency")


class Page(HTMLParser):
    """The page's tags, attributes and text; `cells` maps a cell id to its row's text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.cells: dict[str, str] = {}
        self.evidence: dict[str, str] = {}
        self._row: str | None = None
        self._evidence: str | None = None
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag == "tr":
            self._row = dict(attrs).get("data-cell")
            self._evidence = dict(attrs).get("data-evidence")

    def handle_data(self, data: str) -> None:
        self.text.append(data)
        if self._row is not None:
            self.cells[self._row] = self.cells.get(self._row, "") + data
        if self._evidence is not None:
            self.evidence[self._evidence] = self.evidence.get(self._evidence, "") + data + " "


@pytest.fixture(scope="session")
def page(report_dir: Path) -> Page:
    return Page((report_dir / "index.html").read_text(encoding="utf-8"))


def summaries(run_dir: Path) -> dict[str, stats.CellSummary]:
    """The verdicts of the statistics module, without the control engine the report sets apart."""
    run = load(run_dir)
    return {c.cell: c for w in stats.summarise(run.plan, run.samples) for c in w.cells}


def test_every_cell_of_the_plan_is_published(run_dir: Path, page: Page) -> None:
    assert set(page.cells) == {cell.id for cell in load(run_dir).plan.cells}


def test_no_missing_number_reaches_the_page(page: Page, report_dir: Path) -> None:
    text = "".join(page.text)
    assert not re.search(r"\b(nan|NaN|inf|None|Undefined)\b", text)
    json.loads((report_dir / "summary.json").read_text(), parse_constant=pytest.fail)


def test_numbers_are_those_of_the_statistics_module(run_dir: Path, page: Page) -> None:
    for cell, summary in summaries(run_dir).items():
        if summary.ratio is None or summary.server == "nginx":
            continue
        shown = page.cells[cell]
        assert f"{fmt.ratio(summary.ratio.ratio)} [" in shown
        assert f"[{fmt.interval(summary.ratio.low, summary.ratio.high)}]" in shown
        assert summary.total_cpu_ratio is not None
        assert fmt.interval(summary.total_cpu_ratio.low, summary.total_cpu_ratio.high) in shown
        assert fmt.significant(summary.units_per_s, 4) in shown


def test_ranks_are_those_of_the_statistics_module_without_controls(run_dir: Path) -> None:
    plan = make_plan()
    without = [cell for cell in plan.cells if cell.server.name != "null"]
    run = load(run_dir)
    expected = {
        cell.cell: cell.rank
        for workload in stats.summarise(
            type(plan)(**{**vars(plan), "cells": tuple(without)}),
            [s for s in run.samples if not s.cell.startswith("null@")],
        )
        for cell in workload.cells
    }
    view = build(run)
    shown = {c.cell: c.rank for w in view.workloads for c in w.cells if c.server != "null"}
    assert shown == expected
    assert all(c.rank is None for w in view.workloads for c in w.cells if c.server == "null")


def test_verdict_names_leaders_and_ties(report_dir: Path) -> None:
    document = json.loads((report_dir / "summary.json").read_text())
    leaders = {w["name"]: (w["leader"], set(w["tied"])) for w in document["workloads"]}
    assert leaders["128KiB"] == ("sendfile", set())
    pair = {"io_uring,cache=memory", "epoll,cache=memory"}
    assert {leaders["16KiB"][0]} | leaders["16KiB"][1] == pair
    assert leaders["1KiB"][0] == "io_uring,cache=memory"  # its rival is client-limited
    assert leaders["16MiB"][0] == "nginx"


def test_cells_without_a_number_say_why(page: Page) -> None:
    text = "".join(page.text)
    assert "failed" in page.cells["splice@1KiB"]
    assert "invalid" in page.cells["mmap@16MiB"]
    assert "unsupported" in page.cells["io_uring_zc@1KiB"]
    for reason in ("server ended: ", "client counted 1020, server 1019", "needs Linux 6.0"):
        assert text.count(reason) >= 2  # in the ranking and in the list of cells without a number


def test_client_limited_cells_are_hatched_and_unranked(page: Page, report_dir: Path) -> None:
    assert "limited" in next(
        str(attrs.get("class"))
        for tag, attrs in page.tags
        if attrs.get("data-cell") == "epoll,cache=memory@1KiB"
    )
    assert "gpPat" in (report_dir / "ratio.svg").read_text(encoding="utf-8")


def test_copied_zero_copy_bars_the_claim(page: Page) -> None:
    assert "100%" in page.cells["msg_zerocopy@1MiB"]
    assert "No zero-copy claim" in "".join(page.text)


def test_evidence_beside_each_cell_that_asked_for_zero_copy(page: Page, run_dir: Path) -> None:
    asked = {c.id for c in load(run_dir).plan.cells if c.server.name == "msg_zerocopy"}
    assert set(page.evidence) == asked
    row = page.evidence["msg_zerocopy@1MiB"].split()
    sends, asking, notified, copied = row[1:5]
    assert sends == asking == notified
    assert copied == "100%"
    assert row[5:] == ["3MiB", "25.0", "\N{MICRO SIGN}s", "4.00", "ms", "copied"]


def test_no_claim_beside_a_cell_whose_notifications_say_copied(page: Page) -> None:
    rows = [*page.evidence.values(), *(page.cells[cell] for cell in page.evidence)]
    assert rows
    assert not [
        row for row in rows if re.search("zero.copy", row.replace("msg_zerocopy", ""), re.I)
    ]


@pytest.mark.parametrize(
    ("sends", "notified", "copied", "waived", "verdict"),
    [
        (10, 10, 10, 0, "copied"),
        (10, 4, 4, 0, "copied"),
        (10, 10, 1, 0, "partly copied"),
        (10, 10, 0, 3, "partly copied"),
        (10, 0, 0, 0, "unknown: no notification"),
        (10, 8, 0, 0, "zero-copy so far"),
        (10, 10, 0, 0, "zero-copy"),
    ],
)
def test_the_claim_is_what_no_notification_denies(
    sends: int, notified: int, copied: int, waived: int, verdict: str
) -> None:
    assert ZeroCopy(sends, notified, copied, waived=waived).verdict == verdict


def test_markup_in_names_and_reasons_is_escaped(report_dir: Path, page: Page) -> None:
    text = (report_dir / "index.html").read_text(encoding="utf-8")
    assert "<script" not in text
    assert "<here>" not in text
    assert "<tm>" not in text
    assert "<script>alert(1)</script>" in "".join(page.text)


def test_page_works_offline(page: Page, report_dir: Path) -> None:
    for tag, attrs in page.tags:
        assert tag not in ("script", "link", "iframe")
        target = attrs.get("src") or attrs.get("href")
        if target is None or target.startswith("#"):
            continue
        assert "://" not in target
        assert (report_dir / target).exists(), target


def test_charts_are_well_formed_and_their_numbers_stand_beside(report_dir: Path) -> None:
    for name in CHARTS:
        root = ET.parse(report_dir / f"{name}.svg").getroot()
        words = " ".join("".join(e.itertext()) for e in root.iter() if e.tag.endswith("text"))
        assert root.get("role") == "img"
        assert "prefers-color-scheme" in (report_dir / f"{name}.svg").read_text(encoding="utf-8")
        assert "iolab run" in words
        lines = (report_dir / "data" / f"{name}.tsv").read_text(encoding="utf-8").splitlines()
        width = len(lines[0].split("\t"))
        assert all(len(line.split("\t")) == width for line in lines)


def test_ratio_chart_names_every_server_once(report_dir: Path, run_dir: Path) -> None:
    root = ET.parse(report_dir / "ratio.svg").getroot()
    words = ["".join(e.itertext()).strip() for e in root.iter() if e.tag.endswith("text")]
    for server in load(run_dir).plan.servers:
        assert words.count(server.label) == 1


def test_a_report_is_rewritten_in_place(run_dir: Path, report_dir: Path) -> None:
    (report_dir / "stale").touch()
    before = (report_dir / "data" / "ratio.tsv").read_text()
    write_report(run_dir)
    assert not (report_dir / "stale").exists()
    assert (report_dir / "data" / "ratio.tsv").read_text() == before
    assert not list(run_dir.glob(".report-*"))


def test_run_without_wrk(tmp_path: Path) -> None:
    run = Synthetic(plan=make_plan(4, 2), nr_blocks=7, wrk=False, failed=(), invalid=())
    text = write_report(run.write(tmp_path)).read_text(encoding="utf-8")
    assert "no wrk measurement" in text


def test_run_with_a_single_block_says_how_little_it_knows(tmp_path: Path) -> None:
    run = Synthetic(plan=make_plan(4, 2), nr_blocks=1, client_limited=())
    page = Page(write_report(run.write(tmp_path)).read_text(encoding="utf-8"))
    text = "".join(page.text)
    assert "Fewer than 6 cannot give a 95% interval" in text
    assert re.search(r"say nothing at \S+ and 1 others: 1 blocks tell no two of \d apart", text)
    assert not re.search(r"\b(nan|inf)\b", text, re.IGNORECASE)
    assert set(page.cells) == {cell.id for cell in run.plan.cells}


def run_name(results: Path) -> str:
    """The only run under `results`."""
    (run,) = results.iterdir()
    return run.name


def test_baseline_that_failed_leaves_no_ranking(tmp_path: Path) -> None:
    run = Synthetic(plan=make_plan(4, 1), nr_blocks=8, failed=("nginx@1KiB",))
    text = write_report(run.write(tmp_path)).read_text(encoding="utf-8")
    assert "no ranking: the baseline nginx has no number" in text
    (workload,) = json.loads((tmp_path / run_name(tmp_path) / "report/summary.json").read_text())[
        "workloads"
    ]
    assert workload["leader"] is None
    assert all(c["rank"] is None and c["ratio"] is None for c in workload["cells"])


def test_manifest_of_bare_essentials(tmp_path: Path) -> None:
    run_dir = Synthetic(plan=make_plan(3, 1), nr_blocks=6, invalid=(), failed=()).write(tmp_path)
    document = store.read_manifest(run_dir)
    kept = {key: document[key] for key in ("schema_version", "plan")}
    store.write_json(run_dir / store.MANIFEST, kept)
    assert "not recorded" in write_report(run_dir).read_text(encoding="utf-8")


def test_empty_run_is_a_clear_error(tmp_path: Path) -> None:
    run_dir = tmp_path / "20260102-101112-synthetic"
    run_dir.mkdir()
    store.write_json(run_dir / store.MANIFEST, make_manifest(make_plan(2, 1), run_dir.name))
    with pytest.raises(ReportError, match="no finished block") as caught:
        write_report(run_dir)
    assert "--resume" in str(caught.value)
    assert not (run_dir / "report").exists()


def test_names_cannot_reach_the_shell_or_break_the_script(tmp_path: Path) -> None:
    trap = f"`touch {tmp_path}/trapped` 'it''s' \"x\" \\n"
    run = Synthetic(plan=make_plan(3, 1), nr_blocks=6, invalid=(), failed=())
    run_dir = run.write(tmp_path / "results")
    document = store.read_manifest(run_dir)
    document["host"]["cpu"]["model"] = trap
    store.write_json(run_dir / store.MANIFEST, document)
    folder = write_report(run_dir).parent
    assert not (tmp_path / "trapped").exists()
    ET.parse(folder / "ratio.svg")


def test_readme_picture(run_dir: Path, tmp_path: Path) -> None:
    out = write_readme_picture(run_dir, tmp_path / "picture.svg")
    words = "".join(ET.parse(out).getroot().itertext())
    assert "Requests per second as a ratio to nginx" in words


def test_self_control_of_the_baseline_is_printed(page: Page) -> None:
    assert "nginx against itself at 1KiB" in page.text


def test_cross_check_rows(run_dir: Path) -> None:
    rows = {(row.workload, row.server): row for row in build(load(run_dir)).wrk}
    assert rows["128KiB", "sendfile"].note == "agrees"
    assert rows["128KiB", "nginx"].note == "baseline"
    assert rows["128KiB", "sendfile"].pairs == 2


@pytest.mark.parametrize("as_json", [False, True])
def test_verb(run_dir: Path, as_json: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    from iolab.commands.report import report

    monkeypatch.setenv("IOLAB_RESULTS", str(run_dir.parent))
    arguments = ["--json", run_dir.name] if as_json else ["last"]
    result = CliRunner().invoke(report, arguments)
    assert result.exit_code == 0, result.output
    if as_json:
        document: dict[str, Any] = json.loads(result.stdout)
        assert document["baseline"] == "nginx"
        assert document == json.loads(json.dumps(summarise_run(run_dir)))
    else:
        assert Path(result.stdout.strip()) == run_dir / "report" / "index.html"


def test_missing_gnuplot_is_a_clear_error(
    run_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from iolab.report.gnuplot import GnuplotError

    copy = tmp_path / run_dir.name
    shutil.copytree(run_dir, copy, ignore=shutil.ignore_patterns("report", ".report-*"))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(GnuplotError, match="gnuplot"):
        write_report(copy)
    assert not list(copy.glob(".report-*"))


def test_synthetic_slices_are_what_the_harness_accepts() -> None:
    import random

    document = load_document(1000.0, 1024, 0.9, 0.5, random.Random(1))
    assert stats.judge_slice(document, None) is None


def write_streams(results: Path) -> Path:
    """A run of role forward: two engines and one that has no such role, eight blocks."""
    workload = Workload("16-pairs", 0, pairs=16, direction="both")
    servers = (
        Server("peer", "haproxy"),
        Server("engine", "splice"),
        Server("engine", "mmap", (), "it does not play role forward"),
    )
    cells = tuple(Cell(server, workload) for server in servers)
    plan = Plan("streams", "Streams.", "haproxy", cells, role="forward", memory_limit_bytes=1 << 30)
    run_dir = results / "20260102-101112-streams"
    run_dir.mkdir(parents=True)
    store.write_json(run_dir / store.MANIFEST, make_manifest(plan, run_dir.name))
    rng = random.Random(3)
    with store.SampleWriter(run_dir) as writer:
        for block in range(8):
            for order, cell in enumerate(cells[:2]):
                fast = cell.server.kind == "engine"
                rate = (3 if fast else 2) * rng.uniform(0.95, 1.05)
                load = load_document(rate, 1 << 30, 0.5 if fast else 1.0, 0.5, rng)
                load |= {"mode": "forward", "pairs": 16}
                relayed = {"relayed_bytes": 1 << 29, "syscalls": {"splice": 5500, "wait": 10}}
                memory = {"resident_peak_bytes": (3 << 20) + block, "group_peak_bytes": 5 << 20}
                extra = {"memory": memory | ({"pipe_bytes": 1 << 18} if fast else {})}
                writer.append(
                    Sample(block, order, cell.id, Status.OK, None, block * 10**9, 10**8, load,
                           relayed if fast else None, extra)
                )  # fmt: skip
            writer.end_block(block, wall_ns=1)
    return run_dir


def test_a_run_of_streams_is_told_in_gib(tmp_path: Path) -> None:
    run_dir = write_streams(tmp_path)
    text = write_report(run_dir).read_text(encoding="utf-8")
    page = Page(text)
    shown = " ".join(" ".join(page.text).split())
    assert "endless, 16 pairs, both ways at once; 8 blocks; CPU time in s per GiB" in shown
    assert "Requests/s" not in shown
    assert "GiB per second as a ratio to haproxy" in (run_dir / "report" / "ratio.gp").read_text(
        encoding="utf-8"
    )
    splice = page.cells["splice@16-pairs"]
    for words in ("1.49 [", "3.0MiB", "pipes 256KiB", "11,020"):
        assert words in splice
    assert "it does not play role forward" in page.cells["mmap@16-pairs"]
    assert "wrk asks for files, not for streams" in shown
    view = build(load(run_dir))
    cell = view.workloads[0].cell("splice")
    assert cell is not None
    assert cell.resident_peak_bytes == (3 << 20) + 7
    assert dict(cell.syscall_mix)["splice"] == pytest.approx(11_000)
    summary = json.loads((run_dir / "report" / "summary.json").read_text())
    assert (summary["workloads"][0]["unit"], summary["workloads"][0]["pairs"]) == ("GiB", 16)


def write_copies(results: Path) -> Path:
    """A run of role copy: a large file and many small ones, eight blocks."""
    large = Workload("large", 1 << 26, copy=CopyLoad())
    small = Workload("small", 1 << 14, copy=CopyLoad(512, 64, "cold", "tmpfs", True))
    servers = (Server("technique", "read-write"), Server("technique", "splice"))
    cells = tuple(Cell(server, workload) for workload in (large, small) for server in servers)
    plan = Plan("copies", "Copies.", "read-write", cells, role="copy")
    run_dir = results / "20260102-101112-copies"
    run_dir.mkdir(parents=True)
    store.write_json(run_dir / store.MANIFEST, make_manifest(plan, run_dir.name))
    rng = random.Random(4)
    with store.SampleWriter(run_dir) as writer:
        for block in range(8):
            for order, cell in enumerate(cells[:3]):
                speed = 1.5 if cell.server.name == "splice" else 1.0
                rate = speed * (100 if cell.workload is large else 40_000)
                document = load_document(rate, cell.workload.size_bytes, 0.9, 0.0, rng)
                document |= {"mode": "copy", "may_clone": True}
                writer.append(
                    Sample(block, order, cell.id, Status.OK, None, block * 10**9, 10**8, document)
                )
            if block == 0:
                reason = "no such thing between these file systems"
                writer.append(Sample(0, -1, cells[3].id, Status.UNSUPPORTED, reason, 0, 0))
            writer.end_block(block, wall_ns=1)
    return run_dir


def test_a_run_of_copies_is_told_in_gib_and_in_files(tmp_path: Path) -> None:
    run_dir = write_copies(tmp_path)
    page = Page(write_report(run_dir).read_text(encoding="utf-8"))
    shown = " ".join(" ".join(page.text).split())
    assert "64MiB a file, 1 file, warm; 8 blocks; CPU time in s per GiB" in shown
    assert (
        "16KiB a file, 512 files, 64 at a time, cold, to tmpfs, fresh; 8 blocks; CPU time in "
        "\N{MICRO SIGN}s per file" in shown
    )
    assert "Files/s" in shown
    assert "client and server share one machine" not in shown
    assert "copy_file_range may have copied nothing" in shown
    assert "Total CPU" not in shown
    assert "6.250" in page.cells["read-write@large"]
    assert "40,000" in page.cells["read-write@small"]
    assert "1.50 [" in page.cells["splice@large"]
    assert "no such thing between these file systems" in page.cells["splice@small"]
    script = (run_dir / "report" / "throughput.gp").read_text(encoding="utf-8")
    assert "GiB/s; 1 file, warm" in script
    assert "files/s; 512 files" in script


def test_the_headlines_p_is_that_of_a_winner_among_many() -> None:
    """The fastest of ten is chosen by its ratio: its own p would be too small by about ten."""
    base = CellView("n@w", "nginx", "w", "ok", None, "baseline", 2, blocks=20, p_value=1.0)
    cells = [
        CellView(
            f"e{at}@w", f"e{at}", "w", "ok", None, "ranked", at + 1, blocks=20, ahead=15,
            ratio=Estimate(1.1, 1.01, 1.2, 0.96), p_value=0.02 + at / 100,
        )
        for at in range(10)
    ]  # fmt: skip
    assert re.search(r"p = 0\.20? \(Holm, 10 cells\)", headline([*cells, base], "nginx").sure)
    assert "p = 0.02" in headline([cells[0], base], "nginx").sure
