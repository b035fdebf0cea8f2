from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from iolab.commands.check import c_files, check_steps, fix_steps
from iolab.commands.test import Counts, Suite, base_suites, parse_junit, run_suite, sanitized_suites
from iolab.executor import Completed
from iolab.fake_executor import FakeExecutor
from iolab.paths import House

PYTEST = """<?xml version="1.0"?><testsuites>
<testsuite errors="1" failures="1" skipped="1" tests="4">
<testcase name="a"/><testcase name="b"><failure message="x"/></testcase>
<testcase name="c"><skipped message="no nginx"/></testcase>
<testcase name="d"><error message="x"/></testcase></testsuite></testsuites>"""
CTEST = """<?xml version="1.0"?><testsuite tests="3" failures="1" disabled="0" skipped="1">
<testcase name="a" status="run"/><testcase name="b" status="fail"><failure message=""/></testcase>
<testcase name="c" status="notrun"><skipped message="x"/></testcase></testsuite>"""


def suite(tmp_path: Path, needs: str = ".") -> Suite:
    return Suite("s", ("sh",), tmp_path / "out.xml", tmp_path / needs)


def fake(code: int, write: str | None, junit: Path) -> FakeExecutor:
    def run(argv: Sequence[str]) -> Completed:
        if write is not None:
            junit.write_text(write)
        return Completed(tuple(argv), code, "", "")

    return FakeExecutor(run=run)


def test_both_dialects_of_junit_are_counted() -> None:
    assert parse_junit(PYTEST) == Counts(1, 2, 1)
    assert parse_junit(CTEST) == Counts(1, 1, 1)
    assert str(Counts(1, 2, 3) + Counts(1, 0, 0)) == "2 passed, 2 failed, 3 skipped"


@pytest.mark.parametrize(
    ("code", "xml", "counts"),
    [
        (1, PYTEST, Counts(1, 2, 1)),
        (2, "<testsuite><testcase name='a'/></testsuite>", Counts(1, 1, 0)),
        (-11, None, Counts(0, 1, 0)),
        (0, "<testsuite", Counts(0, 1, 0)),
    ],
)
def test_a_suite_that_crashes_counts_as_failed(
    tmp_path: Path, code: int, xml: str | None, counts: Counts
) -> None:
    one = suite(tmp_path)
    one.junit.write_text("<testsuite><testcase name='stale'/></testsuite>")
    assert run_suite(fake(code, xml, one.junit), one) == counts


def test_a_suite_whose_subject_is_missing_is_skipped(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_suite(FakeExecutor(), suite(tmp_path, "missing")) == Counts(skipped=1)
    assert "left out" in capsys.readouterr().err


def test_the_suites_cover_c_python_and_conformance(tmp_path: Path) -> None:
    house = House(tmp_path, tmp_path / "build")
    suites = {one.name: one for one in base_suites(house, tmp_path)}
    assert list(suites) == ["C unit tests", "harness", "conformance"]
    assert "--output-junit" in suites["C unit tests"].argv
    assert str(tmp_path / "build/iolab-server") in suites["conformance"].argv
    for one in sanitized_suites(house, tmp_path, "asan", tmp_path / "build-asan"):
        assert any("build-asan" in word for word in one.argv)


def test_check_and_fix_name_the_files_of_the_tree(tmp_path: Path) -> None:
    (tmp_path / "server").mkdir()
    (tmp_path / "harness").mkdir()
    (tmp_path / "server/main.c").touch()
    (tmp_path / "server/main.h").touch()
    (tmp_path / "server/notes.txt").touch()
    assert c_files(tmp_path) == ["server/main.c", "server/main.h"]
    house = House(tmp_path, tmp_path / "build")
    checks = {step.name: step for step in check_steps(house)}
    assert list(checks) == [
        "clang-format", "ruff format", "ruff check", "mypy", "build with gcc", "build with clang",
    ]  # fmt: skip
    assert "-Werror" in checks["clang-format"].argvs[0]
    assert "-DIOLAB_WERROR=ON" in checks["build with gcc"].argvs[0]
    assert "-i" in next(iter(fix_steps(house))).argvs[0]
