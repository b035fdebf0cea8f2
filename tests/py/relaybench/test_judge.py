from __future__ import annotations

import json
import re
from typing import Any

import pytest

from iolab.model import Server
from iolab.relaybench.judge import Reading, drift, good, growth, judge
from iolab.relaybench.model import MIB, Figure, Part, Record, Subject, Verdict, record_from_json

SPLICE = Subject(Server("engine", "splice", (("pipe", "65536"),)), pipes=True)
COPY = Subject(Server("engine", "copy"))
QUEUE = Subject(Server("engine", "copy", (("policy", "buffered"),)), queues=True)
THREADS = Subject(Server("engine", "threads"), threads=True)
GOOD_LOAD = {"errors": {"reset": 0}, "non_2xx": 0, "window": {"body_bytes": 8, "ns": 4}}


def samples(*points: tuple[int, float, int]) -> list[list[int]]:
    """Readings of (time, resident MiB, relayed bytes)."""
    return [Reading(t, round(mib * MIB), n, 2, 2 << 17).to_json() for t, mib, n in points]


def record(part: Part, subject: Subject, **raw: Any) -> Record:
    return Record(part, subject, "ok", raw=raw)


def memory(subject: Subject, top_mib: float, part: Part = Part.MEMORY_ONE, **more: Any) -> Record:
    raw = {
        "pairs": 1, "size_bytes": 8, "load": GOOD_LOAD, "peak_bytes": None,
        "readings": samples((0, 9.0, 0), (1, 3.0, 0), (2, top_mib, 5), (3, 3.0, 8)),
    }  # fmt: skip
    return record(part, subject, **{**raw, **more})


def by_name(figures: list[Figure]) -> dict[str, Figure]:
    assert len({one.name for one in figures}) == len(figures)
    return {one.name: one for one in figures}


def verdicts(found: Record) -> dict[str, Verdict]:
    return {name: one.verdict for name, one in by_name(judge(found)).items()}


def test_growth_begins_with_the_last_look_that_saw_no_byte() -> None:
    figures = by_name(judge(memory(SPLICE, 4.5)))
    assert figures["resident growth"].value == 1.5
    assert figures["resident growth"].verdict is Verdict.OK
    assert figures["rate"].value == pytest.approx(2e9 / (1 << 30))
    assert verdicts(memory(SPLICE, 5.0))["resident growth"] is Verdict.MISSED
    # What no look has seen, the kernel's own mark has.
    between = memory(SPLICE, 4.5, peak_bytes=6 * MIB)
    assert by_name(judge(between))["resident growth"].value == 3.0


def test_a_process_that_shrinks_has_not_grown() -> None:
    found = [Reading(0, 5, 0, 0, 0), Reading(1, 3, 1, 0, 0)]
    assert growth(found, None) == 0
    assert growth(found[1:], None) is None


@pytest.mark.parametrize("subject", [COPY, QUEUE, THREADS])
def test_memory_targets_bind_those_that_use_pipes(subject: Subject) -> None:
    assert verdicts(memory(subject, 500.0))["resident growth"] is Verdict.INFORMATION
    fifty = verdicts(memory(subject, 500.0, Part.MEMORY_FIFTY))
    assert fifty == {"resident in all": Verdict.INFORMATION, "rate": Verdict.INFORMATION}


@pytest.mark.parametrize(
    ("top", "pairs", "verdict", "pipe_verdict"),
    [(15.9, 2, Verdict.OK, Verdict.OK), (16.0, 1, Verdict.MISSED, Verdict.MISSED)],
)
def test_fifty_at_once(top: float, pairs: int, verdict: Verdict, pipe_verdict: Verdict) -> None:
    load = {**GOOD_LOAD, "window": {"body_bytes": 8 * pairs, "ns": 1}}
    found = judge(memory(SPLICE, top, Part.MEMORY_FIFTY, pairs=pairs, load=load))
    figures = by_name(found)
    assert figures["resident in all"].verdict is verdict
    assert figures["pipes a transfer"].value == 256 / pairs
    assert figures["pipes a transfer"].verdict is pipe_verdict


@pytest.mark.parametrize(
    ("load", "words"),
    [
        ({"errors": {"reset": 1, "short": 0}}, r"\{'reset': 1\}"),
        ({"non_2xx": 2}, "2 responses not 2xx"),
        ({"window": {"body_bytes": 7, "ns": 1}}, "7 bytes came of 8"),
    ],
)
@pytest.mark.parametrize("part", [Part.MEMORY_ONE, Part.MEMORY_FIFTY])
def test_a_load_with_errors_is_no_number(part: Part, load: dict[str, Any], words: str) -> None:
    [figure] = judge(memory(SPLICE, 3.0, part, load={**GOOD_LOAD, **load}))
    assert figure.verdict is Verdict.FAILED
    assert figure.value is None
    assert re.search(words, figure.note or "")


def pressure(subject: Subject, late_mib: float = 3.0, **more: Any) -> Record:
    raw = {
        "limit_bytes_per_s": MIB, "received_bytes": 20 * MIB, "receive_ns": 20 * 10**9,
        "sent_bytes": 29 * MIB, "wrong": None, "peak_bytes": None,
        "readings": samples((0, 3.0, 0), (1, 3.5, 1), (3, late_mib, 2), (8, late_mib, 9)),
    }  # fmt: skip
    return record(Part.BACKPRESSURE, subject, **{**raw, **more})


