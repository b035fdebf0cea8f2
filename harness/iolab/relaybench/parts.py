"""The parts: each drives a running relay and returns what it saw, raw."""

from __future__ import annotations

import contextlib
import json
import random
import resource
import socket
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from signal import SIGKILL
from typing import Any

from iolab.executor import Executor, ProcessError
from iolab.relaybench import parties, victim
from iolab.relaybench.model import Part, Scale
from iolab.relaybench.parties import Moment, Side
from iolab.relaybench.probe import Probe, Sampler, settled

_SETTLE_S = 60.0
_LOAD_TIMEOUT_S = 1800.0
_STALL_S = 60  # of a pair without progress: fifty pairs share two CPUs
_SPARE_DESCRIPTORS = 64


@dataclass(frozen=True)
class Stage:
    """A running relay and what drives it."""

    address: parties.Address
    pid: int
    probe: Probe
    executor: Executor
    load: tuple[str, ...]
    """The load tool's command on its side of the testbed, without options."""
    load_cpu: int
    scale: Scale
    seed: int


def run_part(part: Part, stage: Stage) -> dict[str, Any]:
    """The raw result of one part; ProcessError when server or client failed."""
    return _PARTS[part](stage)


# --- memory --------------------------------------------------------------------------------------


def _memory_one(stage: Stage) -> dict[str, Any]:
    return _memory(stage, 1, stage.scale.one_bytes)


def _memory_fifty(stage: Stage) -> dict[str, Any]:
    return _memory(stage, stage.scale.fifty_pairs, stage.scale.fifty_bytes)


def _memory(stage: Stage, pairs: int, size_bytes: int) -> dict[str, Any]:
    probe = stage.probe
    probe.counters()  # the control socket's first answer costs memory: not a transfer's
    before = probe.count()
    fresh = probe.reset_peak()
    with Sampler(probe) as sampler:
        load = _load(stage, pairs, size_bytes)
    return {
        "pairs": pairs,
        "size_bytes": size_bytes,
        "before": before,
        "readings": [one.to_json() for one in sampler.readings],
        "peak_bytes": probe.peak_bytes() if fresh else None,
        "load": load,
        "after": probe.count(),
    }


def load_arguments(stage: Stage, pairs: int, size_bytes: int) -> list[str]:
    """The load tool's command line: every pair makes one transfer."""
    return [
        *stage.load,
        "--relay",
        "--target", f"{stage.address[0]}:{stage.address[1]}",
        "--pairs", str(pairs),
        "--size", str(size_bytes),
        "--count", "1",
        "--check", "sample",
        "--prefix", "bench",
        "--timeout", str(_STALL_S),
        "--seed", str(stage.seed),
        "--cpu", str(stage.load_cpu),
        "--cpu-clock", str(stage.pid),
    ]  # fmt: skip


def _load(stage: Stage, pairs: int, size_bytes: int) -> dict[str, Any]:
    done = stage.executor.run(load_arguments(stage, pairs, size_bytes), timeout_s=_LOAD_TIMEOUT_S)
    if done.code != 0 and not done.stdout.strip():
        raise ProcessError(f"iolab-load: exit code {done.code}: {done.stderr.strip()}")
    try:
        document = json.loads(done.stdout)
    except ValueError as error:
        raise ProcessError(f"iolab-load: not JSON: {done.stdout[:200]!r}") from error
    if not isinstance(document, dict) or "window" not in document:
        raise ProcessError(f"iolab-load: no result: {done.stdout[:200]!r}")
    return document


def _backpressure(stage: Stage) -> dict[str, Any]:
    probe = stage.probe
    probe.counters()
    before = probe.count()
    fresh = probe.reset_peak()
    with Sampler(probe) as sampler:
        pair = parties.Throttled(stage.address, "/slow", stage.scale.pressure_bytes_per_s)
        found = pair.run(stage.scale.pressure_s)
    return {
        "seconds": stage.scale.pressure_s,
        "before": before,
        "readings": [one.to_json() for one in sampler.readings],
        "peak_bytes": probe.peak_bytes() if fresh else None,
        **found,
    }


# --- waiting -------------------------------------------------------------------------------------


def _waiting(stage: Stage) -> dict[str, Any]:
    probe, pairs = stage.probe, stage.scale.waiting_pairs
    probe.count()  # the control socket's first answers cost memory: not of those who wait
    before = probe.count()
    with contextlib.ExitStack() as all_here:
        for i in range(pairs):
            parties.send(_joined(stage, all_here), parties.get_head(f"/r{i}"), "receiver")
            sender = _joined(stage, all_here)
            parties.send(sender, parties.put_head(f"/s{i}", 1000), "sender")
            # The relay says at once that it waits: it has seen this one.
            parties.read_head(sender, f"/s{i}: sender")
        _settle(lambda: probe.counters()["connections"] >= 2 * pairs, "connections")
        steady = _steady_memory(probe)
        waiting = {**probe.count(), "resident_bytes": steady}
    return {
        "pairs": pairs,
        "before": before,
        "waiting": waiting,
        "after": _count_when_empty(probe, before),
    }


def _joined(stage: Stage, stack: contextlib.ExitStack) -> socket.socket:
    return stack.enter_context(parties.connect(stage.address))


