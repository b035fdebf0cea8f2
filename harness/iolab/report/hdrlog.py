"""The latencies of a run as an HdrHistogram log, which the tools around HdrHistogram read.

One line a cell, tagged with its name, holding all its slices that count. A histogram has no place
for what was never answered: a comment says of which cells that is missing. The format is that of
HdrHistogram 2.1's HistogramLogWriter (version 1.3) with histograms in its compressed encoding,
version 2: `workloads/load/hdr_log.h` describes it. No count moves, for the load generator's buckets
are those of HdrHistogram at two significant digits; runs of older ones had others and have no log.
"""

from __future__ import annotations

import base64
import struct
import zlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from iolab import stats
from iolab.histogram import SCHEME
from iolab.model import Plan, Sample, Status

FILE = "latency.hlog"
_BITS = 7  # 128 buckets an octave: two significant digits
_COOKIE_COMPRESSED, _COOKIE_COUNTS = 0x1C849314, 0x1C849313
_SIGNIFICANT_DIGITS = 2
_HOUR_NS = 3600 * 10**9


def log(plan: Plan, samples: Sequence[Sample]) -> str | None:
    """The log of the slices that statistics count; None without one that can be written."""
    by_cell: dict[str, list[Sample]] = {}
    for sample in stats.counted_samples(plan, samples):
        if sample.status is Status.OK and sample.load is not None and _fits(sample.load):
            by_cell.setdefault(sample.cell, []).append(sample)
    if not by_cell:
        return None
    base_s = min(s.started_unix_ns for found in by_cell.values() for s in found) / 1e9
    lines = [
        "#[iolab: latencies in ns, a line for all slices of a cell that count]",
        *_kinds(by_cell),
        *_missing(by_cell),
        "#[Histogram log format version 1.3]",
        f"#[StartTime: {base_s:.3f} (seconds since epoch)]",
        f"#[BaseTime: {base_s:.3f} (seconds since epoch)]",
        '"StartTimestamp","Interval_Length","Interval_Max","Interval_Compressed_Histogram"',
        *(_line(cell, found, base_s) for cell, found in by_cell.items()),
    ]
    return "\n".join(lines) + "\n"


def _kinds(by_cell: Mapping[str, Sequence[Sample]]) -> Iterable[str]:
    """A comment for each cell with what its latency is: service time is not what a user waits."""
    for cell, found in by_cell.items():
        kinds = {str(s.load["latency"].get("kind")) for s in found if s.load is not None}
        yield from (f"#[{cell}: {kind}]" for kind in sorted(kinds - {"None"}))


def _missing(by_cell: Mapping[str, Sequence[Sample]]) -> Iterable[str]:
    """A comment for each cell of which requests were due that were never answered."""
    for cell, found in by_cell.items():
        opens = [one for s in found if s.load and (one := s.load.get("open_loop"))]
        abandoned = sum(int(one["abandoned"]) for one in opens)
        if abandoned:
            due = sum(int(one["due"]) for one in opens)
            yield f"#[{cell}: {abandoned} of {due} requests due were never answered]"


def _fits(load: Mapping[str, Any]) -> bool:
    latency = load.get("latency") or {}
    return latency.get("scheme") == SCHEME and latency.get("sub_bucket_bits") == _BITS


def _line(cell: str, samples: Sequence[Sample], base_s: float) -> str:
    """Commas and blanks, which would end a tag, become semicolons."""
    tag = ";".join(cell.replace(",", " ").split())
    loads = [sample.load for sample in samples if sample.load is not None]
    counts: Counter[int] = Counter()
    for load in loads:
        counts.update({int(index): int(nr) for index, nr in load["latency"]["counts"]})
    start_s = min(sample.started_unix_ns for sample in samples) / 1e9 - base_s
    length_s = sum(load["window"]["ns"] for load in loads) / 1e9
    most = max((load["latency"]["max"] or 0 for load in loads), default=0)
    return f"Tag={tag},{start_s:.3f},{length_s:.3f},{most / 1e6:.6f},{encode(counts, most)}"


def encode(counts: Mapping[int, int], most: int) -> str:
    """Counts by bucket as HdrHistogram encodes them; `most` is the largest value in ns."""
    body = bytearray()
    next_index = 0
    for index in sorted(index for index, nr in counts.items() if nr):
        empty = index - next_index
        if empty:
            body += _zigzag(-empty if empty > 1 else 0)
        body += _zigzag(counts[index])
        next_index = index + 1
    head = struct.pack(
        ">IIIIqqd", _COOKIE_COUNTS, len(body), 0, _SIGNIFICANT_DIGITS, 1, max(most, _HOUR_NS), 1.0
    )
    packed = zlib.compress(head + bytes(body))
    return base64.b64encode(struct.pack(">II", _COOKIE_COMPRESSED, len(packed)) + packed).decode()


def _zigzag(number: int) -> bytes:
    """ZigZag LEB128: seven bits a byte, the lowest first. Counts stay far below its ninth byte."""
    bits = (number << 1) ^ (number >> 63)
    out = bytearray()
    while bits >> 7:
        out.append((bits & 0x7F) | 0x80)
        bits >>= 7
    out.append(bits)
    return bytes(out)
