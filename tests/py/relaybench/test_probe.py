from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from iolab.executor import ProcessError
from iolab.relaybench.probe import Probe, Sampler, settled

ROLLUP = "5581-7fff ---p 00000000 00:00 0 [rollup]\nRss:       2048 kB\nPss:  1 kB\n"
STATUS = "Name:\tx\nVmHWM:\t   4096 kB\nVmRSS:\t   1024 kB\n"


class FakeServer:
    """Counters that grow with each question."""

    cpu_pids = (7,)

    def __init__(self, fail_after: int = 10**9) -> None:
        self.asked = 0
        self._fail_after = fail_after

    def counters(self) -> dict[str, Any]:
        if self.asked >= self._fail_after:
            raise ProcessError("control socket: closed by the server")
        self.asked += 1
        return {"relayed_bytes": self.asked - 1, "pipes": 2, "pipe_bytes": 9, "connections": 3}

    def status(self) -> dict[str, Any]:
        return {"transfers": [{}, {}]}


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    """A /proc with one process, 7."""
    (tmp_path / "7/fd").mkdir(parents=True)
    for name in ("0", "1", "2"):
        (tmp_path / "7/fd" / name).touch()
    (tmp_path / "7/smaps_rollup").write_text(ROLLUP)
    (tmp_path / "7/status").write_text(STATUS)
    (tmp_path / "7/clear_refs").touch()
    return tmp_path


def test_memory_is_the_sum_over_the_pages_where_the_kernel_gives_it(proc: Path) -> None:
    probe = Probe(FakeServer(), proc)
    assert probe.resident_bytes() == 2 << 20
    (proc / "7/smaps_rollup").unlink()
    assert probe.resident_bytes() == 1 << 20


def test_the_peak_begins_anew(proc: Path) -> None:
    probe = Probe(FakeServer(), proc)
    assert probe.reset_peak()
    assert (proc / "7/clear_refs").read_text() == "5\n"
    assert probe.peak_bytes() == 4 << 20
    assert not Probe(FakeServer(), proc / "none").reset_peak()


def test_what_could_be_left_over(proc: Path) -> None:
    assert Probe(FakeServer(), proc).count() == {
        "resident_bytes": 2 << 20, "descriptors": 3, "connections": 3, "pipes": 2, "transfers": 2,
    }  # fmt: skip


def test_a_server_that_is_gone(proc: Path) -> None:
    probe = Probe(FakeServer(), proc / "none")
    for ask in (probe.resident_bytes, probe.descriptors, probe.peak_bytes):
        with pytest.raises(ProcessError, match="No such file"):
            ask()
    (proc / "7/status").write_text("nothing\n")
    with pytest.raises(ProcessError, match="no line VmHWM"):
        Probe(FakeServer(), proc).peak_bytes()


def test_the_sampler_reads_until_its_context_ends(proc: Path) -> None:
    server = FakeServer()
    with Sampler(Probe(server, proc), 0.001) as sampler:
        assert settled(lambda: server.asked >= 3, 20)
    found = sampler.readings
    assert [one.relayed_bytes for one in found] == list(range(len(found)))
    assert found[0].resident_bytes == 2 << 20
    assert [one.t_ns for one in found] == sorted(one.t_ns for one in found)


def test_the_sampler_tells_why_it_stopped(proc: Path) -> None:
    with Sampler(Probe(FakeServer(fail_after=2), proc), 0.001) as sampler:
        assert settled(lambda: sampler._error is not None, 20)
    with pytest.raises(ProcessError, match="closed by the server"):
        _ = sampler.readings


def test_settled_gives_up() -> None:
    assert not settled(lambda: False, 0.01, 0.001)
