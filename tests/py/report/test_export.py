"""Exports of the report's synthetic run: one with every kind of cell."""

from __future__ import annotations

import csv
import io
import re
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from iolab import stats, store
from iolab.commands.export import export
from iolab.export import ExportError, rows, to_csv, to_openmetrics
from iolab.report.run import load


def run(*argv: str) -> Result:
    return CliRunner().invoke(export, list(argv), catch_exceptions=False)


def read(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def test_csv_has_a_row_for_every_slice_as_it_was_stored(run_dir: Path) -> None:
    table = read(to_csv(load(run_dir)))
    samples = store.read_samples(run_dir).samples
    assert len(table) == len(samples)
    for row, sample in zip(table, samples, strict=True):
        assert (row["cell"], row["status"]) == (sample.cell, str(sample.status))
        assert int(row["block"]) == sample.block
        if sample.load is not None:
            assert int(row["body_bytes"]) == sample.load["window"]["body_bytes"]
            assert int(row["window_ns"]) == sample.load["window"]["ns"]
    assert {row["server_syscalls_send"] for row in table if row["server"] == "nginx"} == {""}
    assert all(row["server_syscalls_send"] for row in table if row["server"] == "epoll")


def test_a_slice_that_is_no_measurement_has_no_rate(run_dir: Path) -> None:
    table = read(to_csv(load(run_dir)))
    bad = [row for row in table if row["status"] != "ok"]
    assert bad
    assert {row["units_per_s"] for row in bad} == {""}
    assert all(row["reason"] for row in bad)
    assert all(float(row["units_per_s"]) > 0 for row in table if row["status"] == "ok")


_SAMPLE = re.compile(
    r'[a-z_]+\{[a-z_]+="(?:[^"\\\n]|\\.)*"(?:,[a-z_]+="(?:[^"\\\n]|\\.)*")*\} [-+.e0-9]+|# EOF'
)


def test_openmetrics_is_well_formed(run_dir: Path) -> None:
    text = to_openmetrics(load(run_dir))
    assert text.endswith("# EOF\n")
    families: list[str] = []
    for line in text.splitlines():
        if line.startswith("# TYPE "):
            families.append(line.split()[2])
        elif not line.startswith(("# HELP ", "# UNIT ")):
            assert _SAMPLE.fullmatch(line), line
            assert line == "# EOF" or line.partition("{")[0] == families[-1]
    assert len(families) == len(set(families))
    assert "iolab_ratio" in families


def test_openmetrics_holds_ratios_and_the_cells_without(run_dir: Path) -> None:
    lines = to_openmetrics(load(run_dir)).splitlines()
    name = run_dir.name

    def value(line: str) -> float:
        (found,) = [one for one in lines if one.startswith(line)]
        return float(found.rpartition(" ")[2])

    place = f'run="{name}",server="sendfile",workload="128KiB"'
    low, middle, high = (
        value(f'iolab_ratio{end}{{{place},baseline="nginx"}}') for end in ("_low", "", "_high")
    )
    assert low < middle < high
    assert 1.3 < middle < 1.6
    bad = f'run="{name}",server="mmap",workload="16MiB",status="invalid"'
    assert value(f"iolab_cell_ok{{{bad}}}") == 0
    assert not any(
        line.startswith("iolab_ratio") and 'server="mmap",workload="16MiB"' in line
        for line in lines
    )


def test_the_verb_writes_to_stdout_or_a_file(run_dir: Path, tmp_path: Path) -> None:
    result = run(str(run_dir), "--format", "openmetrics")
    assert (result.exit_code, result.stdout.endswith("# EOF\n")) == (0, True)
    out = tmp_path / "out.csv"
    assert run(str(run_dir), "--output", str(out)).exit_code == 0
    with out.open(newline="", encoding="utf-8") as file:
        assert read(file.read()) == read(to_csv(load(run_dir)))
    with pytest.raises(ExportError, match="cannot be written"):
        run(str(run_dir), "--output", str(tmp_path / "no" / "such" / "place"))


def test_parquet_needs_a_file_and_says_what_it_lacks(
    run_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run(str(run_dir), "--format", "parquet").exit_code == 2
    monkeypatch.setitem(sys.modules, "pyarrow", None)  # as if it were not installed
    with pytest.raises(ExportError, match="pyarrow is not installed") as why:
        run(str(run_dir), "--format", "parquet", "--output", str(tmp_path / "out.parquet"))
    assert "setup/requirements-parquet.txt" in (why.value.remedy or "")


def test_parquet_holds_what_csv_holds(run_dir: Path, tmp_path: Path) -> None:
    parquet: Any = pytest.importorskip(
        "pyarrow.parquet", reason="pyarrow is not installed: setup/requirements-parquet.txt has it"
    )
    out = tmp_path / "out.parquet"
    assert run(str(run_dir), "--format", "parquet", "--output", str(out)).exit_code == 0
    table = parquet.read_table(str(out)).to_pylist()
    wanted = rows(load(run_dir))
    assert len(table) == len(wanted)
    for row, one in zip(table, wanted, strict=True):
        assert {key: value for key, value in row.items() if value is not None} == {
            key: value for key, value in one.items() if value is not None
        }


def test_a_disturbed_slice_has_a_share_and_no_rate(run_dir: Path) -> None:
    run = load(run_dir)
    at = next(nr for nr, one in enumerate(run.samples) if stats.usable(one))
    spinner = {"ns": 100, "cpu_ns": {"spinner": 50}}
    bad = replace(run.samples[at], extra={"bystanders": spinner})
    good = replace(bad, extra={"bystanders": {"ns": 100, "cpu_ns": {}}})
    disturbed, sound = rows(replace(run, samples=(bad, good)))
    assert (disturbed["status"], disturbed["bystander_share"]) == ("ok", 0.5)
    assert disturbed["units_per_s"] is None
    assert sound["bystander_share"] == 0
    assert sound["units_per_s"]
