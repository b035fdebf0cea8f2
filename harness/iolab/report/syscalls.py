"""The counting pass as rows: what tracepoints saw of each server beside what it said itself."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from iolab.report.view import SyscallRow

# The ends of the pass cut batches, and waiting goes on beyond them: relative, and per request.
_SLACK = 0.02
_SHOWN_FROM = 0.005


def rows(records: Iterable[Mapping[str, Any]]) -> tuple[SyscallRow, ...]:
    """The last record of each cell, in the order of the file."""
    latest = {str(record["cell"]): record for record in records}
    return tuple(_row(record) for record in latest.values())


def _row(record: Mapping[str, Any]) -> SyscallRow:
    requests = int(record.get("requests") or 0)
    workload, server = str(record["workload"]), str(record["server"])
    if record["status"] != "ok" or not requests or not record.get("traced"):
        reason = record.get("reason") or "no request in the slice"
        return SyscallRow(workload, server, requests, None, None, (), str(reason))
    table: Mapping[str, int] = record["traced"]
    traced = table["total"] / requests
    own = (record.get("server_counters") or {}).get("syscalls")
    counted = sum(own.values()) / requests if own else None
    mix = [(name, nr / requests) for name, nr in table.items() if name != "total"]
    mix.append(("other", traced - sum(nr for _, nr in mix)))
    shown = sorted((one for one in mix if one[1] >= _SHOWN_FROM), key=lambda one: -one[1])
    note = _note(traced, counted)
    return SyscallRow(workload, server, requests, traced, counted, tuple(shown), note)


def _note(traced: float, counted: float | None) -> str:
    if counted is None:
        return "counts none of its own"
    off = traced - counted
    if abs(off) <= _SLACK * max(traced, counted, 1.0):
        return "agree"
    return f"{abs(off):.2g} per request {'not counted' if off > 0 else 'counted too many'}"
