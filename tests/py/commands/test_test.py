from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from iolab.commands.check import c_files, check_steps, fix_steps
from iolab.commands.test import (
    SANITIZERS,
    Counts,
    Suite,
    base_suites,
    conformance_lanes,
    parse_junit,
    run_lanes,
    run_suite,
)
from iolab.errors import IolabError
from iolab.executor import Completed, HostExecutor
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
    assert list(suites) == ["C unit tests", "harness"]
    assert "--output-junit" in suites["C unit tests"].argv
    sanitized = [(name, tmp_path / f"build-{name}") for name in SANITIZERS]
    (plain,), others = conformance_lanes(house, tmp_path, sanitized)
    assert str(tmp_path / "build/iolab-server") in plain.argv
    assert plain.log is None
    assert [one.name for one in others] == [
        "C unit tests, asan", "conformance, asan", "C unit tests, tsan", "conformance, tsan",
    ]  # fmt: skip
    for one in others:
        assert any(f"build-{one.name[-4:]}" in word for word in one.argv)
    assert len({one.junit for one in (plain, *others)}) == 5
    assert len({one.log for one in others}) == 4


def script(tmp_path: Path, at: int, text: str) -> Suite:
    argv = ("sh", "-c", text)
    return Suite(f"s{at}", argv, tmp_path / f"{at}.xml", tmp_path, log=tmp_path / f"{at}.log")


def test_lanes_run_at_the_same_time_and_their_words_are_not_mixed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each waits for a file that the other makes."""
    one = f"touch {tmp_path}/a; until [ -e {tmp_path}/b ]; do sleep 0.01; done; echo first"
    two = f"touch {tmp_path}/b; until [ -e {tmp_path}/a ]; do sleep 0.01; done; echo second; exit 3"
    junit = f"echo '<testsuite><testcase name=\"a\"/></testsuite>' > {tmp_path}/"
    lanes = [
        [replace(script(tmp_path, 1, f"{one}; {junit}1.xml"), log=None)],
        [script(tmp_path, 2, f"{junit}2.xml; {two}")],
    ]
    with HostExecutor() as executor:
        assert run_lanes(executor, lanes) == Counts(2, 1, 0)
    assert capsys.readouterr().out == "second\n"  # what is passed through is not captured


def test_lanes_end_when_one_cannot_go_on(tmp_path: Path) -> None:
    endless = script(tmp_path, 1, "while :; do sleep 0.01; done")
    never = script(tmp_path, 2, f"touch {tmp_path}/never")
    missing = Suite("s", (str(tmp_path / "no-such-program"),), tmp_path / "x.xml", tmp_path)
    with HostExecutor() as executor, pytest.raises(IolabError, match="is not installed"):
        run_lanes(executor, [[missing], [endless, never]])
    assert not (tmp_path / "never").exists()


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
