"""From raw records to figures with verdicts. Pure; the targets stand here and nowhere else."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from iolab.relaybench.model import MIB, Figure, Part, Record, Verdict

KIB = 1 << 10

GROWTH_BYTES = 2 * MIB
FIFTY_BYTES = 16 * MIB
PIPE_BYTES = 256 * KIB
FLAT_BYTES = 256 * KIB
RATE_TOLERANCE = 0.1
PAIR_BYTES = 8 * KIB


@dataclass(frozen=True)
class Reading:
    """One look at a server: time since the part began, memory, bytes delivered, pipes."""

    t_ns: int
    resident_bytes: int
    relayed_bytes: int
    pipes: int
    pipe_bytes: int

    def to_json(self) -> list[int]:
        """As a record holds it."""
        return [self.t_ns, self.resident_bytes, self.relayed_bytes, self.pipes, self.pipe_bytes]


def readings(raw: Mapping[str, Any]) -> list[Reading]:
    """The readings of a record."""
    return [Reading(*map(int, one)) for one in raw["readings"]]


def judge(record: Record) -> list[Figure]:
    """The figures of a record; one without values when it has no numbers."""
    if record.status != "ok":
        verdict = Verdict.UNSUPPORTED if record.status == "unsupported" else Verdict.FAILED
        return [_bare(record, verdict, record.reason)]
    try:
        return _JUDGES[record.part](record)
    except (KeyError, TypeError, ValueError) as error:
        return [_bare(record, Verdict.FAILED, f"the record lacks what is judged: {error!r}")]


def good(figures: Iterable[Figure]) -> bool:
    """True when nothing failed and no target was missed."""
    return all(one.verdict not in (Verdict.FAILED, Verdict.MISSED) for one in figures)


def growth(found: Sequence[Reading], peak_bytes: int | None) -> int | None:
    """How much memory grew from the first byte to the last.

    The first byte's value is that of the last look which saw none delivered: what came between
    that look and the first byte counts as growth. `peak_bytes` is the kernel's own high-water
    mark, which sees what lies between two looks. None without a look before the first byte.
    """
    before = [one for one in found if one.relayed_bytes == 0]
    if not before:
        return None
    since = [one.resident_bytes for one in found if one.t_ns >= before[-1].t_ns]
    return max(*since, peak_bytes or 0, before[-1].resident_bytes) - before[-1].resident_bytes


def drift(found: Sequence[Reading]) -> int:
    """How much higher memory was in the last three quarters of the time than in the first one.

    Below 0 when it was lower. Memory that is taken once, at the start, is not in it.
    """
    quarter_ns = found[0].t_ns + (found[-1].t_ns - found[0].t_ns) // 4
    early = [one.resident_bytes for one in found if one.t_ns <= quarter_ns]
    late = [one.resident_bytes for one in found if one.t_ns > quarter_ns]
    return max(late) - max(early)


def _memory_one(record: Record) -> list[Figure]:
    raw = record.raw
    trouble = _load_trouble(raw)
    if trouble is not None:
        return [_bare(record, Verdict.FAILED, trouble)]
    grown = growth(readings(raw), raw["peak_bytes"])
    if grown is None:
        return [_bare(record, Verdict.FAILED, "no look at the memory before the first byte")]
    figure = _figure(record, "resident growth", grown / MIB, "MiB")
    if record.subject.pipes and not record.subject.queues:
        figure = _bound(figure, grown < GROWTH_BYTES, "< 2 MiB")
    return [figure, _figure(record, "rate", _gib_per_s(raw), "GiB/s")]


def _memory_fifty(record: Record) -> list[Figure]:
    raw = record.raw
    trouble = _load_trouble(raw)
    if trouble is not None:
        return [_bare(record, Verdict.FAILED, trouble)]
    found = readings(raw)
    resident = max(*(one.resident_bytes for one in found), raw["peak_bytes"] or 0)
    each = max(one.pipe_bytes for one in found) / raw["pairs"]
    bound = record.subject.pipes and not record.subject.queues
    memory = _figure(record, "resident in all", resident / MIB, "MiB")
    figures = [_bound(memory, resident < FIFTY_BYTES, "< 16 MiB") if bound else memory]
    if record.subject.pipes:
        pipes = _figure(record, "pipes a transfer", each / KIB, "KiB")
        figures.append(_bound(pipes, each < PIPE_BYTES, "< 256 KiB") if bound else pipes)
    return [*figures, _figure(record, "rate", _gib_per_s(raw), "GiB/s")]


def _backpressure(record: Record) -> list[Figure]:
    raw = record.raw
    if raw["wrong"] is not None:
        return [_bare(record, Verdict.FAILED, raw["wrong"])]
    limit = raw["limit_bytes_per_s"]
    rate = raw["received_bytes"] * 1e9 / raw["receive_ns"]
    within = abs(rate / limit - 1) <= RATE_TOLERANCE
    grown = growth(readings(raw), raw["peak_bytes"])
    if grown is None:
        return [_bare(record, Verdict.FAILED, "no look at the memory before the first byte")]
    return [
        _bound(
            _figure(record, "receiver's rate", rate / MIB, "MiB/s"),
            within,
            f"{limit / MIB:g} MiB/s within {RATE_TOLERANCE:.0%}",
        ),
        *_held_back(record, grown, drift(readings(raw))),
    ]


def _held_back(record: Record, grown: int, drifted: int) -> list[Figure]:
    """The memory of a server whose receiver is slow, and what the sender got rid of meanwhile."""
    memory = _figure(record, "resident growth", grown / MIB, "MiB")
    flat = _figure(record, "growth after a quarter", drifted / MIB, "MiB")
    ahead = (record.raw["sent_bytes"] - record.raw["received_bytes"]) / MIB
    if record.subject.queues:
        memory = replace(memory, note="what the queue takes, by design: 1024 chunks of 64 KiB")
    else:
        flat = _bound(flat, drifted < FLAT_BYTES, "< 0.25 MiB")
        if record.subject.pipes:
            memory = _bound(memory, grown < GROWTH_BYTES, "< 2 MiB")
    return [memory, flat, _figure(record, "sender ahead", ahead, "MiB")]


def _waiting(record: Record) -> list[Figure]:
    raw = record.raw
    pairs = raw["pairs"]
    before, waiting, after = raw["before"], raw["waiting"], raw["after"]
    if waiting["transfers"] != 2 * pairs:
        why = f"{waiting['transfers']} of {2 * pairs} names are listed as waiting"
        return [_bare(record, Verdict.FAILED, why)]
    each = (waiting["resident_bytes"] - before["resident_bytes"]) / pairs
    memory = _figure(record, "resident a pair", each / KIB, "KiB")
    if record.subject.threads:
        memory = replace(memory, note="two threads: the pages they touch of their stacks")
    else:
        memory = _bound(memory, each < PAIR_BYTES, "< 8 KiB")
    descriptors = (waiting["descriptors"] - before["descriptors"]) / pairs
    return [
        memory,
        _figure(record, "descriptors a pair", descriptors, ""),
        _left(record, "descriptors left", after["descriptors"] - before["descriptors"]),
        _left(record, "slots left", after["transfers"]),
        _left(record, "connections left", after["connections"] - before["connections"]),
    ]


def _aborts(record: Record) -> list[Figure]:
    raw = record.raw
    before, after = raw["before"], raw["after"]
    if not raw["works_after"]:
        return [_bare(record, Verdict.FAILED, "a transfer after the aborts did not come through")]
    leaked = _without_pipes(after) - _without_pipes(before)
    grown = (after["resident_bytes"] - before["resident_bytes"]) / MIB
    more_pipes = after["pipes"] - before["pipes"]
    return [
        _figure(record, "aborted transfers", raw["aborted"] + raw["killed"], ""),
        _left(record, "descriptors left", leaked, "pooled pipes apart"),
        _left(record, "slots left", after["transfers"]),
        _left(record, "connections left", after["connections"] - before["connections"]),
        _bound(
            _figure(record, "pipes kept", more_pipes, ""),
            more_pipes <= raw["at_once"],
            f"<= {raw['at_once']}, the transfers there were at once",
        ),
        _figure(record, "resident growth", grown, "MiB"),
    ]


def _without_pipes(count: Mapping[str, int]) -> int:
    """Open descriptors but for the two of each pipe, which the server may keep in its pool."""
    return count["descriptors"] - 2 * count["pipes"]


def _load_trouble(raw: Mapping[str, Any]) -> str | None:
    """Why the load tool's result is no number; None when it is one."""
    load = raw["load"]
    errors = {name: nr for name, nr in load["errors"].items() if nr}
    if errors or load["non_2xx"]:
        return f"iolab-load counted errors: {errors}, {load['non_2xx']} responses not 2xx"
    want = raw["pairs"] * raw["size_bytes"]
    if load["window"]["body_bytes"] != want:
        return f"{load['window']['body_bytes']} bytes came of {want}"
    return None


def _gib_per_s(raw: Mapping[str, Any]) -> float:
    window = raw["load"]["window"]
    return float(window["body_bytes"] / window["ns"] * 1e9 / (1 << 30))


def _figure(record: Record, name: str, value: float, unit: str) -> Figure:
    label = record.subject.label
    return Figure(record.part, label, name, value, unit, None, Verdict.INFORMATION)


def _bound(figure: Figure, met: bool, target: str) -> Figure:
    return replace(figure, target=target, verdict=Verdict.OK if met else Verdict.MISSED)


def _left(record: Record, name: str, value: int, note: str | None = None) -> Figure:
    """Something of which none may be left over."""
    return replace(_bound(_figure(record, name, value, ""), value <= 0, "0"), note=note)


def _bare(record: Record, verdict: Verdict, why: str | None) -> Figure:
    label = record.subject.label
    return Figure(record.part, label, str(record.part), None, "", None, verdict, why)


_JUDGES: dict[Part, Callable[[Record], list[Figure]]] = {
    Part.MEMORY_ONE: _memory_one,
    Part.MEMORY_FIFTY: _memory_fifty,
    Part.BACKPRESSURE: _backpressure,
    Part.WAITING: _waiting,
    Part.ABORTS: _aborts,
}
