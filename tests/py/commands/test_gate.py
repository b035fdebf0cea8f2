"""`iolab gate` from end to end, on a repository whose servers are scripts around a built one."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
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
PEER = """
schema_version = 1
name = "steady"
summary = "The server that a stored run and a gate have in common."
binaries = ["{binary}"]
remedy = "build it"
roles = ["file"]
argv = ["{{{{ binary }}}}", "--engine", "blocking", "--role", "file", "--root", "{{{{ root }}}}",
  "--listen", "{{{{ host }}}}:{{{{ port }}}}"]
"""
KEPT = (
    MATRIX.replace('name = "gate"', 'name = "kept"')
    .replace('baseline = "epoll"', 'baseline = "steady"\nmin_blocks = 24\nmax_blocks = 24')
    .replace('["engine:epoll"]', '["peer:steady", "engine:epoll"]')
)
SOUND = 'exec "{binary}" "$@"'
# Eleven times the CPU time for each response: a difference that no noise hides.
SLOW = 'exec "{binary}" --handicap 1000 "$@"'
WIDE = ("--threshold", "90%", "--budget", "20s", "--json")
"""A threshold far above the noise of slices of 10 ms, and far below what SLOW costs. It ends with
the fewest blocks that tell; the budget is what a machine in trouble may take."""
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

    def iolab(self, *argv: str) -> subprocess.CompletedProcess[str]:
        env = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        line = [sys.executable, "-m", "iolab", *argv]
        return subprocess.run(line, check=False, capture_output=True, text=True, env=env)

    def gate(self, *argv: str) -> subprocess.CompletedProcess[str]:
        return self.iolab("gate", *argv)

    def told(self, *argv: str) -> subprocess.CompletedProcess[str]:
        """A gate that is asked again while it cannot tell, as its exit status of 2 invites to.

        Some A/A pairs read as different by chance, and then no verdict counts.
        """
        for _ in range(5):
            done = self.gate(*argv)
            if done.returncode != 2:
                break
        return done

    def beside_kept(
        self, enough: Callable[[subprocess.CompletedProcess[str]], bool]
    ) -> tuple[subprocess.CompletedProcess[str], Path]:
        """A gate against a run that was stored just before, anew until it is `enough`.

        Whoever sets something on the host between the two makes it a refusal, rightly.
        """
        for number in range(5):
            kept = self.keep(f"quiet-host-{number}")
            done = self.gate("--baseline", str(kept), *WIDE)
            if enough(done):
                break
        return done, kept

    def keep(self, name: str) -> Path:
        """A run of this tree's build, with a peer as its baseline, among the baselines."""
        (self.root / "peers/steady.toml").write_text(PEER.format(binary=self.binary))
        (self.root / "workloads/kept.toml").write_text(KEPT)
        done = self.iolab("run", "kept", "--no-report", "--json")
        assert done.returncode == 0, done.stderr
        kept = self.root / "results/baselines" / name
        shutil.copytree(json.loads(done.stdout)["run"], kept)
        return kept

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


def test_a_file_that_cannot_be_written_is_named_before_anything_is_measured(
    repository: Repository, tmp_path: Path
) -> None:
    repository.commit(SOUND, "first")
    (tmp_path / "file").write_text("")
    result = repository.gate("--baseline", "HEAD", "--junit", str(tmp_path / "file/junit.xml"))
    assert result.returncode == 2
    assert f"{tmp_path}/file/junit.xml: cannot be written" in result.stderr
    assert not (repository.root / "results").exists()


def test_a_file_that_is_lost_hides_no_regression(repository: Repository) -> None:
    """Named, it could be written; then no more, as on a disk that is full by now."""
    repository.commit(SOUND, "first")
    repository.commit(DEAD, "second")
    result = repository.gate(
        "--baseline", "HEAD~1", "--budget", "3s", "--json", "--junit", "/dev/full"
    )
    assert result.returncode == 1, result.stderr
    assert "/dev/full: cannot be written: No space left on device" in result.stderr
    document = json.loads(result.stdout)
    assert document["exit_code"] == 1
    assert json.loads((repository.only_run(document) / "gate.json").read_text()) == document


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


def regressions(document: dict[str, Any]) -> list[tuple[str, str]]:
    """The cells that a gate condemns, with their workloads."""
    return [
        (cell["name"], cell["workload"])
        for cell in document["cells"]
        if cell["final"] == "regression"
    ]


