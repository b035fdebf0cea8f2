"""The part of a trial that runs in the guest: snapshots, and the script under strace.

Started as `python3 -m iolab.trial.inside DIRECTORY` with the system's Python, so it needs the
standard library alone. DIRECTORY holds `plan.json`, a list of trials (interface, argv of the script
and of its undo script), and gets `recording-N.json` for the Nth of them, counted from 0.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from iolab.trial.recording import Recording, Snapshot, Step

_LARGEST = 65_536
"""Bytes of a file that are kept; no setting is longer."""

_POLL_S = 0.1
_BACKGROUND_S = 2.0
_DETACH_S = 10.0

_CALLS = (
    "%process", "open", "openat", "openat2", "creat", "write", "writev", "pwrite64", "stat",
    "newfstatat", "access", "faccessat", "faccessat2", "prlimit64", "setrlimit", "unlink",
    "unlinkat", "rename", "renameat", "renameat2", "mkdir", "mkdirat", "rmdir", "link", "linkat",
    "symlink", "symlinkat", "chmod", "fchmodat", "chown", "fchownat", "truncate", "mount",
    "umount2", "swapoff", "reboot", "kill",
)  # fmt: skip

_TREES = ("/proc/sys", "/sys/kernel/mm/transparent_hugepage")
_PATTERNS = (
    "/proc/irq/default_smp_affinity",
    "/proc/irq/*/*affinity*",
    "/sys/kernel/mm/hugepages/*/nr_hugepages",
    "/sys/kernel/mm/ksm/run",
    "/sys/devices/system/node/node*/hugepages/*/nr_hugepages",
    "/sys/devices/system/node/*",
    "/sys/devices/system/node/node*/cpulist",
    "/sys/devices/system/cpu/*",
    "/sys/devices/system/cpu/cpu*/online",
    "/sys/devices/system/cpu/cpu*/cpufreq/scaling_*",
    "/sys/devices/system/cpu/cpu*/cpuidle/state*/disable",
    "/sys/devices/system/cpu/*/*",
    "/sys/module/*/parameters/*",
    "/sys/block/*/queue/*",
    "/sys/class/net/*/*",
    "/sys/class/net/*/queues/*/*",
    "/sys/class/net/*/queues/*/byte_queue_limits/*",
    "/sys/class/net/*/device/numa_node",
    "/sys/class/net/*/device/../numa_node",
)

_ETHTOOL = ("-l", "-g", "-c", "-k", "-x")
_FLOWS = ("tcp4", "udp4")

_LOOKUP = re.compile(r"\d+ +(?:open\w*|stat|newfstatat|access|faccessat2?)\(")
_TELLING = re.compile(r'O_WRONLY|O_RDWR|O_CREAT|O_TRUNC|"/proc|"/sys')


def main(directory: Path) -> None:
    """Runs the trials of the plan in `directory` one after the other, on one machine."""
    last = take_snapshot()
    for number, plan in enumerate(json.loads((directory / "plan.json").read_text())):
        before = (last, take_snapshot())
        kinds = order_of_steps(plan.get("undo") is not None)
        steps = tuple(run_step(kind, at_home(plan, kind)) for kind in kinds)
        last = steps[-1].after
        recording = Recording(plan["interface"], before, steps)
        (directory / f"recording-{number}.json").write_text(recording.to_json())


def at_home(plan: dict[str, Any], kind: str) -> list[str]:
    """The argv of a script, by its own path where this machine shows it there unchanged.

    A script that reads files beside itself (`. "$(dirname "$0")/lib.sh"`) finds them there.
    """
    argv: list[str] = plan[kind]
    copy, home = plan[f"{kind}_copy"], plan[f"{kind}_home"]
    try:
        same = Path(home).read_bytes() == Path(copy).read_bytes()
    except OSError:
        same = False
    return [home if word == copy else word for word in argv] if same else argv


def order_of_steps(undo: bool) -> list[str]:
    """The undo script follows the first run: a second one might save changed values as originals.

    The last two runs stand side by side, so that they can be compared.
    """
    return ["run", "undo", "run", "run"] if undo else ["run", "run"]


def run_step(kind: str, argv: list[str]) -> Step:
    """Runs `argv` under strace, without standard input, in a session of its own."""
    with tempfile.TemporaryDirectory(prefix="iolab-step-") as place:
        log, out, err = (Path(place) / name for name in ("trace", "stdout", "stderr"))
        strace = ["strace", "-f", "-y", "-s", "4096", "-e", "signal=none"]
        with out.open("wb") as stdout, err.open("wb") as stderr:
            process = subprocess.Popen(
                [*strace, "-e", f"trace={','.join(_CALLS)}", "-o", str(log), *argv],
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                cwd="/",
                start_new_session=True,
                preexec_fn=_default_signals,
            )
            _wait(process, log)
        trace = "\n".join(kept_lines(_text(log)))
        status = end_of_first(trace)
        if status is None:
            raise SystemExit(f"strace gave no trace of {argv}: {_text(err)}")
        return Step(kind, status, trace, _text(out), _text(err), take_snapshot())


def _wait(process: subprocess.Popen[bytes], log: Path) -> None:
    """Waits for the script, and a little for what it has left in the background.

    What runs on, such as a daemon, is let go: strace detaches from it when told to end. It could
    not with --seccomp-bpf, whose filter stays with the process.
    """
    while process.poll() is None and end_of_first(_text(log)) is None:
        time.sleep(_POLL_S)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(_BACKGROUND_S)
    process.terminate()
    try:
        process.wait(_DETACH_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def end_of_first(trace: str) -> int | None:
    """Exit status of the first process of a trace, as a shell says it; None while it runs."""
    pid = trace.partition(" ")[0]
    match = re.search(rf"^{pid} +\+\+\+ (?:exited with (\d+)|killed by (\w+))", trace, re.MULTILINE)
    if not pid or match is None:
        return None
    return int(match[1]) if match[1] else 128 + signal.Signals[match[2]].value


def kept_lines(trace: str) -> Iterator[str]:
    """The lines that say something: every process and write, and lookups below /proc and /sys.

    Dropped are the thousands of libraries and locales that programs look for. The second half of
    an interrupted lookup goes the way of the first.
    """
    dropped: set[str] = set()
    for line in trace.splitlines():
        pid = line.partition(" ")[0]
        if "resumed>" in line and pid in dropped:
            dropped.discard(pid)
        elif not _LOOKUP.match(line) or _TELLING.search(line):
            yield line
        elif line.endswith("<unfinished ...>"):
            dropped.add(pid)


def take_snapshot() -> Snapshot:
    """The state of this machine: a few thousand small files, and what ethtool and tc print."""
    files: dict[str, str] = {}
    for tree in _TREES:
        for directory, _, names in os.walk(tree):
            for name in names:
                _read_into(files, Path(directory, name))
    for pattern in _PATTERNS:
        for path in Path("/").glob(pattern[1:]):
            _read_into(files, path)
    for name in ("/proc/interrupts", "/proc/modules", "/proc/self/limits"):
        _read_into(files, Path(name))
    interfaces = sorted(path.name for path in Path("/sys/class/net").iterdir())
    return Snapshot(files, {line: _output(line) for line in _questions(interfaces)})


def _questions(interfaces: list[str]) -> Iterator[str]:
    yield from ("ip -4 route show", "ip -6 route show")
    for name in interfaces:
        yield f"tc qdisc show dev {name}"
        if name != "lo":
            yield from (f"ethtool {option} {name}" for option in _ETHTOOL)
            yield from (f"ethtool -n {name} rx-flow-hash {flow}" for flow in _FLOWS)


def _read_into(files: dict[str, str], path: Path) -> None:
    """Files that cannot be read (write-only, no such feature of a driver) are left out."""
    try:
        if path.is_file() and path.stat().st_mode & 0o444:
            with path.open("rb") as file:
                files[str(path)] = file.read(_LARGEST).decode(errors="replace").rstrip("\n")
    except OSError:
        pass


def _output(line: str) -> str:
    done = subprocess.run(line.split(), stdin=subprocess.DEVNULL, capture_output=True, check=False)
    return done.stdout.decode(errors="replace")


def _default_signals() -> None:
    """Python ignores SIGPIPE; a script's pipelines must end as they would in a shell."""
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)


def _text(path: Path) -> str:
    return path.read_bytes().decode(errors="replace") if path.exists() else ""


if __name__ == "__main__":
    os.environ["LC_ALL"] = "C.UTF-8"
    main(Path(sys.argv[1]))
