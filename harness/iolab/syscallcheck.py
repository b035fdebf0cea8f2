"""System calls from a counting pass of their own: the kernel's tracepoints, through perf.

Engines count their own calls in every slice, at no cost; peers do not count at all, and an engine
may forget one. So after the measuring each closed-loop cell is driven for one more slice while
`perf stat` counts the calls that the kernel saw of its server. Tracing costs the server 20 to 30%
of its speed, which is why it is never on in a timed slice; counts per request mind that little.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from signal import SIGINT
from typing import Any

from iolab import kernelstat, stats, store
from iolab.errors import IolabError
from iolab.executor import Executor, ProcessError
from iolab.kernelstat import Observer
from iolab.model import SCHEMA_VERSION, Cell, Plan, Status
from iolab.servers import RunningServer, counter_delta
from iolab.troupe import Stage

_TOTAL = "raw_syscalls:sys_enter"
# Calls that servers make per request or per event; what else they make is in the total only.
_NAMES = (
    "accept4", "close", "epoll_ctl", "epoll_pwait", "epoll_pwait2", "epoll_wait", "futex",
    "io_uring_enter", "newfstat", "newfstatat", "openat", "openat2", "poll", "ppoll", "pread64",
    "read", "readv", "recvfrom", "recvmsg", "sendfile64", "sendmsg", "sendto", "setsockopt",
    "splice", "tee", "vmsplice", "write", "writev",
)  # fmt: skip
_PREFIX = "syscalls:sys_enter_"
_EVENTS = ",".join([_TOTAL, *(f"{_PREFIX}{name}" for name in _NAMES)])
_ANSWER_S = 10.0
_TRACEFS = "/sys/kernel/tracing"


@contextmanager
def mounted_tracefs(executor: Executor, mounts: Path = Path("/proc/self/mounts")) -> Iterator[None]:
    """Tracefs is mounted while it lasts, as far as we may, and unmounted again if it was not.

    Tracepoints have their numbers there. perf mounts it where it is missing and leaves it mounted
    (tracing_path_mount, tools/lib/api/fs/tracing_path.c): a run would change the host.
    """
    there = any(line.split()[2:3] == ["tracefs"] for line in mounts.read_text().splitlines())
    made = not there and _done(executor, ["mount", "-t", "tracefs", "tracefs", _TRACEFS])
    try:
        yield
    finally:
        if made:
            _done(executor, ["umount", _TRACEFS])


def _done(executor: Executor, argv: Sequence[str]) -> bool:
    """Whether a command can be run and ends with 0. Where it cannot, `why_not` has the reason."""
    try:
        return executor.run(argv, timeout_s=20).code == 0
    except ProcessError:
        return False


def why_not(executor: Executor) -> str | None:
    """The reason perf cannot count here, None when it can."""
    if shutil.which("perf") is None:
        return "perf is not installed (apt-get install linux-perf)"
    try:
        done = executor.run(["perf", "stat", "-x", ",", "-e", _TOTAL, "--", "true"], timeout_s=20)
    except ProcessError as error:
        return str(error)
    if done.code == 0 and not _is_refused(done.stderr):
        return None
    words = " ".join(done.stderr.split())[:200]
    return (
        f"perf cannot count {_TOTAL}: {words} (root or CAP_PERFMON, a readable tracefs, and "
        "CONFIG_FTRACE_SYSCALLS are needed)"
    )


def _is_refused(text: str) -> bool:
    return "<not supported>" in text or "<not counted>" in text


class Counting:
    """A running `perf stat` on the processes of a server, counting from entry to exit.

    It is told by its control descriptors when to begin and to end (perf-stat(1), --control; Linux
    5.10), and answers when it does: so nothing is counted but what lies between.
    """

    def __init__(self, executor: Executor, pids: Sequence[int], output: Path) -> None:
        """Attaches without counting; `output` is where perf writes. ProcessError when it fails."""
        argv = [
            "perf", "stat", "-x", ",", "-D", "-1", "--control", "fd:0,1", "-o", str(output),
            "-e", _EVENTS, "-p", ",".join(map(str, pids)),
        ]  # fmt: skip
        self._output = output
        self._process = executor.start(argv, stop_signal=SIGINT)

    def enable(self) -> None:
        """Begins to count."""
        self._command("enable")

    def finish(self) -> dict[str, int]:
        """Ends it and returns the counts by name; `total` is all calls. ProcessError on failure."""
        self._command("disable")
        self._process.stop()
        return parse(self._output.read_text(encoding="utf-8", errors="replace"))

    def stop(self) -> None:
        """Ends it without a result."""
        self._process.stop()

    def _command(self, word: str) -> None:
        self._process.write_line(word)
        # Each answer but the first begins with the NUL that ended the one before.
        answer = self._process.read_line(_ANSWER_S).strip("\0")
        if answer != "ack":
            raise ProcessError(f"perf stat: {word}: expected ack, got {answer!r}")


def parse(text: str) -> dict[str, int]:
    """Counts of a `perf stat -x ,` output; ProcessError when an event was not counted."""
    found: dict[str, int] = {}
    for line in text.splitlines():
        fields = line.split(",")
        if len(fields) < 3 or line.startswith("#"):
            continue
        value, event = fields[0], fields[2]
        if not value.isdigit():
            raise ProcessError(f"perf stat: {event}: {value}")
        found["total" if event == _TOTAL else event.removeprefix(_PREFIX)] = int(value)
    if "total" not in found:
        raise ProcessError(f"perf stat: no count of {_TOTAL} in its output: {text[:200]!r}")
    return {name: nr for name, nr in found.items() if nr or name == "total"}


def check_syscalls(
    executor: Executor,
    stage: Stage,
    plan: Plan,
    servers: Mapping[str, RunningServer],
    cells: Sequence[Cell],
    run_dir: Path,
    observer: Observer | None = None,
) -> None:
    """Counts one slice of each of `cells` into syscalls.jsonl; `observer` reads the switches."""
    with _held_tracepoints(executor):
        for cell in cells:
            record = _one(executor, stage, plan, servers[plan.instance(cell)], cell, observer)
            store.append_jsonl(run_dir / store.SYSCALLS, record)


@contextmanager
def _held_tracepoints(executor: Executor) -> Iterator[None]:
    """Nobody who leaves a tracepoint is the last one while it lasts.

    The last one waits until no CPU can be in the tracepoint's probes any more, once for each event
    (perf_trace_event_unreg, kernel/trace/trace_event_perf.c): so one perf, which counts nothing,
    stays attached to this process. Where it cannot, every counting ends by itself, and later.
    """
    argv = ["perf", "stat", "-D", "-1", "-o", os.devnull, "-e", _EVENTS, "-p", str(os.getpid())]
    try:
        holding = executor.start(argv, stop_signal=SIGINT)
    except ProcessError:
        yield
        return
    try:
        yield
    finally:
        holding.stop()


def futexes_per_sleep(records: Iterable[Mapping[str, Any]]) -> dict[str, float]:
    """Futex calls of the server for each time that one of its threads went to sleep, by cell.

    Both are of the counting slice. It is slower than timed ones; the quotient minds that little.
    """
    found = {}
    for record in records:
        sleeps = (record.get("switches") or {}).get("voluntary", 0)
        if record["status"] == Status.OK and sleeps > 0:
            found[str(record["cell"])] = (record.get("traced") or {}).get("futex", 0) / sleeps
    return found


def _one(
    executor: Executor,
    stage: Stage,
    plan: Plan,
    server: RunningServer,
    cell: Cell,
    observer: Observer | None,
) -> dict[str, Any]:
    """One counted slice as a record, or why there is none."""
    record: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION, "cell": cell.id, "workload": cell.workload.name,
        "server": cell.server.label, "started_unix_ns": time.time_ns(), "status": str(Status.OK),
        "reason": None, "requests": 0, "traced": None, "server_counters": None,
        "switches": None,
    }  # fmt: skip
    if not server.cpu_pids:
        reason = "its processes come and go, and cannot be attached to"
        return record | {"status": str(Status.UNSUPPORTED), "reason": reason}
    try:
        return record | _count(executor, stage, plan, server, cell, observer)
    except (IolabError, OSError) as error:
        return record | {"status": str(Status.FAILED), "reason": str(error)}


def _count(
    executor: Executor,
    stage: Stage,
    plan: Plan,
    server: RunningServer,
    cell: Cell,
    observer: Observer | None,
) -> dict[str, Any]:
    """Drives the slice. The counters of the server are read outside of what perf counts."""
    session = stage.open_load(server, [cell.workload], plan.seed)
    with tempfile.TemporaryDirectory(prefix="iolab-perf-") as folder:
        try:
            counting = Counting(executor, server.cpu_pids, Path(folder) / "counts.csv")
            try:
                before = server.counters()
                counting.enable()
                begin = observer.read(server.cpu_pids, ()) if observer else None
                load = session.slice(cell.workload, plan.warmup_ms, plan.slice_ms)
                end = observer.read(server.cpu_pids, ()) if observer else None
                traced = counting.finish()
            finally:
                counting.stop()
        finally:
            session.close()
    delta = counter_delta(before, server.counters())
    reason = stats.judge_slice(load, None)
    return {
        "status": str(Status.OK if reason is None else Status.INVALID),
        "reason": reason,
        "requests": load["total"]["requests"],
        "traced": traced,
        "server_counters": delta,
        "switches": kernelstat.difference(begin, end)["server"] if begin and end else None,
    }