def test_a_planted_slowdown_is_a_regression_and_names_the_cell(repository: Repository) -> None:
    repository.commit(SOUND, "first")
    repository.commit(SLOW, "second")
    result = repository.told("--baseline", "HEAD~1", *WIDE)
    assert result.returncode == 1, result.stdout + result.stderr
    document = json.loads(result.stdout)
    assert regressions(document) == [("candidate/epoll@w", "w")]
    assert len(document["runs"]) == 2  # fresh processes said so once more
    (cell,) = document["cells"]
    for found in (cell["first"], cell["again"]):
        assert found["effect"] == "slower"
        assert found["estimate"]["high"] < 1
    failure = ElementTree.parse(repository.only_run(document) / "junit.xml").find(".//failure")
    assert failure is not None
    assert "slower, twice" in (failure.get("message") or "")


def test_a_slow_baseline_is_no_regression_of_the_candidate(repository: Repository) -> None:
    """The other way round: which side is which decides the exit status, not that they differ."""
    repository.commit(SLOW, "first")
    repository.commit(SOUND, "second")
    result = repository.told("--baseline", "HEAD~1", *WIDE)
    assert result.returncode == 0, result.stdout + result.stderr
    assert [cell["first"]["effect"] for cell in json.loads(result.stdout)["cells"]] == ["faster"]


def test_the_same_commit_twice_is_never_a_regression(repository: Repository) -> None:
    commit = repository.commit(SOUND, "first")
    result = repository.gate("--baseline", commit, "--candidate", "HEAD", *WIDE)
    assert result.returncode in (0, 2), result.stdout + result.stderr
    document = json.loads(result.stdout)
    assert document["exit_code"] == result.returncode
    assert regressions(document) == []
    assert {facts["commit"] for facts in document["builds"].values()} == {commit}


# --- against a stored run ------------------------------------------------------------------------


def test_a_stored_baseline_of_equal_circumstances_is_measured_against(
    repository: Repository,
) -> None:
    repository.commit(SOUND, "first")
    result, kept = repository.beside_kept(lambda done: bool(done.stdout))
    assert result.returncode in (0, 2), result.stdout + result.stderr
    assert result.stdout, result.stderr  # refused, it prints nothing
    document = json.loads(result.stdout)
    assert document["base"] == f"stored run {kept}"
    assert [(cell["name"], cell["final"] == "regression") for cell in document["cells"]] == [
        ("candidate/epoll@w", False)
    ]
    cells = json.loads((repository.only_run(document) / "manifest.json").read_text())["plan"]
    assert cells["baseline"] == "steady"


def test_a_slowdown_since_a_stored_baseline_is_a_regression(repository: Repository) -> None:
    repository.commit(SLOW, "slower than what is stored")
    result, _ = repository.beside_kept(lambda done: done.returncode != 2)
    assert result.returncode == 1, result.stdout + result.stderr
    assert regressions(json.loads(result.stdout)) == [("candidate/epoll@w", "w")]


def test_a_stored_baseline_of_other_circumstances_is_refused_by_name(
    repository: Repository,
) -> None:
    repository.commit(SOUND, "first")
    kept = repository.keep("other-host")
    manifest = json.loads((kept / "manifest.json").read_text())
    manifest["host"]["kernel"] = "1.2.3-planted"
    (kept / "manifest.json").write_text(json.dumps(manifest))
    before = sorted(path.name for path in (repository.root / "results").iterdir())
    result = repository.gate("--baseline", str(kept), *WIDE)
    assert result.returncode == 2
    assert result.stdout == ""
    assert "kernel: host.kernel: 1.2.3-planted -> " in result.stderr
    assert "--baseline COMMIT" in result.stderr
    assert sorted(path.name for path in (repository.root / "results").iterdir()) == before


def test_a_stored_run_whose_baseline_differs_from_itself_is_refused(
    repository: Repository,
) -> None:
    repository.commit(SOUND, "first")
    for number in range(5):
        kept = repository.keep(f"untrusted-{number}")
        lines = [json.loads(line) for line in (kept / "samples.jsonl").read_text().splitlines()]
        for line in lines:
            if line.get("cell") == "steady#2@w":
                line["load"]["window"]["body_bytes"] //= 8
        text = "".join(json.dumps(line) + "\n" for line in lines)
        (kept / "samples.jsonl").write_text(text)
        result = repository.gate("--baseline", str(kept), *WIDE)
        assert (result.returncode, result.stdout) == (2, "")
        if "other circumstances" not in result.stderr:  # somebody set something on the host
            break
    assert "untrusted: the baseline differs from itself: steady#2 to steady" in result.stderr
    assert "./iolab run kept" in result.stderr
