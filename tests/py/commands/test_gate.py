"""`iolab gate` from end to end, on a repository whose servers are scripts around a built one."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from iolab.paths import find_house

CMAKE = """
cmake_minimum_required(VERSION 3.20)
project(tiny LANGUAGES NONE)
add_custom_target(iolab-server COMMAND ${CMAKE_COMMAND} -E copy
  ${CMAKE_SOURCE_DIR}/server.sh ${CMAKE_BINARY_DIR}/iolab-server)
"""
MATRIX = """
schema_version = 1
name = "gate"
summary = "A gate that costs nothing."
[run]
baseline = "epoll"
slice_ms = 10
warmup_ms = 0
[servers]
list = ["engine:epoll"]
[[workload]]
name = "w"
size = "1KiB"
connections = 2
"""
SOUND = 'exec "{binary}" "$@"'
DEAD = """case "$*" in *--describe*) exec "{binary}" "$@" ;; esac
echo "cannot start: broken by test" >&2
exit 3"""
LACKS = """case "$*" in
*--describe*) "{binary}" "$@" | sed 's/\\("name":[^"]*\\)"blocking"/\\1"renamed"/' ;;
*) exec "{binary}" "$@" ;;
esac"""
MISSING = [tool for tool in ("git", "cmake", "ninja", "cc") if shutil.which(tool) is None]
pytestmark = pytest.mark.skipif(bool(MISSING), reason=f"not installed: {', '.join(MISSING)}")


class Repository:
    """A tree with a history of servers."""

    def __init__(self, root: Path, binary: Path) -> None:
        self.root, self.binary = root, binary
        (root / "workloads").mkdir(parents=True)
        (root / "peers").mkdir()
        (root / "workloads/gate.toml").write_text(MATRIX)
        (root / "CMakeLists.txt").write_text(CMAKE)
        (root / ".gitignore").write_text(".cache\nresults\n")
        self.git("init", "-q")

    def git(self, *args: str) -> str:
        argv = ["git", "-C", str(self.root), "-c", "user.name=t", "-c", "user.email=t@example.org"]
        done = subprocess.run([*argv, *args], check=True, capture_output=True, text=True)
        return done.stdout.strip()

    def commit(self, script: str, message: str) -> str:
        text = script.format(binary=self.binary)
        (self.root / "server.sh").write_text(f"#!/bin/sh\n# {message}\n{text}\n")
        (self.root / "server.sh").chmod(0o755)
        self.git("add", "-A")
        self.git("commit", "-qm", message)
        return self.git("rev-parse", "HEAD")

    def gate(self, *argv: str) -> subprocess.CompletedProcess[str]:
        env = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        line = [sys.executable, "-m", "iolab", "gate", *argv]
        return subprocess.run(line, check=False, capture_output=True, text=True, env=env)

    def only_run(self, document: dict[str, Any]) -> Path:
        return self.root / "results" / str(document["runs"][0])


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Repository:
    house = find_house()
    for binary in (house.server_binary, house.load_binary):
        if not os.access(binary, os.X_OK):
            pytest.skip(f"{binary.name} is not built: cmake --build build")
    found = Repository(tmp_path / "tree", house.server_binary)
    monkeypatch.setenv("IOLAB_ROOT", str(found.root))
    monkeypatch.setenv("IOLAB_BUILD", str(house.build))
    monkeypatch.delenv("IOLAB_RESULTS", raising=False)
    return found


def test_equal_builds_are_no_regression_and_both_are_named_whole(repository: Repository) -> None:
    """Whether they can be told apart in three seconds is the machine's affair: 0, or 2."""
    base = repository.commit(SOUND, "first")
    candidate = repository.commit(SOUND, "second")
    (repository.root / "server.sh").write_text("changed and in no commit")
    result = repository.gate(
        "--baseline", "HEAD~1", "--budget", "3s", "--threshold", "50%", "--json"
    )
    document = json.loads(result.stdout)
    assert result.returncode == document["exit_code"]
    assert result.returncode in (0, 2)
    finals = {cell["final"] for cell in document["cells"]}
    assert finals == ({"pass"} if result.returncode == 0 else {"unclear"})
    assert [document["builds"][name]["commit"] for name in ("base", "candidate")] == [
        base, candidate,
    ]  # fmt: skip
    run_dir = repository.only_run(document)
    manifest = json.loads((run_dir / "manifest.json").read_text())
    for name, ref in (("base", "HEAD~1"), ("candidate", "HEAD")):
        facts = manifest["builds"][name]
        assert (facts["ref"], facts["dirty"]) == (ref, False)
        assert facts["compiler"]
        assert facts["cflags"]
    assert any("in no commit" in note for note in document["left_out"])
    assert candidate in (run_dir / "gate.md").read_text()
    assert ElementTree.parse(run_dir / "junit.xml").getroot().get("failures") == "0"


