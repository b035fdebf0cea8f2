from __future__ import annotations

from typing import Any

import pytest
from simulated import SIZE, document, streamed

from iolab import stats


def test_large_bodies_are_counted_in_parts() -> None:
    load = document(0)
    load["window"] |= {"requests": 1, "body_bytes": 2500}
    assert stats.unit_rate(load, SIZE) == pytest.approx(2.5)
    assert stats.unit_rate(load, 0) == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("change", "counters", "words"),
    [
        ({}, None, None),
        ({}, {"requests": 100, "body_bytes": 100 * SIZE}, None),
        ({}, {"requests": 99, "body_bytes": 100 * SIZE}, "requests: client counted 100, server 99"),
        ({}, {"requests": 100, "body_bytes": 1}, "body_bytes: client counted"),
        ({"errors": {"timeout": 2, "short": 0}}, None, "client saw 2 timeout"),
        ({"non_2xx": 7}, None, "client saw 7 non-2xx"),
        ({"total": {"requests": 0, "body_bytes": 0}}, None, "no request was completed"),
    ],
)
def test_slices_are_judged(
    change: dict[str, Any], counters: dict[str, int] | None, words: str | None
) -> None:
    verdict = stats.judge_slice(document(100) | change, counters)
    assert verdict is None if words is None else verdict is not None and words in verdict


def test_a_rate_so_low_that_nothing_was_due_is_no_fault() -> None:
    nothing = {"window": {"ns": 10**9, "requests": 0}, "total": {"requests": 0, "body_bytes": 0}}
    none = {"due": 0, "abandoned": 0}
    idle = document(0) | nothing | {"open_loop": none, "latency": {"counts": []}}
    assert stats.judge_slice(idle, {"requests": 0, "body_bytes": 0}) is None
    due = none | {"due": 1}
    assert stats.judge_slice(idle | {"open_loop": due}, None) == "no request was completed"
    assert stats.judge_slice(idle | {"open_loop": None}, None) == "no request was completed"


def test_every_request_of_an_open_loop_is_accounted_for() -> None:
    offered = document(100) | {"latency": {"counts": [[5, 90], [9, 7]]}}
    one = {"due": 100, "abandoned": 3}
    assert stats.judge_slice(offered | {"open_loop": one}, None) is None
    verdict = stats.judge_slice(offered | {"open_loop": one | {"abandoned": 0}}, None)
    assert verdict == "100 requests were due, 97 answered and 0 abandoned"


@pytest.mark.parametrize(
    ("load", "counters", "words"),
    [
        (streamed(), None, None),
        (streamed(), {"relayed_bytes": 5016, "transfers_failed": 0, "requests": 0}, None),
        (streamed(), {"relayed_bytes": 5000}, "relayed_bytes: client counted 5016, server 5000"),
        (streamed(), {"relayed_bytes": 5016, "transfers_failed": 1}, "1 failed transfers"),
        (streamed(sent_bytes=5001), None, "5001 bytes were sent, 5000 arrived"),
        (streamed(body_bytes=0, sent_bytes=0), None, "no byte arrived"),
        (streamed() | {"errors": {"mismatch": 1}}, None, "client saw 1 mismatch"),
        (streamed() | {"mode": "relay"}, {"relayed_bytes": 5016}, None),
        (document(7) | {"mode": "copy"}, None, None),
        (document(7) | {"mode": "copy", "errors": {"cache": 2}}, None, "copier saw 2 cache"),
    ],
)
def test_slices_of_pairs_are_judged_by_their_bytes(
    load: dict[str, Any], counters: dict[str, int] | None, words: str | None
) -> None:
    verdict = stats.judge_slice(load, counters)
    assert verdict is None if words is None else verdict is not None and words in verdict
