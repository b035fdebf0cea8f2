"""Every technique of the copier, with every value of its options: right copies, or a reason.

No technique is named here: `iolab-copy --describe` says which there are and what works between
the directories of the test.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import TOP, values_to_try

MEMORY = Path("/dev/shm")
UNSUPPORTED = 3


def copier(config: pytest.Config) -> Path:
    """The copier of the build under test stands beside its server."""
    binary = Path(config.getoption("--server-binary")).with_name("iolab-copy")
    if not binary.exists():
        raise pytest.UsageError(f"{binary} does not exist: build it with ./iolab test, or cmake")
    return binary


def run(binary: Path, *args: str | Path) -> subprocess.CompletedProcess[str]:
    argv = [str(binary), *map(str, args)]
    return subprocess.run(argv, check=False, capture_output=True, text=True, timeout=300)


def describe(binary: Path, *places: str | Path) -> dict[str, Any]:
    done = run(binary, "--describe", *places)
    assert done.returncode == 0, done.stderr
    document: dict[str, Any] = json.loads(done.stdout)
    return document


def specs(technique: dict[str, Any]) -> Iterator[str]:
    """The technique with its defaults, then each option at other values alone."""
    name = technique["name"]
    yield name
    for option in technique["options"]:
        for value in values_to_try(option):
            yield f"{name},{option['name']}={value}"


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """One parameter a specification; trials are made where the tests' files will be."""
    if "copy_spec" not in metafunc.fixturenames:
        return
    factory: pytest.TempPathFactory = metafunc.config._tmp_path_factory  # type: ignore[attr-defined]
    document = describe(copier(metafunc.config), "--dir", factory.getbasetemp())
    found = [spec for technique in document["techniques"] for spec in specs(technique)]
    chosen = metafunc.config.getoption("--engine")
    metafunc.parametrize("copy_spec", [s for s in found if not chosen or s.split(",")[0] in chosen])


@pytest.fixture
def binary(pytestconfig: pytest.Config) -> Path:
    return copier(pytestconfig)


def outcome(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    """The document; the test is skipped, with the reason, where the technique has one."""
    if done.returncode == UNSUPPORTED:
        (reason,) = [li for li in done.stderr.splitlines() if li.startswith("unsupported: ")]
        assert len(reason) > len("unsupported: ")
        assert done.stdout == ""
        pytest.skip(reason)
    assert done.returncode == 0, done.stderr
    document: dict[str, Any] = json.loads(done.stdout)
    return document


def test_copies_equal_their_sources(binary: Path, copy_spec: str, tmp_path: Path) -> None:
    document = outcome(run(binary, "--technique", copy_spec, "--dir", tmp_path, "--check"))
    assert document["failures"] == 0, document["failure"]
    assert document["checks"] > 40
    assert list(tmp_path.iterdir()) == []


def test_copies_to_another_file_system_are_right_or_refused(
    binary: Path, copy_spec: str, tmp_path: Path
) -> None:
    if not MEMORY.is_dir() or MEMORY.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip(f"{MEMORY} is no file system of its own here")
    with tempfile.TemporaryDirectory(dir=MEMORY) as memory:
        done = run(binary, "--technique", copy_spec, "--dir", tmp_path, "--to", memory, "--check")
        assert list(Path(memory).iterdir()) == []
    document = outcome(done)
    assert document["failures"] == 0, document["failure"]


@pytest.mark.parametrize(
    "workload",
    [
        ("--size", "1000003"),
        ("--size", "16384", "--files", "12", "--batch", "4"),
        ("--size", "65536", "--files", "2", "--fresh", "--durable"),
        ("--size", "65536", "--files", "4", "--batch", "2", "--cache", "cold"),
    ],
    ids=["one", "batches", "fresh-durable", "cold"],
)
def test_a_window_adds_up(
    binary: Path, copy_spec: str, workload: tuple[str, ...], tmp_path: Path
) -> None:
    times = ("--warmup", "0", "--duration", "0.005")
    done = run(binary, "--technique", copy_spec, "--dir", tmp_path, *workload, *times)
    document = outcome(done)
    assert not any(document["errors"].values()), done.stderr
    window, size, batch = document["window"], document["size_bytes"], document["batch"]
    assert window["requests"] == window["operations"] * batch > 0
    assert window["body_bytes"] == window["requests"] * size
    assert sum(nr for _, nr in document["latency"]["counts"]) == window["operations"]
    assert 0 < window["ns"] <= window["wall_ns"] <= document["total"]["ns"]
    if document["cache"] == "cold":
        assert document["sources"]["pages_cached"] == 0
    else:
        assert document["sources"]["pages_cached"] == document["sources"]["pages"]
    assert list(tmp_path.iterdir()) == []


def test_a_signal_leaves_no_files(binary: Path, copy_spec: str, tmp_path: Path) -> None:
    argv = [
        str(binary),
        "--technique",
        copy_spec,
        "--dir",
        str(tmp_path),
        "--size",
        "65536",
        "--slices",
    ]
    with subprocess.Popen(
        argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        ready = process.stdout.readline()
        if not ready:
            assert process.wait(timeout=60) == UNSUPPORTED
            pytest.skip(process.stderr.read().strip())
        assert json.loads(ready)["ready"]
        assert len(list(tmp_path.iterdir())) == 2
        process.stdin.write("slice 3600000 3600000\n")
        process.stdin.flush()
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=60) == -signal.SIGTERM
    assert list(tmp_path.iterdir()) == []


MATRIX = """
schema_version = 1
name = "copies"
summary = "Every technique for a moment"
[run]
role = "copy"
baseline = "read-write"
budget_s = 1
min_blocks = 1
max_blocks = 1
slice_ms = 10
warmup_ms = 0
[servers]
list = ["technique:*"]
[[workload]]
name = "large"
size = "1MiB"
[[workload]]
name = "small"
size = "4KiB"
files = 8
batch = 4
cache = "cold"
target = "tmpfs"
"""


def test_a_matrix_of_copies_is_measured(binary: Path, tmp_path: Path) -> None:
    if not binary.with_name("iolab-server").exists():
        pytest.skip("iolab-server is not built beside the copier: the harness describes both")
    matrix = tmp_path / "copies.toml"
    matrix.write_text(MATRIX, encoding="utf-8")
    argv = [sys.executable, "-m", "iolab", "run", str(matrix), "--no-report", "--json"]
    env = {
        **os.environ,
        "PYTHONPATH": str(TOP / "harness"),
        "IOLAB_ROOT": str(TOP),
        "IOLAB_BUILD": str(binary.parent),
        "IOLAB_RESULTS": str(tmp_path / "results"),
    }
    done = subprocess.run(argv, check=False, capture_output=True, text=True, timeout=300, env=env)
    assert done.returncode == 0, done.stderr
    workloads = json.loads(done.stdout)["workloads"]
    cells = [cell for workload in workloads for cell in workload["cells"]]
    techniques = describe(binary, "--dir", tmp_path)["techniques"]
    assert len(cells) == 2 * len(techniques)
    assert {cell["status"] for cell in cells} <= {"ok", "unsupported"}
    assert all(cell["reason"] for cell in cells if cell["status"] == "unsupported")
    assert [workload["unit"] for workload in workloads] == ["GiB", "file"]
    for cell in cells:
        assert cell["status"] == "unsupported" or cell["units_per_s"] > 0
