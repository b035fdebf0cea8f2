"""The only module that starts processes, and the one that ends them.

Every child leads a session and process group of its own, so that the terminal's Ctrl-C reaches the
harness alone, which then stops what it started, by id. A child dies with the harness even when
that is killed with SIGKILL (PR_SET_PDEATHSIG). A group is killed while its leader is still
unreaped: its id cannot have been given to anybody else.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import selectors
import shlex
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Protocol

from iolab.errors import IolabError

_PR_SET_PDEATHSIG = 1
_TAIL_BYTES = 4096
_POLL_S = 0.005
_LIBC = ctypes.CDLL(None, use_errno=True)  # bound here: nothing may be imported after fork


class ProcessError(IolabError):
    """A process that did not start, died or did not answer; the message holds its last words."""


@dataclass(frozen=True)
class Completed:
    """A process that has ended. `code` is negative for a signal, as in subprocess."""

    argv: tuple[str, ...]
    code: int
    stdout: str
    stderr: str


@dataclass(frozen=True)
class Bounds:
    """What a child is put into before it executes its program.

    `join` are files of control groups (cgroup.procs); `data_bytes` is its RLIMIT_DATA: private
    writable memory of each of its processes, None for no limit of ours.
    """

    join: tuple[Path, ...] = ()
    data_bytes: int | None = None


class Process(Protocol):
    """A running child with line-wise pipes on stdin and stdout."""

    @property
    def pid(self) -> int:
        """Process id, also the id of its group."""

    def alive(self) -> bool:
        """False once the process has ended."""

    def write_line(self, line: str) -> None:
        """Sends one line to stdin; ProcessError when nobody reads it any more."""

    def read_line(self, timeout_s: float) -> str:
        """One line of stdout without its end; ProcessError on end of file or after the time."""

    def last_words(self) -> str:
        """The end of what it wrote to stderr."""

    def stop(self, timeout_s: float = 5.0) -> int:
        """Ends it and its group: the stop signal, SIGKILL after the time. Returns its code."""


class Executor(Protocol):
    """Starts processes; leaving its context ends all that still run."""

    def run(
        self,
        argv: Sequence[str],
        *,
        timeout_s: float = 60.0,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
        cpus: Sequence[int] | None = None,
    ) -> Completed:
        """Runs to the end. ProcessError when it cannot start or exceeds the time."""

    def stream(
        self, argv: Sequence[str], *, cwd: Path | None = None, env: Mapping[str, str] | None = None
    ) -> int:
        """Runs to the end with our stdout and stderr. Returns its code."""

    def start(
        self,
        argv: Sequence[str],
        *,
        cwd: Path | None = None,
        cpus: Sequence[int] | None = None,
        stop_signal: int = signal.SIGTERM,
        death_signal: int = signal.SIGKILL,
        mute: bool = False,
        bounds: Bounds | None = None,
    ) -> Process:
        """Starts a child that stays. `death_signal` is what it gets when the harness dies.

        A child with children of its own needs one that makes it end them (SIGTERM). `mute` discards
        its stdout: nobody reads it, and a full pipe would stop the child. ProcessError when the
        child cannot be put into its `bounds`.
        """

    def detach(self, argv: Sequence[str], *, timeout_s: float = 10.0) -> int:
        """Starts a process that outlives the harness, and waits until it prints a line.

        Returns its id. ProcessError, with its words, when it ends or stays silent instead.
        """

    def close(self) -> None:
        """Ends all children that still run, the newest first."""


class HostExecutor:
    """The executor that really starts processes on this host."""

    def __init__(self) -> None:
        self._children: list[_Child] = []

    def run(
        self,
        argv: Sequence[str],
        *,
        timeout_s: float = 60.0,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
        cpus: Sequence[int] | None = None,
    ) -> Completed:
        """See Executor."""
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            process = _popen(
                argv, subprocess.DEVNULL, out, err, cwd, env, _prepare(signal.SIGTERM, cpus)
            )
            child = _Child(process, argv, err, signal.SIGTERM)
            self._children.append(child)
            try:
                if not child.wait_end(timeout_s):
                    child.stop()
                    raise ProcessError(
                        f"{_show(argv)}: not finished after {timeout_s:g} s\n{child.last_words()}"
                    )
                code = child.stop()
            finally:
                child.stop()
                self._children.remove(child)
            return Completed(tuple(argv), code, _text(out), _text(err))

    def stream(
        self, argv: Sequence[str], *, cwd: Path | None = None, env: Mapping[str, str] | None = None
    ) -> int:
        """See Executor."""
        process = _popen(
            argv, subprocess.DEVNULL, None, None, cwd, env, _prepare(signal.SIGTERM, None)
        )
        child = _Child(process, argv, None, signal.SIGTERM)
        self._children.append(child)
        try:
            child.wait_end(None)
            return child.stop()
        finally:
            child.stop()
            self._children.remove(child)

    def start(
        self,
        argv: Sequence[str],
        *,
        cwd: Path | None = None,
        cpus: Sequence[int] | None = None,
        stop_signal: int = signal.SIGTERM,
        death_signal: int = signal.SIGKILL,
        mute: bool = False,
        bounds: Bounds | None = None,
    ) -> Process:
        """See Executor."""
        err = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the child
        prepare = _prepare(death_signal, cpus, bounds)
        try:
            out = subprocess.DEVNULL if mute else subprocess.PIPE
            process = _popen(argv, subprocess.PIPE, out, err, cwd, None, prepare)
        except BaseException:
            err.close()
            raise
        child = _Child(process, argv, err, stop_signal)
        self._children.append(child)
        return child

    def detach(self, argv: Sequence[str], *, timeout_s: float = 10.0) -> int:
        """See Executor."""
        err = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the child
        try:
            process = _popen(argv, subprocess.PIPE, subprocess.PIPE, err, None, None, _nothing)
        except BaseException:
            err.close()
            raise
        child = _Child(process, argv, err, signal.SIGTERM)
        try:
            child.read_line(timeout_s)
        except BaseException:
            child.stop()
            raise
        return child.let_go()

    def close(self) -> None:
        """See Executor. All get their stop signal before any is waited for."""
        children, self._children = self._children[::-1], []
        for child in children:
            child.ask_to_stop()
        for child in children:
            child.stop()

    def __enter__(self) -> HostExecutor:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


class _Child:
    """A child process; implements Process."""

    def __init__(
        self,
        process: subprocess.Popen[bytes],
        argv: Sequence[str],
        err: IO[bytes] | None,
        stop_signal: int,
    ) -> None:
        self._process = process
        self._argv = tuple(argv)
        self._err = err
        self._stop_signal = stop_signal
        self._unread = bytearray()
        self._words = ""

    @property
    def pid(self) -> int:
        return self._process.pid

    def alive(self) -> bool:
        return self._process.returncode is None and not self._ended()

    def write_line(self, line: str) -> None:
        pipe = self._process.stdin
        assert pipe is not None, "started without pipes"
        try:
            pipe.write(line.encode() + b"\n")
            pipe.flush()
        except (OSError, ValueError) as error:
            raise ProcessError(self._complaint(f"does not take commands ({error})")) from error

    def read_line(self, timeout_s: float) -> str:
        pipe = self._process.stdout
        assert pipe is not None, "started without pipes"
        deadline = time.monotonic() + timeout_s
        with selectors.DefaultSelector() as selector:
            selector.register(pipe, selectors.EVENT_READ)
            while (end := self._unread.find(b"\n")) < 0:
                left = deadline - time.monotonic()
                if left <= 0 or not selector.select(left):
                    raise ProcessError(self._complaint(f"said nothing for {timeout_s:g} s"))
                chunk = os.read(pipe.fileno(), 1 << 16)
                if not chunk:
                    self.wait_end(1.0)
                    raise ProcessError(self._complaint("ended"))
                self._unread += chunk
        line = self._unread[:end].decode(errors="replace")
        del self._unread[: end + 1]
        return line

    def last_words(self) -> str:
        if self._err is None or self._err.closed:
            return self._words
        size = os.fstat(self._err.fileno()).st_size
        start = max(0, size - _TAIL_BYTES)
        tail = os.pread(self._err.fileno(), _TAIL_BYTES, start)
        return tail.decode(errors="replace").strip()

    def wait_end(self, timeout_s: float | None) -> bool:
        """Waits without reaping; False when the time (None: no bound) is over first."""
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        pause = _POLL_S
        while not self._ended():
            if deadline is not None and time.monotonic() >= deadline:
                return False
            time.sleep(pause)
            pause = min(pause * 1.5, 0.1)
        return True

    def ask_to_stop(self) -> None:
        """Sends the stop signal to the leader, which ends its own children."""
        if self.alive():
            os.kill(self.pid, self._stop_signal)

    def stop(self, timeout_s: float = 5.0) -> int:
        if self._process.returncode is None:
            self.ask_to_stop()
            self.wait_end(timeout_s)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)
            self._process.wait()
            self._close_pipes()
        return int(self._process.returncode)

    def let_go(self) -> int:
        """Leaves it running on its own and returns its id; it is not waited for any more."""
        self._close_pipes()
        # Its exit is nobody's business here; Popen would warn of a child it did not see end.
        self._process.returncode = 0
        return self.pid

    def _close_pipes(self) -> None:
        self._words = self.last_words()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()
        # Who has a pipe to stdin was started to stay, and its file for stderr is ours.
        if self._process.stdin is not None and self._err is not None:
            self._err.close()

    def _ended(self) -> bool:
        """True once the leader is a zombie (or reaped): looked at, not reaped."""
        if self._process.returncode is not None:
            return True
        flags = os.WEXITED | os.WNOHANG | os.WNOWAIT
        return os.waitid(os.P_PID, self.pid, flags) is not None

    def _complaint(self, what: str) -> str:
        words = self.last_words()
        return f"{_show(self._argv)}: {what}" + (f"; its last words: {words}" if words else "")


def _popen(
    argv: Sequence[str],
    stdin: int | None,
    stdout: int | IO[bytes] | None,
    stderr: int | IO[bytes] | None,
    cwd: Path | None,
    env: Mapping[str, str] | None,
    prepare: Callable[[], None],
) -> subprocess.Popen[bytes]:
    """Starts a child in a session of its own; ProcessError when it cannot be started."""
    try:
        return subprocess.Popen(
            list(argv),
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            cwd=cwd,
            env=None if env is None else {**os.environ, **env},
            preexec_fn=prepare,
            start_new_session=True,
        )
    except OSError as error:
        raise ProcessError(f"{_show(argv)}: cannot be started: {error.strerror}") from error
    except subprocess.SubprocessError as error:  # from `prepare`, which says no more
        raise ProcessError(f"{_show(argv)}: its CPUs, groups or limits are refused") from error


def _nothing() -> None:
    """What a detached child does between fork and exec."""


def _prepare(
    death_signal: int, cpus: Sequence[int] | None, bounds: Bounds | None = None
) -> Callable[[], None]:
    """What a child does between fork and exec: ask to die with its parent, enter its bounds."""
    parent = os.getpid()
    bounds = bounds or Bounds()
    join = [str(path) for path in bounds.join]
    data_bytes = bounds.data_bytes

    def prepare() -> None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, death_signal, 0, 0, 0)
        if os.getppid() != parent:  # the parent died before the request was in force
            os._exit(127)
        if cpus:
            os.sched_setaffinity(0, cpus)
        for procs in join:
            group = os.open(procs, os.O_WRONLY)
            os.write(group, b"0\n")
            os.close(group)
        if data_bytes is not None:
            resource.setrlimit(resource.RLIMIT_DATA, (data_bytes, data_bytes))

    return prepare


def _show(argv: Sequence[str]) -> str:
    """The command as a reader would type it, cut to a readable length."""
    text = shlex.join([Path(argv[0]).name, *argv[1:]])
    return text if len(text) <= 160 else f"{text[:160]}..."


def _text(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode(errors="replace")
