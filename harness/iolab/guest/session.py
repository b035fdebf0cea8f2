"""One guest from start to end: its share, its process, its output while it runs, its status.

The guest's end is QEMU's end. Whatever happens in between (time over, Ctrl-C, an error), QEMU is
ended by its process id; its taps go with its network namespace, its share with `run_job`.
"""

from __future__ import annotations

import os
import shlex
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from iolab.errors import IolabError
from iolab.executor import Executor, Process
from iolab.guest.accelerator import kvm_works
from iolab.guest.initramfs import ensure_initramfs
from iolab.guest.machine import Machine, command
from iolab.guest.parts import Parts
from iolab.guest.share import LIMIT_BYTES, ShareError, read_file, read_files, require_room

_POLL_S = 0.05
_CHUNK_BYTES = 1 << 20
_PREFIX = "iolab-guest-"
_HERE = Path(__file__)


class GuestError(IolabError):
    """A guest that did not start, did not end in time or died; the message has its last words."""


@dataclass(frozen=True)
class Job:
    """What a guest is to do. `script` is a POSIX shell script, run as root in `/run/iolab`."""

    script: str
    files: dict[str, bytes] = field(default_factory=dict)
    """Put beside it in the share, by file name."""
    interface: str = "eth0"
    """What the guest's virtio NIC is called."""
    outside: tuple[str, ...] = ()
    """A command on the other end of its wire (`machine.OUTSIDE_HOST`), while the guest lives."""
    without: tuple[str, ...] = ()
    """Kernel modules that cannot be loaded."""
    timeout_s: float = 300.0
    """Bound for everything, the boot included."""
    emulate: bool = False
    """Software emulation even where KVM works."""


@dataclass(frozen=True)
class Outcome:
    """How a job ended. `files` are what it left in the share."""

    status: int
    stdout: bytes
    stderr: bytes
    files: dict[str, bytes]


@dataclass(frozen=True)
class Terminal:
    """The terminal of an interactive guest: `relay` moves bytes between a socket's path and it."""

    name: str
    rows: int
    columns: int
    relay: Callable[[Path, Callable[[], bool]], None]


Sink = Callable[[str, bytes], None]
"""Gets output as it comes: the name of the stream, `stdout` or `stderr`, and new bytes."""


def run_job(executor: Executor, parts: Parts, job: Job, sink: Sink | None = None) -> Outcome:
    """Boots a guest, runs the job in it and waits for its end; GuestError when it gives none."""
    with _workplace() as place:
        share = _fill_share(place, parts, job)
        machine = _machine(executor, parts, job, place)
        process = executor.start(command(machine), mute=True)
        try:
            _follow(process, machine, job.timeout_s, sink or _discard)
        finally:
            process.stop()
        return _outcome(share, process, machine)


def open_shell(executor: Executor, parts: Parts, job: Job, terminal: Terminal) -> int:
    """Boots a guest with a shell on the terminal; the shell's exit status, GuestError if none."""
    with _workplace() as place:
        share = _fill_share(place, parts, job, terminal)
        machine = _machine(executor, parts, job, place, place / "terminal")
        process = executor.start(command(machine), mute=True)
        try:
            _await_socket(process, machine)
            terminal.relay(place / "terminal", process.alive)
            _follow(process, machine, job.timeout_s, _discard)
        finally:
            process.stop()
        return _outcome(share, process, machine).status


@contextmanager
def _workplace() -> Iterator[Path]:
    """A private directory for sockets, logs and the share; removes those of killed harnesses."""
    _sweep(Path(tempfile.gettempdir()))
    place = Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getpid()}-"))
    try:
        yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)


def _sweep(directory: Path) -> None:
    """Removes what harnesses left that could not: their process is gone, and so is its guest."""
    for left in directory.glob(f"{_PREFIX}*"):
        pid = left.name.removeprefix(_PREFIX).partition("-")[0]
        if pid.isdigit() and not Path("/proc", pid).exists():
            shutil.rmtree(left, ignore_errors=True)


