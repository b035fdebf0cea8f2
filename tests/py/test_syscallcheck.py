"""The pass that counts system calls: perf is told when to count, its output is taken apart."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, cast

import pytest

from iolab import store
from iolab.executor import Completed, ProcessError
from iolab.fake_executor import FakeExecutor, FakeProcess
from iolab.kernelstat import Reading
from iolab.model import Cell, Plan, Server, Workload
from iolab.report.syscalls import rows
from iolab.servers import RunningServer
from iolab.syscallcheck import (
    check_syscalls,
    futexes_per_sleep,
    mounted_tracefs,
    parse,
    why_not,
)
from iolab.troupe import Stage

OUTPUT = """# started on Sat Nov 21 09:38:44 2026

303,,raw_syscalls:sys_enter,88682963,100.00,,
100,,syscalls:sys_enter_recvfrom,88682963,100.00,,
0,,syscalls:sys_enter_sendto,88682963,100.00,,
"""
CELL = Cell(Server("engine", "epoll"), Workload("1KiB", 1024, 2))
PLAN = Plan("p", "", "epoll", (CELL,), slice_ms=100, warmup_ms=10)


class FakePerf:
    """Writes what perf would, and notes with the others what happens when."""

    def __init__(self, output: str = OUTPUT, answers: Sequence[str] = ("ack", "\0ack")) -> None:
        self.events: list[str] = []
        self.output, self.answers = output, list(answers)
        self.argv: tuple[str, ...] = ()

    def executor(self) -> FakeExecutor:
        def start(argv: Sequence[str], pid: int) -> FakeProcess:
            self.argv = tuple(argv)
            Path(argv[argv.index("-o") + 1]).write_text(self.output)
            return FakeProcess(tuple(argv), pid, [], self.answer, "no permission")

        return FakeExecutor(start=start)

    def answer(self, line: str) -> Iterable[str]:
        self.events.append(line)
        return [self.answers.pop(0)] if self.answers else []


class FakeSession:
    def __init__(self, events: list[str]) -> None:
        self.events = events

    def slice(self, workload: Workload, warmup_ms: int, duration_ms: int) -> dict[str, Any]:
        self.events.append("slice")
        return {
            "window": {"ns": 1, "requests": 90}, "total": {"requests": 100, "body_bytes": 1},
            "errors": {},
        }  # fmt: skip

    def close(self) -> None:
        self.events.append("close")


class FakeServer:
    def __init__(self, events: list[str], pids: tuple[int, ...] = (7, 8)) -> None:
        self.events, self.cpu_pids, self.nr = events, pids, 0

    def counters(self) -> dict[str, Any]:
        self.events.append("counters")
        self.nr += 301
        return {"requests": self.nr, "syscalls": {"recv": self.nr - 1}}


class FakeStage:
    def __init__(self, events: list[str]) -> None:
        self.events = events

    def open_load(self, server: object, workloads: Sequence[Workload], seed: int) -> FakeSession:
        self.events.append("open")
        return FakeSession(self.events)


class FakeObserver:
    """40 sleeps between two readings of a server's two threads."""

    def __init__(self, events: list[str]) -> None:
        self.events, self.nr = events, 0

    def read(
        self, server: Sequence[int], client: Sequence[int], resident: int | None = None
    ) -> Reading:
        self.events.append("read")
        self.nr += 20
        threads = {str(pid): {"voluntary": self.nr} for pid in server}
        return Reading(self.nr, {"server": threads, "client": {}}, {})


def check(perf: FakePerf, run_dir: Path, pids: tuple[int, ...] = (7, 8)) -> dict[str, Any]:
    server = cast(RunningServer, FakeServer(perf.events, pids))
    stage = cast(Stage, FakeStage(perf.events))
    observer = FakeObserver(perf.events)
    check_syscalls(perf.executor(), stage, PLAN, {"epoll": server}, [CELL], run_dir, observer)
    (record,) = store.read_jsonl(run_dir / store.SYSCALLS)
    return record


def test_only_the_slice_is_counted(tmp_path: Path) -> None:
    perf = FakePerf()
    record = check(perf, tmp_path)
    assert perf.events == [
        "open", "counters", "enable", "read", "slice", "read", "disable", "close", "counters",
    ]  # fmt: skip
    assert record["switches"] == {"threads": 2, "voluntary": 40}
    assert perf.argv[perf.argv.index("-p") + 1] == "7,8"
    assert record["status"] == "ok"
    assert record["requests"] == 100
    assert record["traced"] == {"total": 303, "recvfrom": 100}
    assert record["server_counters"]["syscalls"] == {"recv": 301}
    assert not Path(perf.argv[perf.argv.index("-o") + 1]).parent.exists()


@pytest.mark.parametrize(
    ("perf", "words"),
    [
        (FakePerf(answers=[]), "no permission"),
        (FakePerf(answers=["what"]), "enable: expected ack, got 'what'"),
        (FakePerf(output="<not counted>,,raw_syscalls:sys_enter,0,0.0,,"), "<not counted>"),
        (FakePerf(output=""), "no count of raw_syscalls:sys_enter"),
    ],
)
def test_a_failure_is_a_record_with_its_reason(perf: FakePerf, words: str, tmp_path: Path) -> None:
    record = check(perf, tmp_path)
    assert record["status"] == "failed"
    assert words in record["reason"]
    assert record["traced"] is None
    assert perf.events[-1] == "close"


def test_processes_that_come_and_go_are_not_attached_to(tmp_path: Path) -> None:
    perf = FakePerf()
    record = check(perf, tmp_path, pids=())
    assert record["status"] == "unsupported"
    assert perf.events == []