def _steady_memory(probe: Probe) -> int:
    """Resident memory once it is the same five times in a row.

    Receivers are told nothing, so only the server's rest says that it has seen the last of them.
    Not asked for on the way: the answer that lists them all costs memory of its own.
    """
    last = [0] * 5

    def rests() -> bool:
        last.append(probe.resident_bytes())
        return len(set(last[-5:])) == 1

    _settle(rests, "memory that stays the same")
    return last[-1]


def descriptors_needed(scale: Scale) -> int:
    """Open descriptors of this process at most: those that wait are all its own."""
    return 2 * scale.waiting_pairs + _SPARE_DESCRIPTORS


def raise_descriptor_limit(needed: int) -> None:
    """Lets this process, and the servers that it starts, open `needed` descriptors."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < needed:
        if hard != resource.RLIM_INFINITY and hard < needed:
            raise ProcessError(
                f"{needed} descriptors are needed, this session allows {hard}",
                f"raise its limit, as root: ulimit -n {needed}",
            )
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))


# --- aborts --------------------------------------------------------------------------------------


def _aborts(stage: Stage) -> dict[str, Any]:
    probe, scale = stage.probe, stage.scale
    probe.count()
    before = probe.count()
    source = random.Random(stage.seed)
    survivors = parties.Survivors(scale.at_once - 1)
    counts: dict[str, int] = {}
    halfway = None
    try:
        for i in range(scale.aborts):
            plan = parties.plan_abort(source)
            parties.abort_one(stage.address, f"/abort{i}", plan, survivors)
            how = f"{plan.victim} {plan.moment} {'reset' if plan.by_reset else 'close'}"
            counts[how] = counts.get(how, 0) + 1
            if i + 1 == scale.aborts // 2:
                halfway = probe.count()
        for i in range(scale.kills):
            _kill_one(stage, f"/kill{i}", source, survivors)
    finally:
        survivors.close()
    return {
        "aborted": scale.aborts,
        "killed": scale.kills,
        "at_once": scale.at_once,
        "seed": stage.seed,
        "counts": counts,
        "before": before,
        "halfway": halfway,
        "after": _count_when_empty(probe, before),
        "works_after": parties.whole_transfer(stage.address, "/after"),
    }


def _kill_one(stage: Stage, name: str, source: random.Random, survivors: parties.Survivors) -> None:
    """A client process is killed with SIGKILL; its partner is ours."""
    side, moment = source.choice(list(Side)), source.choice(list(Moment))
    by_reset = source.random() < 0.5
    with contextlib.ExitStack() as undo:
        partner = parties.connect(stage.address)
        undo.callback(parties.reset, partner)
        if moment is not Moment.BEFORE:
            parties.send(partner, _partner_request(side, name), name)
        child = stage.executor.start(
            [*_victim_command(), "send" if side is Side.SENDER else "receive",
             stage.address[0], str(stage.address[1]), name, str(moment)],
            stop_signal=SIGKILL,
        )  # fmt: skip
        undo.callback(child.stop)
        if moment in (Moment.BODY, Moment.END):
            _partner_moves(side, moment, partner, name)
        line = child.read_line(parties.DEADLINE_S)
        if line != "here":
            raise ProcessError(f"{name}: a client to be killed said {line!r}")
        child.stop()
        if moment is Moment.BEFORE:
            parties.send(partner, _partner_request(side, name), name)
        undo.pop_all()
    survivors.keep(partner, by_reset)


def _victim_command() -> list[str]:
    """Python without site packages: it starts in a few milliseconds."""
    return [sys.executable, "-I", "-S", str(Path(victim.__file__))]


def _partner_request(victim_side: Side, name: str) -> bytes:
    """The head of the other side's request."""
    if victim_side is Side.SENDER:
        return parties.get_head(name)
    return parties.put_head(name, victim.SIZE)


def _partner_moves(victim_side: Side, moment: Moment, partner: socket.socket, name: str) -> None:
    """Our side of the body, so that the victim's gets as far as it was told."""
    if victim_side is Side.RECEIVER:
        parties.send(partner, bytes(victim.SIZE), name)
        return
    left = victim.SIZE - len(parties.read_head(partner, name))
    while moment is Moment.END and left > 0:
        data = partner.recv(left)
        if not data:
            raise ProcessError(f"{name}: the response ended {left} bytes too early")
        left -= len(data)


def _count_when_empty(probe: Probe, before: dict[str, int]) -> dict[str, int]:
    """What is left once the server has come to rest, or has had its time."""

    def empty() -> bool:
        now = probe.count()
        return (
            now["connections"] <= before["connections"]
            and not now["transfers"]
            and now["descriptors"] - 2 * now["pipes"] <= before["descriptors"] - 2 * before["pipes"]
        )

    settled(empty, _SETTLE_S, 0.05)
    return probe.count()


def _settle(condition: Callable[[], bool], what: str) -> None:
    if not settled(condition, _SETTLE_S):
        raise ProcessError(f"never came: {what}, within {_SETTLE_S:g} s")


_PARTS: dict[Part, Callable[[Stage], dict[str, Any]]] = {
    Part.MEMORY_ONE: _memory_one,
    Part.MEMORY_FIFTY: _memory_fifty,
    Part.BACKPRESSURE: _backpressure,
    Part.WAITING: _waiting,
    Part.ABORTS: _aborts,
}
