"""Where groups are made, on hosts that do not exist: a directory imitates /proc and /sys.

That a real group counts what ended is tested with the peers (servers/test_peer.py).
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from iolab import cgroup
from iolab.cgroup import CpuGroup, cpu_parents, join_cpu_group

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
    assert join_cpu_group(1, root) is None


def test_a_directory_that_is_no_group_is_refused(tmp_path: Path) -> None:
    root = host(tmp_path, "0::/user.slice\n", V2)
    assert join_cpu_group(os.getpid(), root) is None  # no cpu.stat appears in it


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
