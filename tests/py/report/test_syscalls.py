"""The counting pass on the page."""

from __future__ import annotations

import shutil
from pathlib import Path

from iolab import store
from iolab.report import page
from iolab.report.build import build
from iolab.report.run import load


def test_the_page_shows_both_counts(run_dir: Path, tmp_path: Path) -> None:
    counted = tmp_path / run_dir.name
    shutil.copytree(run_dir, counted, ignore=shutil.ignore_patterns("report"))
    record = {
        "schema_version": 1, "cell": "epoll@1KiB", "workload": "1KiB", "server": "epoll",
        "status": "ok", "reason": None, "requests": 10, "traced": {"total": 50, "recvfrom": 10},
        "server_counters": {"syscalls": {"recv": 30}},
    }  # fmt: skip
    store.append_jsonl(counted / store.SYSCALLS, record)
    store.append_jsonl(counted / store.SYSCALLS, record | {
        "cell": "x", "server": "<x>", "status": "failed", "reason": "perf <died>", "traced": None,
    })  # fmt: skip
    view = build(load(counted))
    text = page.html(view, [])
    assert "counted twice" in text
    assert "2 per request not counted" in text
    assert "perf &lt;died&gt;" in text
    assert "syscalls.jsonl" in text
    (first, _) = page.summary(view)["syscalls"]
    assert first["mix"] == (("other", 4.0), ("recvfrom", 1.0))


def test_without_the_pass_there_is_no_section(run_dir: Path) -> None:
    assert "counted twice" not in page.html(build(load(run_dir)), [])
