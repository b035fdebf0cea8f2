"""Where groups are made, on hosts that do not exist: a directory imitates /proc and /sys.

That a real group counts what ended is tested with the peers (servers/test_peer.py).
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from iolab import cgroup
from iolab.cgroup import (
    CpuGroup,
    MemoryGroup,
    cpu_parents,
    make_cpu_group,
    make_memory_group,
    memory_parents,
)
from iolab.executor import Bounds, HostExecutor, ProcessError
from iolab.procfs import resident_peak_bytes
from iolab.servers.enclosure import Enclosure

V1 = "32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct"
V2 = "41 31 0:38 / /sys/fs/cgroup/unified rw,relatime shared:5 - cgroup2 cgroup2 rw"
OTHER = "35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory"


def host(root: Path, own: str, *mounts: str) -> Path:
    """A host with these lines in /proc/self, and the directories of its groups."""
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/cgroup").write_text(own)
    (root / "proc/self/mountinfo").write_text("".join(f"{line}\n" for line in mounts))
    for directory in ("cpu,cpuacct/box", "unified/user.slice", "memory"):
        (root / "sys/fs/cgroup" / directory).mkdir(parents=True)
    return root


def places(root: Path) -> list[tuple[str, str]]:
    top = root / "sys/fs/cgroup"
    return [(str(place.relative_to(top)), name) for place, name in cpu_parents(root)]


def test_nanoseconds_come_before_microseconds(tmp_path: Path) -> None:
    own = "4:memory:/\n2:cpu,cpuacct:/box\n0::/user.slice\n"
    assert places(host(tmp_path, own, V2, OTHER, V1)) == [
        ("cpu,cpuacct/box", "cpuacct.usage"),
        ("unified/user.slice", "cpu.stat"),
    ]


def test_a_container_sees_its_own_group_as_the_mount(tmp_path: Path) -> None:
    mounted = V1.replace(" / ", " /docker/4711 ", 1)
    root = host(tmp_path, "2:cpu,cpuacct:/docker/4711/box\n", mounted)
    assert places(root) == [("cpu,cpuacct/box", "cpuacct.usage")]


@pytest.mark.parametrize(
    ("own", "mounts"), [("", [V2]), ("0::/user.slice\n", [OTHER]), ("0::/elsewhere\n", [V2])]
)
def test_a_host_without_such_groups(tmp_path: Path, own: str, mounts: list[str]) -> None:
    root = host(tmp_path, own, *mounts)
    assert places(root) == []
    assert make_cpu_group(root) is None


def test_a_directory_that_is_no_group_is_refused(tmp_path: Path) -> None:
    root = host(tmp_path, "4:memory:/\n0::/user.slice\n", V2, OTHER)
    assert make_cpu_group(root) is None  # no cpu.stat appears in it
    assert make_memory_group(1 << 20, root) is None
    assert [path.name for path in (root / "sys/fs/cgroup").rglob("iolab-*")] == []


def test_memory_is_limited_below_our_own_group_or_in_v2_below_the_top(tmp_path: Path) -> None:
    root = host(tmp_path, "4:memory:/\n0::/user.slice\n", V2, OTHER)
    top = root / "sys/fs/cgroup"
    assert [(str(place.relative_to(top)), kind) for place, kind in memory_parents(root)] == [
        ("memory", "v1"),
        ("unified/user.slice", "v2"),
        ("unified", "v2"),
    ]


@pytest.mark.parametrize(
    ("version", "files"),
    [
        (
            "v1",
            {"memory.max_usage_in_bytes": "4096", "memory.oom_control": "under_oom 0\noom_kill 2"},
        ),
        ("v2", {"memory.peak": "4096", "memory.events": "oom 3\noom_kill 2\noom_group_kill 0"}),
    ],
)
def test_what_a_memory_group_says(tmp_path: Path, version: str, files: dict[str, str]) -> None:
    group = MemoryGroup(tmp_path, version)  # type: ignore[arg-type]
    assert (group.peak_bytes(), group.kills()) == (None, 0)
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    assert (group.peak_bytes(), group.kills()) == (4096, 2)


def test_a_v2_group_limits_and_accounts_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    group = MemoryGroup(tmp_path / "g", "v2")
    monkeypatch.setattr("iolab.servers.enclosure.make_memory_group", lambda *_: group)
    made = Enclosure.make(1 << 20, account_cpu=True)
    assert made.cpu is not None
    assert made.cpu.usage == tmp_path / "g" / "cpu.stat"
    assert made.bounds.join == (tmp_path / "g" / "cgroup.procs",)
    assert made.limited_by == "cgroup v2"


def test_without_a_group_the_limit_is_that_of_the_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("iolab.servers.enclosure.make_memory_group", lambda *_: None)
    made = Enclosure.make(64 << 20, account_cpu=False)
    assert (made.limited_by, made.bounds.data_bytes) == ("RLIMIT_DATA", 64 << 20)
    code = "import sys\ntry: bytearray(256 << 20)\nexcept MemoryError: print('refused', flush=True)"
    with HostExecutor() as executor:
        child = executor.start([sys.executable, "-c", code], bounds=made.bounds)
        assert child.read_line(30) == "refused"
    assert made.complaint() == ""
    assert Enclosure.make(None, account_cpu=False).bounds.data_bytes is None


def test_a_server_above_its_limit_is_killed_and_it_is_said() -> None:
    made = Enclosure.make(64 << 20, account_cpu=False)
    if made.memory is None:
        pytest.skip("no control group can be made here (doctor: cpu accounting)")
    code = "b = bytearray(32 << 20); print('half', flush=True); input(); b += bytearray(1 << 30)"
    with HostExecutor() as executor:
        child = executor.start([sys.executable, "-c", code], bounds=made.bounds)
        assert child.read_line(30) == "half"
        peaks = made.peaks((child.pid,))
        assert peaks["resident_peak_bytes"] > 32 << 20
        assert 32 << 20 < peaks["group_peak_bytes"] <= 64 << 20
        assert made.memory.pids() == (child.pid,)
        child.write_line("go on")
        with pytest.raises(ProcessError):
            child.read_line(30)
        assert child.stop() == -9
        assert made.complaint() == " (killed at the memory limit of 64MiB)"
    made.remove()
    assert not made.memory.directory.exists()


def test_a_child_that_cannot_join_is_an_error() -> None:
    with HostExecutor() as executor, pytest.raises(ProcessError, match="refused"):
        executor.start(["true"], bounds=Bounds(join=(Path("/proc/no/cgroup.procs"),)))


def test_peaks_of_processes_that_are_gone_do_not_count(tmp_path: Path) -> None:
    (tmp_path / "7").mkdir()
    (tmp_path / "7" / "status").write_text("Name:\tx\nVmHWM:\t    12 kB\n")
    assert resident_peak_bytes((7, 8), tmp_path) == 12 << 10
    assert resident_peak_bytes((8,), tmp_path) is None


def test_groups_of_killed_harnesses_are_swept(tmp_path: Path) -> None:
    kept = [f"iolab-{os.getpid()}-1", "iolab-x-1", "other"]
    for name in [*kept, "iolab-4194305-1"]:
        (tmp_path / name).mkdir()
    cgroup._sweep(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(kept)


def test_removing_gives_up_on_a_group_in_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cgroup, "_REMOVE_TIMEOUT_S", 0.0)
    group = CpuGroup(tmp_path / "g", tmp_path / "g" / "cpu.stat")
    group.directory.mkdir()
    group.usage.touch()  # a plain directory with a file cannot be removed, like a group in use
    group.remove()
    assert group.directory.exists()
    group.usage.unlink()
    group.remove()
    group.remove()
    assert not group.directory.exists()
