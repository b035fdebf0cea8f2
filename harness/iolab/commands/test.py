"""Verb `test`: all tests of the tree, ending in one line that counts them."""

from __future__ import annotations

import os
import shutil
import sys
import threading
import xml.etree.ElementTree as ET
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass, field, replace
from pathlib import Path

import click

from iolab.console import say
from iolab.errors import IolabError
from iolab.executor import Executor, HostExecutor
from iolab.paths import House, find_house

SANITIZERS = {"asan": "address,undefined", "tsan": "thread"}
_JOBS = str(os.cpu_count() or 1)


@dataclass(frozen=True)
class Counts:
    """Tests by outcome."""

    passed: int = 0
    failed: int = 0
    skipped: int = 0

    def __add__(self, other: Counts) -> Counts:
        return Counts(
            self.passed + other.passed, self.failed + other.failed, self.skipped + other.skipped
        )

    def __str__(self) -> str:
        return f"{self.passed} passed, {self.failed} failed, {self.skipped} skipped"


@dataclass(frozen=True)
class Suite:
    """One program that runs tests and writes JUnit XML to `junit`.

    `needs` is what must exist for the suite to make sense. `log` gets what it prints, where that is
    not to be mixed with the words of another at the same time; it is printed when the suite ends.
    """

    name: str
    argv: tuple[str, ...]
    junit: Path
    needs: Path
    env: dict[str, str] = field(default_factory=dict)
    log: Path | None = None


@click.command()
@click.option("--fast", is_flag=True, help="Leave out the sanitizer builds.")
@click.option(
    "--sanitizers",
    metavar="LIST",
    default=",".join(SANITIZERS),
    show_default=True,
    help="Sanitizer builds to run the conformance suite with.",
)
def test(fast: bool, sanitizers: str) -> None:
    """Run the C unit tests, pytest and the conformance suite, also on sanitizer builds."""
    house = find_house()
    chosen = [] if fast else _chosen(sanitizers)
    total = Counts()
    logs = house.cache / "tests"
    logs.mkdir(parents=True, exist_ok=True)
    with HostExecutor() as executor:
        for suite in base_suites(house, logs):
            total += run_suite(executor, suite)
        built = [
            (name, build)
            for name in chosen
            if build_sanitized(
                executor, house, build := house.root / f"build-{name}", SANITIZERS[name]
            )
        ]
        total += Counts(failed=len(chosen) - len(built))
        total += run_lanes(executor, conformance_lanes(house, logs, built))
    click.echo(str(total))
    raise SystemExit(1 if total.failed or total.passed == 0 else 0)


def _chosen(text: str) -> list[str]:
    names = [name for name in text.split(",") if name]
    for name in names:
        if name not in SANITIZERS:
            raise click.BadParameter(
                f"{name!r}: allowed are {', '.join(SANITIZERS)}", param_hint="--sanitizers"
            )
    return names


def base_suites(house: House, logs: Path) -> Iterator[Suite]:
    """The suites on the ordinary build."""
    yield ctest_suite("C unit tests", house.build, logs / "ctest.xml")
    yield Suite(
        "harness",
        _pytest(house.root / "tests/py", logs / "py.xml"),
        logs / "py.xml",
        house.root / "tests/py",
        _python_env(house),
    )


def conformance_lanes(
    house: House, logs: Path, sanitized: Iterable[tuple[str, Path]]
) -> tuple[list[Suite], list[Suite]]:
    """Suites that may run at the same time: on the ordinary build, on those with a sanitizer.

    They wait for clients and time-outs more than for the CPU, and each starts servers of its own.
    """
    plain = conformance_suite(house, "conformance", house.server_binary, logs / "conformance.xml")
    others = [
        replace(suite, log=suite.junit.with_suffix(".log"))
        for name, build in sanitized
        for suite in sanitized_suites(house, logs, name, build)
    ]
    return [plain], others


def sanitized_suites(house: House, logs: Path, name: str, build: Path) -> Iterator[Suite]:
    """The suites on a sanitizer build."""
    yield ctest_suite(f"C unit tests, {name}", build, logs / f"ctest-{name}.xml")
    yield conformance_suite(
        house,
        f"conformance, {name}",
        build / "iolab-server",
        logs / f"conformance-{name}.xml",
        sanitizer=name,
    )


