"""What a script did, told from its trace: attempts at knobs, commands, touched files, limits."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field

from iolab.trial.intents import PROGRAMS, intents, sysctl_sets
from iolab.trial.trace import Call, End, Event, strings, unquote

_WRITES = re.compile(r"O_WRONLY|O_RDWR")
_OPENS = {"open": 0, "creat": 0, "openat": 1, "openat2": 1}
_LOOKUPS = {"stat": 0, "access": 0, "newfstatat": 1, "faccessat": 1, "faccessat2": 1}
_CHANGES = {
    "unlink": 0, "rmdir": 0, "mkdir": 0, "chmod": 0, "chown": 0, "truncate": 0, "rename": 1,
    "unlinkat": 1, "mkdirat": 1, "fchmodat": 1, "fchownat": 1, "renameat": 3, "renameat2": 3,
    "symlink": 1, "link": 1, "symlinkat": 2, "linkat": 3, "mount": 1, "umount2": 0, "swapoff": 0,
}  # fmt: skip
_SERVICES = ("systemctl", "service", "iptables", "ip6tables", "nft", "update-grub", "reboot")
_SHELLS = ("sh", "dash", "bash", "ksh", "zsh", "busybox", "prlimit")
_NOT_FOUND = re.compile(
    r"(?:(?P<asking>type|hash|command|which): )?(?P<name>[^\s:]+): (?:command )?not found$"
)
"""A shell's message; its builtins that only ask for a program say the same, with their name."""
_NO_PROGRAM = 127
"""Exit status of a shell, env(1) or xargs(1) that has found no program (POSIX, 2.8.2)."""
_HARMLESS = re.compile(
    r"/(tmp|var/tmp|run)(/|$)|/dev/(null|zero|full|tty|pts/|shm/|std|fd/)|pipe:|socket:"
)
_KNOB = re.compile(r"/(proc/(sys|irq)|sys)/")
_OWN = re.compile(r"/proc/(self|thread-self|\d+)/")
_DANGEROUS = re.compile(r"/proc/(sysrq-trigger|kcore)")


@dataclass
class Attempt:
    """One try at a knob. `error`: an errno's name, `exit N` of a command, None when it took."""

    knob: str
    wanted: str | None
    error: str | None
    by: str
    """The command line, or that of the shell that wrote."""
    at: int
    """Index of the event in the trace."""
    message: str = ""
    """What was written to standard error about it."""
    hidden: bool = False
    """That message went to /dev/null, or nowhere."""


@dataclass(frozen=True)
class Command:
    """A program that ran to its end."""

    argv: tuple[str, ...]
    status: int
    stderr: str
    at: int


@dataclass(frozen=True)
class Lookup:
    """A file below /proc or /sys that was opened for reading or asked for."""

    path: str
    error: str | None
    by: str
    at: int


@dataclass(frozen=True)
class Touch:
    """Something outside of the kernel's settings that was changed."""

    action: str
    object: str
    by: str


@dataclass(frozen=True)
class Limit:
    """A resource limit that was set, for the process `target` (0: the caller itself)."""

    resource: str
    soft: int
    error: str | None
    by: str


@dataclass(frozen=True)
class Missing:
    """A program that was called and is not there. `hidden`: nobody could read that."""

    name: str
    by: str
    hidden: bool


@dataclass
class Story:
    """All of it, in the order of the trace."""

    attempts: list[Attempt] = field(default_factory=list)
    commands: list[Command] = field(default_factory=list)
    lookups: list[Lookup] = field(default_factory=list)
    touches: list[Touch] = field(default_factory=list)
    limits: list[Limit] = field(default_factory=list)
    missing: list[Missing] = field(default_factory=list)


def tell(events: Sequence[Event]) -> Story:
    """The story of a trace."""
    teller = _Teller()
    for at, event in enumerate(events):
        teller.hear(at, event)
    teller.finish(events)
    return teller.story


def canonical(path: str) -> str:
    """One name for a file of /sys that has several: the one below /sys/class/net or /sys/block."""
    path = re.sub(r"^/sys/devices/.*/net/([^/]+)/(?=.)", r"/sys/class/net/\1/", path)
    path = re.sub(r"^/sys/devices/.*/block/([^/]+)/(?=.)", r"/sys/block/\1/", path)
    return re.sub(r"(?<=.)/{2,}", "/", path)


