"""Runs in the guest: puts profiles to work by iolab's own verbs, and records what became of it.

Started as `python inside_profiles.py DIRECTORY`, where `plan.json` names interfaces with profiles
and a seed; leaves `record.json` there. Each verb runs in a fork, so that Python and the package are
loaded over 9p once. Nothing is judged here.
"""

from __future__ import annotations

import json
import mmap
import os
import random
import signal
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

from iolab.cli import main as iolab
from iolab.commands import tune as _loaded_before_the_forks  # noqa: F401
from iolab.executor import HostExecutor
from iolab.trial.inside import take_snapshot
from iolab.trial.values import comparable, flatten
from iolab.tuning.host import Host, Tree

OUTPUT = Path("/run/verb")
_POLL_S = 0.05

_WRITING = {"ethtool": str.isupper, "tc": lambda word: word in ("replace", "del")}
"""Which word of a tool's command line says that it writes: `ethtool -L`, `tc qdisc replace`."""


class Writes:
    """Counts what the verbs write, in all forks; `kill` ends the writer by SIGKILL at one of them.

    `after` says whether the kernel has the value by then, or only the journal its announcement.
    """

    def __init__(self) -> None:
        self.shared = mmap.mmap(-1, mmap.PAGESIZE)
        self.victim = 0
        self.after = False
        for owner, name, counts in (
            (Tree, "write", _always),
            (Host, "prlimit", _always),
            (HostExecutor, "detach", _always),
            (Host, "run", _writes),
        ):
            setattr(owner, name, self._counted(getattr(owner, name), counts))

    @property
    def count(self) -> int:
        """Writes since the last `start`."""
        return int.from_bytes(self.shared[:8], "little")

    def start(self, victim: int = 0, *, after: bool = False) -> None:
        """Counts from 0 again; write number `victim` kills, 0 spares all."""
        self.shared[:8] = bytes(8)
        self.victim, self.after = victim, after

    def _counted(
        self, write: Callable[..., Any], counts: Callable[..., bool]
    ) -> Callable[..., Any]:
        def counted(*args: Any, **kwargs: Any) -> Any:
            if not counts(*args):
                return write(*args, **kwargs)
            number = self.count + 1
            self.shared[:8] = number.to_bytes(8, "little")
            self._die_if(number == self.victim and not self.after)
            done = write(*args, **kwargs)
            self._die_if(number == self.victim and self.after)
            return done

        return counted

    def _die_if(self, now: bool) -> None:
        if now:
            os.kill(os.getpid(), signal.SIGKILL)


def _always(*_: object) -> bool:
    return True


def _writes(host: Host, argv: Sequence[str], netns: str = "") -> bool:
    return any(_WRITING[argv[0]](word) for word in argv[1:3])


def run_verb(*words: str) -> dict[str, Any]:
    """`iolab WORDS...` in a fork: its status (negative: a signal) and what it said."""
    out, err = OUTPUT.with_suffix(".out"), OUTPUT.with_suffix(".err")
    pid = os.fork()
    if pid == 0:
        _become(words, out, err)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    stdout = out.read_text()
    document = None
    with suppress(ValueError):
        document = json.loads(stdout)
    return {"status": status, "document": document, "said": stdout + err.read_text()}


def _become(words: Sequence[str], out: Path, err: Path) -> NoReturn:
    for number, path in ((1, out), (2, err)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    sys.argv = ["iolab", *words]
    code = 70
    try:
        iolab()
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 0 if error.code is None else 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def values() -> dict[str, str]:
    """A full snapshot without what changes by itself.

    New rings take an e1000e's link down, and its speed is unknown until it is up again.
    """
    for carrier in Path("/sys/class/net").glob("*/carrier"):
        while carrier.read_text() != "1\n":
            time.sleep(_POLL_S)
    return comparable(flatten(take_snapshot()))


def try_profile(
    profile: str, interface: str, writes: Writes, dice: random.Random
) -> dict[str, Any]:
    """Applied, verified, reverted; then cut short at a random write, and reverted."""
    apply = ("tune", "apply", profile, "--interface", interface, "--json")
    revert = ("tune", "revert", "--json")
    record: dict[str, Any] = {"profile": profile, "interface": interface}
    writes.start()
    record["apply"] = run_verb(*apply)
    record["writes"] = writes.count
    record["applied"] = values()
    record["verify"] = run_verb("tune", "verify", "--json")
    record["revert"] = run_verb(*revert)
    record["after"] = values()
    victim, after = dice.randint(1, max(1, record["writes"])), dice.random() < 0.5
    writes.start(victim, after=after)
    record["killed"] = {"write": victim, "after": after, **run_verb(*apply)}
    writes.start()
    record["status"] = run_verb("tune", "status", "--json")
    record["revert_killed"] = run_verb(*revert)
    record["after_kill"] = values()
    return record


def main(directory: Path) -> None:
    """Reads `plan.json`, writes `record.json`."""
    plan = json.loads((directory / "plan.json").read_text())
    writes, dice, before = Writes(), random.Random(plan["seed"]), values()
    records = []
    for interface, profile in plan["trials"]:
        records.append(try_profile(profile, interface, writes, dice))
        print(f"{time.monotonic():.0f} s: {interface} {profile}", file=sys.stderr, flush=True)
    interrupts = Path("/proc/interrupts").read_text()
    document = {"before": before, "interrupts": interrupts, "records": records}
    (directory / "record.json").write_text(json.dumps(document))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
