"""The checks of `doctor` on machines that do not exist: a directory imitates /proc and /sys."""

from __future__ import annotations

from dataclasses import replace

import pytest
from imitated import put

from iolab.doctor import limits
from iolab.doctor.machine import Level, Machine


def test_small_memlock_matters_only_without_the_capability(machine: Machine) -> None:
    small = replace(machine, memlock_bytes=64 << 10)
    put(machine, "proc/self/status", "Name:\tx\nCapEff:\t0000000000000000")
    assert limits.check_memlock(small).level is Level.WARN
    put(machine, "proc/self/status", f"Name:\tx\nCapEff:\t{1 << limits.CAP_IPC_LOCK:016x}")
    assert limits.check_memlock(small).level is Level.OK


@pytest.mark.parametrize(
    ("limit", "level"), [(-1, "ok"), (100, "fail"), (1024, "warn"), (10_500, "ok")]
)
def test_open_files(machine: Machine, limit: int, level: str) -> None:
    assert limits.check_nofile(replace(machine, nofile_hard=limit)).level == level