@dataclass
class _Process:
    argv: tuple[str, ...] = ()
    stderr: str = ""
    hidden: bool = False
    line: str = ""
    """What it has begun to write to standard error, without the lines that are whole."""
    sought: str = ""
    """The program that it could not become, at its last try."""
    failed: Attempt | None = None
    """Its last attempt, as long as that has failed: what it says next is about it."""


class _Teller:
    """Goes through the events and remembers which process is which."""

    def __init__(self) -> None:
        self.story = Story()
        self._processes: dict[int, _Process] = {}

    def hear(self, at: int, event: Event) -> None:
        process = self._processes.setdefault(event.pid, _Process())
        if isinstance(event, End):
            self._end(at, event, process)
        elif event.name in ("fork", "vfork", "clone", "clone3") and (event.result or 0) > 0:
            child = self._processes.setdefault(event.result or 0, _Process())
            child.argv = child.argv or process.argv
        elif event.name == "execve" and event.error is None:
            process.argv = tuple(strings(event.args[1])) if len(event.args) > 1 else ()
            process.stderr, process.sought = "", ""
        elif event.name == "execve":
            process.sought = event.text(0)
        else:
            self._call(at, event, process)

    def finish(self, events: Sequence[Event]) -> None:
        """Processes that the script has left running, if the script itself has ended."""
        ended = {event.pid for event in events if isinstance(event, End)}
        if events and events[0].pid in ended:
            for pid, process in self._processes.items():
                if pid not in ended and process.argv:
                    self.story.touches.append(Touch("leave running", _by(process), _by(process)))

    def _call(self, at: int, call: Call, process: _Process) -> None:
        if call.name in ("write", "writev", "pwrite64"):
            self._write(at, call, process)
        elif call.name in _OPENS:
            self._open(at, call, process)
        elif call.name in _LOOKUPS:
            self._lookup(at, call, _path(call, _LOOKUPS[call.name]), process)
        elif call.name in _CHANGES and call.error is None:
            self._touch(call.name, _path(call, _CHANGES[call.name]), process)
        elif call.name in ("prlimit64", "setrlimit"):
            self._limit(call, process)
        elif call.name == "kill" and call.error is None:
            self._kill(call, process)
        elif call.name == "reboot":
            self.story.touches.append(Touch("reboot", "the machine", _by(process)))

    def _write(self, at: int, call: Call, process: _Process) -> None:
        number, path = call.descriptor()
        knob = canonical(path)
        if number == 2:
            self._hear_message(call, path, process)
        elif _DANGEROUS.match(knob):
            self.story.touches.append(Touch("write", knob, _by(process)))
        elif _KNOB.match(knob):
            text = call.text(1) if call.name != "writev" else _vector(call.args[1])
            self._attempt(at, process, knob, text.strip("\0").strip(), call.error)

    def _hear_message(self, call: Call, path: str, process: _Process) -> None:
        text = call.text(1) if call.name != "writev" else _vector(call.args[1])
        hidden = path == "/dev/null" or call.error is not None
        process.stderr += text
        process.hidden = hidden
        if process.failed is not None:
            process.failed.message += text
            process.failed.hidden = hidden
        *whole, process.line = (process.line + text).split("\n")
        if _program(process.argv) in (*_SHELLS, "sudo"):
            for found in filter(None, map(_NOT_FOUND.search, whole)):
                if not found["asking"]:
                    self._miss(found["name"], process)

    def _miss(self, name: str, process: _Process) -> None:
        """Once for each name, whatever path it was looked for at."""
        name = name.rpartition("/")[2]
        if name not in {one.name for one in self.story.missing}:
            self.story.missing.append(Missing(name, _by(process), process.hidden))

    def _open(self, at: int, call: Call, process: _Process) -> None:
        path = _path(call, _OPENS[call.name])
        flags = " ".join(call.args[_OPENS[call.name] + 1 :]) if call.name != "creat" else "O_WRONLY"
        if not _WRITES.search(flags):
            self._lookup(at, call, path, process)
        elif _KNOB.match(path):
            if call.error is not None:
                self._attempt(at, process, canonical(path), None, call.error)
        elif call.error is None:
            self._touch("write", path, process)

    def _lookup(self, at: int, call: Call, path: str, process: _Process) -> None:
        if not path.startswith(("/proc/", "/sys/")) or _OWN.match(path):
            return
        self.story.lookups.append(Lookup(canonical(path), call.error, _by(process), at))

    def _attempt(
        self, at: int, process: _Process, knob: str, wanted: str | None, error: str | None
    ) -> None:
        last = process.failed
        if last is not None and last.knob == knob and last.error == error:
            return  # a program that tries the same again, as libc's buffers do when they close
        attempt = Attempt(knob, wanted, error, _by(process), at)
        self.story.attempts.append(attempt)
        process.failed = attempt if error else None

    def _touch(self, action: str, path: str, process: _Process) -> None:
        if not _HARMLESS.match(path) and not _OWN.match(path):
            self.story.touches.append(Touch(action, canonical(path), _by(process)))

    def _limit(self, call: Call, process: _Process) -> None:
        names = call.args if call.name == "setrlimit" else call.args[1:]
        if _program(process.argv) not in _SHELLS:
            return  # programs that raise limits of their own do so for themselves
        match = re.search(r"rlim_cur=([^,}]+)", names[1]) if len(names) > 1 else None
        if match:
            soft = _product(match[1])
            self.story.limits.append(Limit(names[0], soft, call.error, _by(process)))

    def _kill(self, call: Call, process: _Process) -> None:
        pid, number = (call.args[0], call.args[1]) if len(call.args) > 1 else ("", "0")
        if number != "0" and pid.lstrip("-").isdigit() and abs(int(pid)) not in self._processes:
            self.story.touches.append(Touch(f"kill {number}", f"process {pid}", _by(process)))

    def _end(self, at: int, end: End, process: _Process) -> None:
        argv = process.argv
        if process.sought and end.status == _NO_PROGRAM:
            self._miss(process.sought, process)
        self._processes[end.pid] = _Process(argv)
        if not argv:
            return
        self.story.commands.append(Command(argv, end.status, process.stderr, at))
        program = _program(argv)
        if program in _SERVICES and not {"status", "is-active"} & set(argv[1:2]):
            self.story.touches.append(Touch("run", shlex.join(argv), shlex.join(argv)))
        if program in PROGRAMS:
            self._intents(at, argv, end.status, process)

    def _intents(self, at: int, argv: tuple[str, ...], status: int, process: _Process) -> None:
        """Settings of a command. Those whose writes were seen (sysctl) are known already."""
        by, sysctl = shlex.join(argv), _program(argv) == "sysctl"
        seen = {one.knob for one in self.story.attempts if one.by == by}
        for intent in intents(argv):
            if intent.knob in seen or (sysctl and status == 0):
                continue
            error = f"exit {status}" if status else None
            self.story.attempts.append(
                Attempt(intent.knob, intent.wanted, error, by, at, process.stderr, process.hidden)
            )
        if sysctl and sysctl_sets(argv):
            self._missing_keys(at, argv, process)

    def _missing_keys(self, at: int, argv: tuple[str, ...], process: _Process) -> None:
        """Keys that do not exist: sysctl looks for their files and writes nothing.

        It says so and fails, or neither: with --ignore, and for lines of a file that begin with -.
        """
        by = shlex.join(argv)
        known = {one.knob for one in self.story.attempts if one.by == by}
        wanted = {one.knob: one.wanted for one in intents(argv)}
        said = re.findall(r"cannot stat (/proc/sys/\S+?):", process.stderr)
        looked = [one.path for one in self.story.lookups if one.by == by and one.error == "ENOENT"]
        for knob in dict.fromkeys([*map(canonical, said), *looked]):
            if knob not in known and knob.startswith("/proc/sys/"):
                self.story.attempts.append(
                    Attempt(
                        knob, wanted.get(knob), "ENOENT", by, at, process.stderr, process.hidden
                    )
                )


def _program(argv: Sequence[str]) -> str:
    """The name of a program without its directory."""
    return "".join(argv[:1]).rpartition("/")[2]


def _by(process: _Process) -> str:
    return shlex.join(process.argv)


def _path(call: Call, index: int) -> str:
    """The absolute path of an argument; with the descriptor before it where it is relative."""
    path = call.text(index)
    if path.startswith("/") or index == 0:
        return path
    directory = call.descriptor(index - 1)[1]
    return f"{directory.rstrip('/')}/{path}" if directory else path


def _vector(argument: str) -> str:
    """The bytes of a writev: `[{iov_base="...", iov_len=3}, ...]`."""
    return "".join(
        unquote(match[1]) for match in re.finditer(r'iov_base=("(?:[^"\\]|\\.)*")', argument)
    )


def _product(text: str) -> int:
    """`65536`, `1024*1024` or `RLIM64_INFINITY` (-1 here)."""
    if "INFINITY" in text:
        return -1
    value = 1
    for factor in text.split("*"):
        value *= int(factor, 0)
    return value
