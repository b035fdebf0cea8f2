"""Commits of a tiny project, checked out and built for real."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from iolab import builds
from iolab.builds import BuildError, build, resolve
from iolab.errors import InputError
from iolab.executor import Executor, HostExecutor
from iolab.paths import House

CMAKE = """
cmake_minimum_required(VERSION 3.20)
project(tiny LANGUAGES NONE)
add_custom_target(iolab-server COMMAND ${CMAKE_COMMAND} -E copy
  ${CMAKE_SOURCE_DIR}/server.sh ${CMAKE_BINARY_DIR}/iolab-server)
"""

MISSING = [tool for tool in ("git", "cmake", "ninja", "cc") if shutil.which(tool) is None]
pytestmark = pytest.mark.skipif(bool(MISSING), reason=f"not installed: {', '.join(MISSING)}")


@pytest.fixture
def executor() -> Iterator[Executor]:
    with HostExecutor() as found:
        yield found


def git(root: Path, *args: str) -> str:
    argv = ["git", "-C", str(root), "-c", "user.name=t", "-c", "user.email=t@example.org", *args]
    return subprocess.run(argv, check=True, capture_output=True, text=True).stdout.strip()


def commit(root: Path, words: str) -> str:
    (root / "server.sh").write_text(f"#!/bin/sh\necho {words}\n")
    (root / "server.sh").chmod(0o755)
    git(root, "add", "-A")
    git(root, "commit", "-qm", words)
    return git(root, "rev-parse", "HEAD")


@pytest.fixture
def house(tmp_path: Path) -> House:
    """A repository of two commits."""
    root = tmp_path / "tree"
    root.mkdir()
    git(root, "init", "-q")
    (root / ".gitignore").write_text(".cache\n")
    (root / "CMakeLists.txt").write_text(CMAKE)
    commit(root, "first")
    commit(root, "second")
    return House(root, root / "build")


def says(binary: Path) -> str:
    return subprocess.run([binary], check=True, capture_output=True, text=True).stdout.strip()


def test_each_commit_gives_its_own_binary_and_leaves_the_tree_alone(
    executor: Executor, house: House
) -> None:
    (house.root / "server.sh").write_text("#!/bin/sh\necho changed and in no commit\n")
    first, second = build(executor, house, "HEAD~1"), build(executor, house, "HEAD")
    assert (says(first.binary), says(second.binary)) == ("first", "second")
    assert first.commit == git(house.root, "rev-parse", "HEAD~1")
    assert first.to_json() == {
        "ref": "HEAD~1", "commit": first.commit, "dirty": False, "made_by": first.made_by,
    }  # fmt: skip
    assert git(house.root, "worktree", "list").count("\n") == 0
    assert git(house.root, "status", "--porcelain") == "M server.sh"
    kept = sorted(path.name for path in (house.cache / "builds").iterdir())
    assert kept == sorted([first.commit, second.commit])


def test_a_build_is_kept_until_the_compiler_changes(
    executor: Executor, house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = build(executor, house, "HEAD")
    made.binary.write_text("#!/bin/sh\necho kept\n")
    assert says(build(executor, house, "HEAD").binary) == "kept"
    monkeypatch.setattr(builds, "_compiler", lambda executor: "another cc 99")
    assert says(build(executor, house, "HEAD").binary) == "second"
    (made.binary.parent / "build.json").write_text("{ damaged")
    made.binary.write_text("#!/bin/sh\necho kept\n")
    assert says(build(executor, house, "HEAD").binary) == "second"


@pytest.mark.parametrize("name", ["CFLAGS", "LDFLAGS"])
def test_a_build_of_other_flags_is_not_taken_for_this_one(
    executor: Executor, house: House, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    made = build(executor, house, "HEAD")
    made.binary.write_text("#!/bin/sh\necho kept\n")
    monkeypatch.setenv(name, "-O0")
    other = build(executor, house, "HEAD")
    assert (says(other.binary), f"{name}=-O0" in other.made_by) == ("second", True)


def test_unknown_commits_and_broken_ones_are_named(executor: Executor, house: House) -> None:
    with pytest.raises(InputError, match="no-such-branch: no commit of that name"):
        resolve(executor, house.root, "no-such-branch")
    with pytest.raises(InputError, match="--help: no commit"):
        resolve(executor, house.root, "--help")
    (house.root / "CMakeLists.txt").write_text("message(FATAL_ERROR broken-by-test)\n")
    commit(house.root, "third")
    with pytest.raises(BuildError, match="broken-by-test"):
        build(executor, house, "HEAD")
    assert git(house.root, "worktree", "list").count("\n") == 0
    assert list((house.cache / "builds").iterdir()) == []
