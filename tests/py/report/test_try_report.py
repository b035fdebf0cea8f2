"""The report that follows a measurement: written, or said why not."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from iolab.report import try_report


def test_a_report_that_cannot_be_written_says_why_and_ends_nothing(
    run_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert try_report(tmp_path / "no-such-run") is None
    assert "no report: " in capsys.readouterr().err
    page = try_report(shutil.copytree(run_dir, tmp_path / "run"))
    assert page is not None
    assert Path(page).is_file()
    assert capsys.readouterr().err == ""
