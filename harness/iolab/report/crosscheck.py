"""wrk beside iolab-load: does an independent client see the same order?"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from iolab import stats
from iolab.report.view import WorkloadView, WrkRow

# Ratios this near to 1 say "no difference" for a check of a few seconds per cell.
_LEVEL = math.log(1.03)


def rows(
    records: Iterable[Mapping[str, Any]], baseline: str, workloads: Sequence[WorkloadView]
) -> tuple[WrkRow, ...]:
    """One row per cell that wrk drove, in the report's reading order.

    A record is one wrk run: workload, server, pair and requests_per_s; runs of the same pair were
    measured next to each other, so ratios are taken within pairs. Records with errors are counted
    in the note and give no number.
    """
    rates: dict[tuple[str, str], dict[int, float]] = {}
    spoilt: dict[tuple[str, str], int] = {}
    for record in records:
        key = (str(record.get("workload")), str(record.get("server")))
        rate = record.get("requests_per_s")
        if record.get("status", "ok") != "ok" or not isinstance(rate, int | float) or rate <= 0:
            spoilt[key] = spoilt.get(key, 0) + 1
            continue
        rates.setdefault(key, {})[int(record.get("pair", 0))] = float(rate)
    out = []
    for workload in workloads:
        base = rates.get((workload.name, baseline), {})
        for cell in workload.cells:
            key = (workload.name, cell.server)
            if key not in rates and key not in spoilt:
                continue
            series = rates.get(key, {})
            found = stats.estimate(stats.paired_logs(series, base))
            ratio = found.ratio if found and cell.server != baseline else None
            load = cell.ratio.value if cell.ratio and cell.server != baseline else None
            out.append(
                WrkRow(
                    workload=workload.name,
                    server=cell.server,
                    pairs=found.blocks if found else 0,
                    wrk_rate=float(np.median(list(series.values()))) if series else None,
                    wrk_ratio=ratio,
                    load_ratio=load,
                    note=_note(cell.server == baseline, ratio, load, spoilt.get(key, 0)),
                )
            )
    return tuple(out)


def _note(is_base: bool, ratio: float | None, load: float | None, spoilt: int) -> str:
    tail = f"; {spoilt} runs with errors left out" if spoilt else ""
    if is_base:
        return f"baseline{tail}"
    if ratio is None or load is None:
        return f"not comparable{tail}"
    ours, theirs = math.log(load), math.log(ratio)
    if abs(ours) < _LEVEL and abs(theirs) < _LEVEL:
        verdict = "agrees: about equal"
    elif ours * theirs < 0 and min(abs(ours), abs(theirs)) >= _LEVEL:
        verdict = "DISAGREES about which is faster"
    elif abs(theirs) < _LEVEL <= abs(ours):
        verdict = "wrk sees no difference"
    elif abs(ours) < _LEVEL <= abs(theirs):
        verdict = "only wrk sees a difference"
    else:
        verdict = "agrees"
    return verdict + tail
