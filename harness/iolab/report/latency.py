"""Merges the load generator's latency histograms and reads percentiles from the whole.

A percentile of a cell comes from all its responses; percentiles of slices are never averaged.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from iolab.histogram import SCHEME, bucket
from iolab.report.view import Latency


def merge(documents: Iterable[Mapping[str, Any]]) -> Latency | None:
    """The percentiles over all `latency` objects, None when they hold no value.

    A percentile is the middle of its bucket, so it is within 2^-(b+1) of the true order statistic.
    Raises ValueError when the histograms are of different kinds.
    """
    counts: Counter[int] = Counter()
    kinds: set[tuple[str, int]] = set()
    least, most = math.inf, 0.0
    for document in documents:
        if not document["counts"]:
            continue
        kinds.add((str(document["scheme"]), int(document["sub_bucket_bits"])))
        least, most = min(least, document["min"]), max(most, document["max"])
        for index, nr in document["counts"]:
            counts[int(index)] += int(nr)
    if not counts:
        return None
    if len(kinds) != 1 or next(iter(kinds))[0] != SCHEME:
        raise ValueError(f"latency histograms of kinds {sorted(kinds)} cannot be merged")
    bits = next(iter(kinds))[1]
    total = sum(counts.values())
    ordered = sorted(counts.items())

    def percentile(share: float) -> float:
        rank, seen = max(1, math.ceil(share * total)), 0
        for index, nr in ordered:
            seen += nr
            if seen >= rank:
                low, high = bucket(index, bits)
                return min(max((low + high) / 2, least), most)
        return most

    p50, p90, p99, p999 = (percentile(share) for share in (0.5, 0.9, 0.99, 0.999))
    return Latency(p50, p90, p99, p999, most, total)