def _fill_share(place: Path, parts: Parts, job: Job, terminal: Terminal | None = None) -> Path:
    share = place / "share"
    share.mkdir()
    shutil.copy(_HERE.with_name("second.sh"), share / "second.sh")
    (share / "job").write_text(job.script)
    for name, content in job.files.items():
        (share / name).write_bytes(content)
    (share / "settings").write_text(settings(parts, job, terminal))
    return share


def settings(parts: Parts, job: Job, terminal: Terminal | None = None) -> str:
    """Shell assignments that second.sh reads."""
    values = {
        "MODULES": str(parts.modules),
        "INTERFACE": job.interface,
        "WITHOUT": " ".join(job.without),
    }
    if terminal is not None:
        values |= {
            "INTERACTIVE": "yes",
            "TERMINAL": terminal.name,
            "ROWS": str(terminal.rows),
            "COLUMNS": str(terminal.columns),
        }
    return "".join(f"{name}={shlex.quote(value)}\n" for name, value in values.items())


def _machine(
    executor: Executor, parts: Parts, job: Job, place: Path, terminal: Path | None = None
) -> Machine:
    return Machine(
        parts,
        ensure_initramfs(parts),
        place / "share",
        place / "console",
        terminal,
        kvm=not job.emulate and kvm_works(executor, parts),
        outside=job.outside,
        user_namespace=os.geteuid() != 0,
    )


def _await_socket(process: Process, machine: Machine) -> None:
    assert machine.terminal is not None
    while not machine.terminal.exists():
        if not process.alive():
            raise _dead(process, machine, "ended before it began")
        time.sleep(_POLL_S)


def _follow(process: Process, machine: Machine, timeout_s: float, sink: Sink) -> None:
    """Hands output on until QEMU has ended; GuestError when the time or the room is over first."""
    deadline = time.monotonic() + timeout_s
    seen = {"stdout": 0, "stderr": 0}
    while True:
        alive = process.alive()
        more = [_hand_on(machine.share, seen, stream, sink) for stream in seen]
        try:
            require_room(machine.share, machine.console)
        except ShareError as error:
            raise _dead(process, machine, error.message) from error
        if max(seen.values()) > LIMIT_BYTES:  # a file with holes takes no room
            raise _dead(process, machine, f"printed more than {LIMIT_BYTES >> 20} MiB")
        if any(more):
            continue
        if not alive:
            return
        if time.monotonic() > deadline:
            raise _dead(process, machine, f"did not end within {timeout_s:g} s (--timeout)")
        time.sleep(_POLL_S)


def _hand_on(share: Path, seen: dict[str, int], stream: str, sink: Sink) -> bool:
    """Hands on what is new, a chunk at most; True when there may be more."""
    new = read_file(share / stream, seen[stream], _CHUNK_BYTES)
    seen[stream] += len(new)
    if new:
        sink(stream, new)
    return len(new) == _CHUNK_BYTES


def _discard(stream: str, data: bytes) -> None:
    pass


def _outcome(share: Path, process: Process, machine: Machine) -> Outcome:
    try:
        files = read_files(share)
    except ShareError as error:
        raise _dead(process, machine, error.message) from error
    status = files.get("status", b"").strip()
    if not status.isdigit():
        raise _dead(process, machine, "ended without a result")
    return Outcome(int(status), files.get("stdout", b""), files.get("stderr", b""), files)


def _dead(process: Process, machine: Machine, what: str) -> GuestError:
    """What QEMU and the guest's kernel said last."""
    log = _end_of(machine.console)
    lines = [*process.last_words().splitlines(), *log.splitlines()][-12:]
    shown = "".join(f"\n    | {line}" for line in lines if line.strip())
    return GuestError(f"the guest {what}{shown}")


def _end_of(log: Path) -> str:
    """The last lines of what the guest's kernel and its serial line said."""
    try:
        start = max(0, log.stat().st_size - _CHUNK_BYTES)
    except FileNotFoundError:
        return ""
    return read_file(log, start, _CHUNK_BYTES).decode(errors="replace")
