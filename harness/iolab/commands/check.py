"""Verb `check`: formatting, linting, types and warnings, as a commit must have them."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import click

from iolab.console import say
from iolab.executor import Executor, HostExecutor
from iolab.paths import House, find_house

_C_ROOMS = ("server", "engines", "workloads", "tests/c")
_PY_ROOMS = ("harness", "tests")


@dataclass(frozen=True)
class Step:
    """One check. `needs` is the tool without which it is left out, and said to be."""

    name: str
    argvs: tuple[tuple[str, ...], ...]
    needs: str


@click.command()
@click.option("--fix", is_flag=True, help="Format and repair what tools can; builds nothing.")
def check(fix: bool) -> None:
    """Check formatting, lint, types and compiler warnings of the whole tree."""
    house = find_house()
    steps = list(fix_steps(house) if fix else check_steps(house))
    with HostExecutor() as executor:
        failed = [step.name for step in steps if not perform(executor, house, step)]
    for name in failed:
        say(f"failed: {name}")
    if not failed:
        say("all checks passed")
    raise SystemExit(1 if failed else 0)


def perform(executor: Executor, house: House, step: Step) -> bool:
    """Runs a step, its output passed through. One whose tool is missing counts as passed."""
    if shutil.which(step.needs) is None:
        say(f"== {step.name}: left out, {step.needs} is not installed")
        return True
    say(f"== {step.name}")
    env = {"MYPYPATH": "harness"}
    return all(executor.stream(argv, cwd=house.root, env=env) == 0 for argv in step.argvs)


def check_steps(house: House) -> Iterator[Step]:
    """What must hold."""
    sources = c_files(house.root)
    if sources:
        yield Step(
            "clang-format",
            (("clang-format", "--dry-run", "-Werror", *sources),),
            "clang-format",
        )
    rooms = py_rooms(house.root)
    yield Step("ruff format", (_python("ruff", "format", "--check", *rooms),), sys.executable)
    yield Step("ruff check", (_python("ruff", "check", *rooms),), sys.executable)
    yield Step("mypy", (_python("mypy", "--strict", "harness/iolab"),), sys.executable)
    for compiler in ("gcc", "clang"):
        yield build_step(house, compiler)


def fix_steps(house: House) -> Iterator[Step]:
    """What tools can repair."""
    sources = c_files(house.root)
    if sources:
        yield Step("clang-format", (("clang-format", "-i", *sources),), "clang-format")
    rooms = py_rooms(house.root)
    yield Step("ruff format", (_python("ruff", "format", *rooms),), sys.executable)
    yield Step("ruff check", (_python("ruff", "check", "--fix", *rooms),), sys.executable)


def build_step(house: House, compiler: str) -> Step:
    """A build of everything in a directory of its own, warnings being errors."""
    build = str(house.root / f"build-check-{compiler}")
    configure = (
        "cmake", "-S", str(house.root), "-B", build, "-G", "Ninja",
        f"-DCMAKE_C_COMPILER={compiler}", "-DIOLAB_WERROR=ON",
        "-DCMAKE_MESSAGE_LOG_LEVEL=WARNING",
    )  # fmt: skip
    make = ("cmake", "--build", build, "-j", str(os.cpu_count() or 1))
    return Step(f"build with {compiler}", (configure, make), compiler)


def c_files(root: Path) -> list[str]:
    """The C sources and headers of the tree, relative to its root."""
    return sorted(
        str(path.relative_to(root)) for room in _C_ROOMS for path in (root / room).rglob("*.[ch]")
    )


def py_rooms(root: Path) -> list[str]:
    """The directories that hold Python."""
    return [room for room in _PY_ROOMS if (root / room).is_dir()]


def _python(module: str, *args: str) -> tuple[str, ...]:
    return (sys.executable, "-m", module, *args)