def test_a_candidate_that_dies_is_a_regression_said_twice(
    repository: Repository, tmp_path: Path
) -> None:
    repository.commit(SOUND, "first")
    repository.commit(DEAD, "second")
    files = {name: tmp_path / "out" / name for name in ("gate.md", "junit.xml")}
    result = repository.gate(
        "--baseline", "HEAD~1", "--budget", "3s", "--json",
        "--markdown", str(files["gate.md"]), "--junit", str(files["junit.xml"]),
    )  # fmt: skip
    assert result.returncode == 1, result.stderr
    document = json.loads(result.stdout)
    assert len(document["runs"]) == 2
    (cell,) = document["cells"]
    assert "broken by test" in cell["reason"]
    failure = ElementTree.parse(files["junit.xml"]).getroot().find(".//failure")
    assert failure is not None
    assert "broken by test" in (failure.get("message") or "")
    assert files["gate.md"].read_text().startswith("### iolab gate: regression: candidate/epoll@w")


def test_what_the_candidate_runs_no_more_is_no_pass_unless_it_is_meant(
    repository: Repository,
) -> None:
    text = MATRIX.replace('["engine:epoll"]', '["engine:epoll", "engine:blocking"]')
    (repository.root / "workloads/gate.toml").write_text(text)
    repository.commit(SOUND, "first")
    repository.commit(LACKS, "second")
    argv = ("--baseline", "HEAD~1", "--budget", "1s", "--threshold", "90%", "--json")
    result = repository.gate(*argv)
    document = json.loads(result.stdout)
    assert (result.returncode, list(document["missing"])) == (2, ["blocking@w"])
    assert "the candidate does not run blocking@w" in document["headline"]
    assert "blocking@w" not in " ".join(document["left_out"])
    allowed = json.loads(repository.gate(*argv, "--allow-missing").stdout)
    assert allowed["missing"] == {}
    assert "unknown engine 'blocking'" in " ".join(allowed["left_out"])
    assert "does not run" not in allowed["headline"]


def test_what_cannot_be_told_ends_with_two(repository: Repository) -> None:
    repository.commit(SOUND, "first")
    assert repository.gate("--baseline", "no-such-ref").returncode == 2
    (repository.root / "CMakeLists.txt").write_text("message(FATAL_ERROR does-not-build)\n")
    repository.commit(SOUND, "second")
    result = repository.gate("--baseline", "HEAD~1", "--budget", "3s")
    assert result.returncode == 2
    assert "cannot tell" in result.stderr
    assert "does-not-build" in result.stderr


def test_too_noisy_within_the_budget_says_what_budget_would_do(repository: Repository) -> None:
    """No machine tells a hundredth of a percent within the fewest blocks of 10 ms."""
    repository.commit(SOUND, "first")
    repository.commit(SOUND, "second")
    result = repository.gate(
        "--baseline", "HEAD~1", "--budget", "1s", "--threshold", "0.01%", "--json"
    )
    document = json.loads(result.stdout)
    assert document["exit_code"] == result.returncode
    (cell,) = document["cells"]
    assert cell["final"] != "pass"
    if cell["final"] == "unclear" and cell["first"]["effect"] == "unclear":
        assert cell["budget_s"] > 1
        assert "a budget of about" in document["headline"]
