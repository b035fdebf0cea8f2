from __future__ import annotations

import os
from pathlib import Path

import pytest

from iolab.cpuclock import process_cpu_ns, processes_cpu_ns, usage_ns

NO_PID = 4194305  # above the largest kernel.pid_max


def test_a_process_has_a_clock_until_it_ends() -> None:
    first = process_cpu_ns(os.getpid())
    assert first is not None
    assert (process_cpu_ns(os.getpid()) or 0) >= first
    assert process_cpu_ns(NO_PID) is None
    assert processes_cpu_ns([os.getpid(), NO_PID]) is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("123456789\n", 123456789),
        ("usage_usec 5000123\nuser_usec 1\nsystem_usec 2\n", 5000123000),
        ("user_usec 1\n", None),
        ("", None),
    ],
)
def test_files_of_both_versions_of_control_groups(
    tmp_path: Path, text: str, expected: int | None
) -> None:
    file = tmp_path / "usage"
    file.write_text(text)
    assert usage_ns(file) == expected


def test_a_group_that_is_gone_has_no_cpu_time(tmp_path: Path) -> None:
    assert usage_ns(tmp_path / "usage") is None