def ctest_suite(name: str, build: Path, junit: Path) -> Suite:
    """The C tests of one build directory."""
    argv = (
        "ctest", "--test-dir", str(build), "--output-on-failure", "--no-tests=error",
        "--timeout", "300", "-j", _JOBS, "--output-junit", str(junit),
    )  # fmt: skip
    return Suite(name, argv, junit, build / "CTestTestfile.cmake")


def conformance_suite(
    house: House, name: str, binary: Path, junit: Path, sanitizer: str = ""
) -> Suite:
    """The conformance suite on one server binary."""
    directory = house.root / "tests/conformance"
    argv = (*_pytest(directory, junit), "--server-binary", str(binary), "--sanitizer", sanitizer)
    return Suite(name, argv, junit, directory, _python_env(house))


def _pytest(directory: Path, junit: Path) -> tuple[str, ...]:
    return (sys.executable, "-m", "pytest", "-q", str(directory), f"--junitxml={junit}")


def _python_env(house: House) -> dict[str, str]:
    return {"PYTHONPATH": str(house.root / "harness"), "IOLAB_ROOT": str(house.root)}


def run_lanes(executor: Executor, lanes: Sequence[Sequence[Suite]]) -> Counts:
    """Runs the suites of each lane one by one, and the lanes at the same time."""
    given_up = threading.Event()

    def run(lane: Sequence[Suite]) -> Counts:
        total = Counts()
        for suite in lane:
            if not given_up.is_set():
                total += run_suite(executor, suite)
        return total

    with ThreadPoolExecutor(len(lanes)) as pool:
        running = [pool.submit(run, lane) for lane in lanes]
        try:
            return sum((one.result() for one in running), Counts())
        except BaseException:  # Ctrl-C, above all: the pool would wait for what still runs
            given_up.set()
            while wait(running, timeout=0.1).not_done:
                executor.close()
            raise


def run_suite(executor: Executor, suite: Suite) -> Counts:
    """Runs one suite, its output passed through; a crash without a result counts as failed."""
    if not suite.needs.exists():
        say(f"== {suite.name}: left out, {suite.needs} does not exist")
        return Counts(skipped=1)
    if shutil.which(suite.argv[0]) is None:
        raise IolabError(f"{suite.argv[0]} is not installed", f"apt-get install {suite.argv[0]}")
    say(f"== {suite.name}")
    suite.junit.unlink(missing_ok=True)
    code = executor.stream(_logged(suite), env=suite.env)
    if suite.log is not None and suite.log.exists():
        click.echo(suite.log.read_text(encoding="utf-8", errors="replace"), nl=False)
    try:
        counts = parse_junit(suite.junit.read_text(encoding="utf-8"))
    except (OSError, ET.ParseError) as error:
        say(f"== {suite.name}: exit code {code} and no result ({error})")
        return Counts(failed=1)
    if code != 0 and counts.failed == 0:
        say(f"== {suite.name}: exit code {code} although no test failed")
        counts += Counts(failed=1)
    say(f"== {suite.name}: {counts}")
    return counts


def _logged(suite: Suite) -> tuple[str, ...]:
    if suite.log is None:
        return suite.argv
    return ("sh", "-c", 'exec "$@" >"$0" 2>&1', str(suite.log), *suite.argv)


def parse_junit(text: str) -> Counts:
    """Counts of a JUnit XML document, as pytest and ctest write it.

    Test cases are counted one by one, because the two disagree on what their totals include.
    Raises xml.etree.ElementTree.ParseError when the text is no XML.
    """
    counts = Counts()
    for case in ET.fromstring(text).iter("testcase"):
        status = case.get("status", "run")
        if case.find("failure") is not None or case.find("error") is not None or status == "fail":
            counts += Counts(failed=1)
        elif case.find("skipped") is not None or status in ("notrun", "disabled"):
            counts += Counts(skipped=1)
        else:
            counts += Counts(passed=1)
    return counts


def build_sanitized(executor: Executor, house: House, build: Path, sanitizers: str) -> bool:
    """Configures and builds with `sanitizers`; False when that fails (the output says why)."""
    say(f"== building {build.name}")
    steps: Sequence[Sequence[str]] = (
        (
            "cmake", "-S", str(house.root), "-B", str(build), "-G", "Ninja",
            f"-DIOLAB_SANITIZE={sanitizers}", "-DCMAKE_BUILD_TYPE=RelWithDebInfo",
            "-DCMAKE_MESSAGE_LOG_LEVEL=WARNING",
        ),
        ("cmake", "--build", str(build), "-j", _JOBS),
    )  # fmt: skip
    return all(executor.stream(step) == 0 for step in steps)
