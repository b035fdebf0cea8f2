"""The idle latency: what the device says, and the life and death of the process that holds it."""

from __future__ import annotations

import fcntl
import os
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from fakehost import FakeHost, WriteProfile, in_child, was_killed

from iolab.executor import HostExecutor, ProcessError
from iolab.tuning import bench, hold
from iolab.tuning.knob import Outcome
from iolab.tuning.scene import Scene


def test_a_process_holds_the_idle_latency_until_the_revert(
    host: FakeHost, scene: Scene, write_profile: WriteProfile
) -> None:
    applied = bench.apply(write_profile("[cpu]\nlatency_usec = 1"), scene)
    holder = hold.living(host.state)
    assert applied.ok
    assert holder is not None
    assert holder.usec == 1
    opened = {str(one.readlink()) for one in Path(f"/proc/{holder.pid}/fd").iterdir()}
    assert "/dev/null" in opened  # what stands for the device here
    assert all(one.good for one in bench.verify(host))
    bench.revert(host)
    assert hold.living(host.state) is None


@pytest.mark.parametrize(
    ("effective", "found", "words"),
    [(2_000_000_000, "2000000000", ""), (0, "5", "another process asks for 0")],
)
def test_the_latency_in_force_is_read_from_the_device(
    machine: Path,
    host: FakeHost,
    scene: Scene,
    write_profile: WriteProfile,
    effective: int,
    found: str,
    words: str,
) -> None:
    device = machine / "dev/cpu_dma_latency"
    device.unlink()
    device.write_bytes(struct.pack("=i", 2_000_000_000))
    assert bench.apply(write_profile("[cpu]\nlatency_usec = 5"), scene).ok
    assert device.read_bytes() == struct.pack("=i", 5)
    device.write_bytes(struct.pack("=i", effective))
    (result,) = bench.verify(host)
    assert result.effective == found
    assert result.good is (found == "5")
    assert words in result.reason


def test_a_holder_that_was_killed_is_drift(
    host: FakeHost, scene: Scene, write_profile: WriteProfile
) -> None:
    bench.apply(write_profile("[cpu]\nlatency_usec = 1"), scene)
    holder = hold.living(host.state)
    assert holder is not None
    os.kill(holder.pid, 9)
    with (host.state / hold.FILE).open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # free once it has ended
    (found,) = bench.verify(host)
    assert (found.outcome, found.effective) == (Outcome.IGNORED, "none")
    assert [one.problem for one in bench.revert(host)] == [""]


class Dying(HostExecutor):
    """Dies by SIGKILL with a process detached, before or after that is ready.

    The process's id goes to `note`.
    """

    ready = True
    note = Path()

    def detach(self, argv: Sequence[str], *, timeout_s: float = 10.0) -> int:
        if self.ready:
            pid = super().detach(argv)
        else:
            quiet = subprocess.DEVNULL
            pid = subprocess.Popen(argv, start_new_session=True, stdout=quiet, stderr=quiet).pid
        self.note.write_text(str(pid))
        os.kill(os.getpid(), signal.SIGKILL)
        return 0


def wait_for_end(pid: int) -> None:
    """Returns when there is no such process, or only what its new parent has to reap."""
    for _ in range(2000):
        try:
            text = Path(f"/proc/{pid}/stat").read_text()
        except OSError:
            return
        if text.rpartition(")")[2].split()[0] in "ZX":
            return
        time.sleep(0.01)
    pytest.fail(f"process {pid} lives on")


@pytest.mark.parametrize("ready", [True, False])
def test_a_holder_whose_starter_was_killed_is_ended(
    tmp_path: Path, host: FakeHost, scene: Scene, write_profile: WriteProfile, ready: bool
) -> None:
    note = tmp_path / "pid"
    loaded = write_profile("[cpu]\nlatency_usec = 1")

    def work() -> None:
        host.executor = executor = Dying()
        executor.ready, executor.note = ready, note
        bench.apply(loaded, scene)

    assert was_killed(in_child(work))
    assert ready is False or hold.living(host.state) is not None
    assert [one.problem for one in bench.revert(host) if one.problem] == []
    wait_for_end(int(note.read_text()))


def test_a_holder_without_a_journal_ends_at_once(tmp_path: Path) -> None:
    argv = [sys.executable, hold.__file__, "/dev/null", str(tmp_path), "1"]
    with HostExecutor() as executor, pytest.raises(ProcessError, match="reverted meanwhile"):
        executor.detach([*argv, str(tmp_path / "journal.jsonl")])


def test_a_device_that_refuses_leaves_no_holder(
    machine: Path, host: FakeHost, scene: Scene, write_profile: WriteProfile
) -> None:
    (machine / "dev/cpu_dma_latency").unlink()
    (machine / "dev/cpu_dma_latency").symlink_to("/dev/full")
    applied = bench.apply(write_profile("[cpu]\nlatency_usec = 1"), scene)
    assert not applied.kept
    assert "No space left on device" in applied.results[0].reason
    assert hold.living(host.state) is None