def test_backpressure() -> None:
    figures = by_name(judge(pressure(SPLICE)))
    assert figures["receiver's rate"].value == 1.0
    assert figures["sender ahead"].value == 9.0
    assert verdicts(pressure(SPLICE)) == {
        "receiver's rate": Verdict.OK,
        "resident growth": Verdict.OK,
        "growth after a quarter": Verdict.OK,
        "sender ahead": Verdict.INFORMATION,
    }
    assert verdicts(pressure(COPY, 5.5))["growth after a quarter"] is Verdict.MISSED
    assert verdicts(pressure(COPY, 5.5))["resident growth"] is Verdict.INFORMATION
    assert verdicts(pressure(SPLICE, 5.5))["resident growth"] is Verdict.MISSED


@pytest.mark.parametrize(("share", "verdict"), [(0.89, "missed"), (0.91, "ok"), (1.11, "missed")])
def test_the_receivers_rate_is_its_limit_within_a_tenth(share: float, verdict: str) -> None:
    found = pressure(SPLICE, received_bytes=round(20 * MIB * share))
    assert verdicts(found)["receiver's rate"] == verdict


def test_a_queue_may_fill() -> None:
    figures = by_name(judge(pressure(QUEUE, 67.0)))
    assert figures["resident growth"].value == 64.0
    assert figures["resident growth"].verdict is Verdict.INFORMATION
    assert "1024 chunks" in (figures["resident growth"].note or "")
    assert figures["growth after a quarter"].verdict is Verdict.INFORMATION


def test_drift_leaves_out_what_is_taken_at_the_start() -> None:
    found = [Reading(t, v, 0, 0, 0) for t, v in [(0, 1), (10, 9), (40, 8)]]
    assert drift(found) == -1


def count(**changes: int) -> dict[str, int]:
    zero = {"resident_bytes": 0, "descriptors": 8, "connections": 0, "pipes": 0, "transfers": 0}
    return {**zero, **changes}


def waiting(subject: Subject, each_kib: int, **after: int) -> Record:
    there = count(resident_bytes=1000 * each_kib << 10, descriptors=2008, transfers=2000)
    return record(
        Part.WAITING, subject, pairs=1000, before=count(), waiting=there, after=count(**after)
    )


def test_waiting() -> None:
    figures = by_name(judge(waiting(SPLICE, 7)))
    assert figures["resident a pair"].value == 7.0
    assert figures["descriptors a pair"].value == 2.0
    assert good(figures.values())
    assert verdicts(waiting(SPLICE, 8))["resident a pair"] is Verdict.MISSED
    assert verdicts(waiting(THREADS, 30))["resident a pair"] is Verdict.INFORMATION
    for name, key in (("descriptors", "descriptors"), ("slots", "transfers")):
        left = judge(waiting(SPLICE, 7, **{key: 9}))
        assert by_name(left)[f"{name} left"].verdict is Verdict.MISSED
        assert not good(left)


def test_waiting_that_was_not_seen_fails() -> None:
    found = waiting(SPLICE, 7)
    found.raw["waiting"]["transfers"] = 1999
    [figure] = judge(found)
    assert figure.note == "1999 of 2000 names are listed as waiting"


def aborts(works: bool = True, **after: int) -> Record:
    return record(
        Part.ABORTS, SPLICE, aborted=10_000, killed=200, at_once=16, works_after=works,
        before=count(), after=count(**after),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("after", "missed"),
    [
        ({}, set()),
        ({"pipes": 16, "descriptors": 40}, set()),
        ({"pipes": 17, "descriptors": 42}, {"pipes kept"}),
        ({"descriptors": 9}, {"descriptors left"}),
        ({"transfers": 1}, {"slots left"}),
        ({"connections": 1}, {"connections left"}),
    ],
)
def test_aborts(after: dict[str, int], missed: set[str]) -> None:
    found = verdicts(aborts(**after))
    assert {name for name, verdict in found.items() if verdict is Verdict.MISSED} == missed


def test_a_relay_that_no_longer_works_fails() -> None:
    [figure] = judge(aborts(works=False))
    assert figure.verdict is Verdict.FAILED


@pytest.mark.parametrize("status", ["failed", "unsupported"])
def test_records_without_numbers(status: str) -> None:
    [figure] = judge(Record(Part.WAITING, SPLICE, status, "because"))
    assert (figure.verdict, figure.value, figure.note) == (status, None, "because")
    assert good([figure]) == (status == "unsupported")


def test_a_damaged_record_is_a_failure_and_no_crash() -> None:
    [figure] = judge(record(Part.WAITING, SPLICE, pairs=1))
    assert figure.verdict is Verdict.FAILED
    assert "before" in (figure.note or "")


@pytest.mark.parametrize("found", [memory(SPLICE, 4.0), pressure(QUEUE), waiting(THREADS, 1)])
def test_records_survive_being_stored(found: Record) -> None:
    assert record_from_json(json.loads(json.dumps(found.to_json()))) == found


def test_foreign_records_are_refused() -> None:
    document = memory(SPLICE, 4.0).to_json()
    with pytest.raises(ValueError, match="schema_version 2"):
        record_from_json({**document, "schema_version": 2})
    with pytest.raises(KeyError):
        record_from_json({"schema_version": 1})
