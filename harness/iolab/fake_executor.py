"""An executor that starts nothing: tests say what each command prints and answers."""

from __future__ import annotations

import itertools
import signal
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from iolab.executor import Bounds, Completed, Process, ProcessError

Answer = Callable[[str], Iterable[str]]


@dataclass
class FakeProcess:
    """A pretended child: prints `lines`, then for each line written whatever `answer` yields.

    When `answer` raises ProcessError the child counts as dead from then on.
    """

    argv: tuple[str, ...]
    pid: int
    lines: list[str]
    answer: Answer
    words: str = ""
    running: bool = True
    written: list[str] = field(default_factory=list)

    def alive(self) -> bool:
        """See Process."""
        return self.running

    def write_line(self, line: str) -> None:
        """See Process."""
        if not self.running:
            raise ProcessError(f"{self.argv[0]}: does not take commands")
        self.written.append(line)
        try:
            self.lines += self.answer(line)
        except ProcessError:
            self.running = False

    def read_line(self, timeout_s: float) -> str:
        """See Process; an empty queue reads as the end of the process."""
        if not self.lines:
            self.running = False
            raise ProcessError(f"{self.argv[0]}: ended; its last words: {self.words}")
        return self.lines.pop(0)

    def last_words(self) -> str:
        """See Process."""
        return self.words

    def stop(self, timeout_s: float = 5.0) -> int:
        """See Process."""
        self.running = False
        return 0


class FakeExecutor:
    """Answers `run` and `start` through two functions of argv."""

    def __init__(
        self,
        run: Callable[[Sequence[str]], Completed] | None = None,
        start: Callable[[Sequence[str], int], FakeProcess] | None = None,
    ) -> None:
        """`start` also gets the pretended process id."""
        self._run = run
        self._start = start
        self._pids = itertools.count(1000)
        self.started: list[FakeProcess] = []
        self.ran: list[tuple[str, ...]] = []

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
        self.ran.append(tuple(argv))
        if self._run is None:
            raise ProcessError(f"{argv[0]}: cannot be started: fake")
        return self._run(argv)

    def stream(
        self, argv: Sequence[str], *, cwd: Path | None = None, env: Mapping[str, str] | None = None
    ) -> int:
        """See Executor."""
        return self.run(argv).code

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
        if self._start is None:
            raise ProcessError(f"{argv[0]}: cannot be started: fake")
        process = self._start(argv, next(self._pids))
        self.started.append(process)
        return process

    def detach(self, argv: Sequence[str], *, timeout_s: float = 10.0) -> int:
        """See Executor."""
        return self.start(argv).pid

    def close(self) -> None:
        """See Executor."""
        for process in self.started:
            process.stop()