@pytest.mark.parametrize(
    ("mounts", "code", "wanted"),
    [
        ("none /sys/kernel/tracing tracefs rw 0 0\n", 0, []),
        ("proc /proc proc rw 0 0\n", 0, ["mount", "umount"]),
        ("tracefs /somewhere ext4 rw 0 0\n", 0, ["mount", "umount"]),
        ("", 32, ["mount"]),  # not allowed: then there is nothing of ours to undo
    ],
)
def test_tracefs_is_left_as_it_was_found(
    tmp_path: Path, mounts: str, code: int, wanted: list[str]
) -> None:
    (tmp_path / "mounts").write_text(mounts)
    fake = FakeExecutor(run=lambda argv: Completed(tuple(argv), code, "", ""))
    with (
        pytest.raises(ZeroDivisionError),
        mounted_tracefs(fake, tmp_path / "mounts"),
    ):
        raise ZeroDivisionError  # whatever happens in between
    assert [argv[0] for argv in fake.ran] == wanted
    assert all(argv[-1] == "/sys/kernel/tracing" for argv in fake.ran)


def test_tracepoints_are_held_from_the_first_cell_to_the_last(tmp_path: Path) -> None:
    """Else each counting would be the last to leave them, and wait for it."""
    perf = FakePerf(answers=("ack", "\0ack") * 2)
    executor = perf.executor()
    server = cast(RunningServer, FakeServer(perf.events))
    stage = cast(Stage, FakeStage(perf.events))
    check_syscalls(executor, stage, PLAN, {"epoll": server}, [CELL, CELL], tmp_path)
    holding, *counting = executor.started
    assert len(counting) == 2
    events = {one.argv[one.argv.index("-e") + 1] for one in executor.started}
    assert len(events) == 1, "the same ones, or the wait is there again"
    assert holding.argv[holding.argv.index("-p") + 1] == str(os.getpid())
    assert holding.argv[holding.argv.index("-D") + 1] == "-1", "it counts nothing"
    assert not any(one.alive() for one in executor.started)


def test_what_cannot_hold_tracepoints_is_no_failure(tmp_path: Path) -> None:
    perf = FakePerf()
    fake = perf.executor()

    class Refusing(FakeExecutor):
        def start(self, argv: Sequence[str], **how: Any) -> Any:
            if str(os.getpid()) in argv:
                raise ProcessError("perf: cannot be started")
            return fake.start(argv, **how)

    server = cast(RunningServer, FakeServer(perf.events))
    stage = cast(Stage, FakeStage(perf.events))
    check_syscalls(Refusing(), stage, PLAN, {"epoll": server}, [CELL], tmp_path)
    (record,) = store.read_jsonl(tmp_path / store.SYSCALLS)
    assert record["status"] == "ok"


def test_counts_by_name() -> None:
    assert parse(OUTPUT) == {"total": 303, "recvfrom": 100}
    with pytest.raises(ProcessError, match="not supported"):
        parse("<not supported>,,raw_syscalls:sys_enter,0,100.00,,")


def test_without_the_right_to_count_the_reason_names_the_remedy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("shutil.which", lambda name: "/usr/bin/perf")
    refused = FakeExecutor(run=lambda argv: Completed(tuple(argv), 255, "", "No permission\nto x"))
    reason = why_not(refused)
    assert reason is not None
    assert "No permission to x" in reason
    assert "CAP_PERFMON" in reason
    fine = FakeExecutor(run=lambda argv: Completed(tuple(argv), 0, "", "29,,raw_syscalls"))
    assert why_not(fine) is None
    lacking = "<not supported>,,raw_syscalls:sys_enter"
    assert why_not(FakeExecutor(run=lambda argv: Completed(tuple(argv), 0, "", lacking)))
    monkeypatch.setattr("shutil.which", lambda name: None)
    assert "linux-perf" in (why_not(fine) or "")


def test_futexes_are_counted_for_each_sleep() -> None:
    good = {"cell": "a@w", "status": "ok", "traced": {"total": 9, "futex": 60},
            "switches": {"threads": 2, "voluntary": 40}}  # fmt: skip
    assert futexes_per_sleep([good]) == {"a@w": 1.5}
    assert futexes_per_sleep([good | {"traced": {"total": 9}}]) == {"a@w": 0.0}
    for lack in ({"switches": None}, {"switches": {"threads": 1, "voluntary": 0}}, {"status": "x"}):
        assert futexes_per_sleep([good | lack]) == {}


def record(traced: int, counted: int | None, **changes: Any) -> dict[str, Any]:
    counters = None if counted is None else {"syscalls": {"recv": counted}}
    return {
        "cell": "epoll@1KiB", "workload": "1KiB", "server": "epoll", "status": "ok", "reason": None,
        "requests": 1000, "traced": {"total": traced, "recvfrom": 1000, "futex": 1},
        "server_counters": counters, **changes,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("traced", "counted", "note"),
    [
        (3020, 3000, "agree"),
        (3000, 3050, "agree"),
        (50, 65, "agree"),
        (4000, 3000, "1 per request not counted"),
        (3000, 3500, "0.5 per request counted too many"),
        (3000, None, "counts none of its own"),
    ],
)
def test_the_two_counts_are_compared(traced: int, counted: int | None, note: str) -> None:
    (row,) = rows([record(traced, counted)])
    assert row.note == note
    assert row.traced == traced / 1000


def test_rows_hold_the_mix_and_the_last_record_of_a_cell() -> None:
    (row,) = rows([record(9000, 9000), record(3000, 3000)])
    assert [name for name, _ in row.mix] == ["other", "recvfrom"]
    assert row.mix[0][1] == pytest.approx(1.999)
    (row,) = rows([record(1, 1, status="failed", reason="gone")])
    assert (row.traced, row.note) == (None, "gone")
