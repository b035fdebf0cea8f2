"""A machine on which nothing is amiss; imitated.py, beside the tests, is made importable."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from iolab.doctor.machine import Machine, Peer
from iolab.paths import House

sys.path.insert(0, str(Path(__file__).parent))

from imitated import ETH, LO, QUIET, describe, put


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """A machine on which nothing is amiss; tests spoil one thing each."""
    made = Machine(
        root=tmp_path,
        house=House(root=tmp_path, build=tmp_path / "build"),
        kernel="6.1.0-13-amd64",
        affinity=frozenset({0, 1}),
        memlock_bytes=8 << 20,
        nofile_hard=1 << 20,
        free_disk_bytes=5 << 30,
        which=lambda tool: f"/usr/bin/{tool}",
        busy=QUIET,
        describe=describe(None, None),
        peers=(Peer("nginx", "nginx version: nginx/1.22.1", None, "fetch it"),),
        interfaces=(LO, ETH),
    )
    put(made, "sys/class/net/lo/flags", "0x9")
    put(made, "sys/class/net/lo/mtu", "65536")
    put(made, "proc/loadavg", "0.10 0.20 0.30 1/90 4242")
    put(made, "proc/self/cgroup", "0::/user.slice/one.scope")
    put(made, "sys/kernel/tracing/trace_clock", "[local] global")
    put(made, "proc/self/mountinfo", "30 29 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw")
    (tmp_path / "sys/fs/cgroup/user.slice/one.scope").mkdir(parents=True)
    for cpu in made.affinity:
        put(made, f"sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list", str(cpu))
    return made
