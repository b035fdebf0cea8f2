from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from iolab.executor import ProcessError
from iolab.model import Workload
from iolab.verify_pairs import SIZES_BYTES, verify_pairs, workloads


def answer(workload: Workload, options: Sequence[str]) -> dict[str, Any]:
    """What iolab-load says when all went well."""
    count = int(options[options.index("--count") + 1])
    flows = 2 if workload.direction == "both" else 1
    nr_bytes = workload.size_bytes * workload.pairs * count * flows
    return {
        "mode": "relay",
        "window": {"ns": 1, "body_bytes": nr_bytes},
        "total": {"body_bytes": nr_bytes, "sent_bytes": nr_bytes},
        "errors": {"mismatch": 0},
        "non_2xx": 0,
    }


def test_all_kinds_are_tried_and_compared_in_full() -> None:
    seen: list[Workload] = []

    def count(workload: Workload, options: Sequence[str]) -> dict[str, Any]:
        assert options[options.index("--check") + 1] == "full"
        seen.append(workload)
        return answer(workload, options)

    result = verify_pairs("s", "relay", count)
    assert result.ok
    assert result.checks == len(seen) == len(workloads("relay"))
    assert {w.size_bytes for w in seen} == set(SIZES_BYTES)
    assert {w.chunked for w in seen} == {True, False}
    assert {w.direction for w in workloads("forward")} == {"up", "down", "both"}


def test_what_went_wrong_is_named_with_its_transfer() -> None:
    def count(workload: Workload, options: Sequence[str]) -> dict[str, Any]:
        document = answer(workload, options)
        if workload.size_bytes == 4096:
            document["errors"]["mismatch"] = 1
        if workload.size_bytes == 1:
            document["total"] = {"body_bytes": 1, "sent_bytes": 1}
        if workload.size_bytes == 65537:
            raise ProcessError("iolab-load: no answer")
        return document

    failures = verify_pairs("s", "forward", count).failures
    assert len(failures) == 3 * 6
    assert "1 x 4096 bytes up: client saw 1 mismatch" in failures
    assert "4 x 1 bytes both ways: 1 bytes arrived of 16" in failures
    assert "1 x 65537 bytes down: iolab-load: no answer" in failures
