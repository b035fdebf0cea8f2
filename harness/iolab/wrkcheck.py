"""The independent check: wrk drives the baseline and the best server alternately.

A verdict of the laboratory's own load generator should not rest on that generator alone. wrk's
one thread is often the limiter itself, so its ratios are shown beside the others, never mixed in.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from iolab import store
from iolab.cpuclock import processes_cpu_ns, usage_ns
from iolab.executor import ProcessError
from iolab.lab import Lab
from iolab.load.iolab_load import Target
from iolab.load.wrk import run_wrk
from iolab.model import SCHEMA_VERSION, Cell, Plan, Status
from iolab.servers import RunningServer
from iolab.stats import WorkloadSummary

PAIRS = 2


def why_not(lab: Lab) -> str | None:
    """The reason wrk cannot run here, None when it can."""
    if shutil.which("wrk") is None:
        return "wrk is not installed (apt-get install wrk)"
    if not lab.house.wrk_script.is_file():
        return f"{lab.house.wrk_script} is missing"
    return None


def contenders(summary: WorkloadSummary) -> list[str]:
    """Cell ids to compare: the baseline, and the fastest other server that has a ratio.

    The baseline's twin is no other server.
    """
    measured = [cell for cell in summary.cells if cell.ratio is not None and not cell.twin]
    base = [cell.cell for cell in measured if cell.server == summary.baseline]
    rivals = sorted(
        (cell for cell in measured if cell.server != summary.baseline),
        key=lambda cell: -(cell.ratio.ratio if cell.ratio else 0.0),
    )
    return [*base, rivals[0].cell] if base and rivals else []


def check_with_wrk(
    lab: Lab,
    plan: Plan,
    servers: Mapping[str, RunningServer],
    summaries: Sequence[WorkloadSummary],
    run_dir: Path,
) -> float:
    """Runs the pairs of every workload into wrk.jsonl; returns the seconds spent inside wrk.

    The order within a pair alternates, so that a drift of the machine favours neither.
    """
    spent_s = 0.0
    for summary in summaries:
        cells = [plan.cell(cell_id) for cell_id in contenders(summary)]
        for pair in range(PAIRS):
            for order, cell in enumerate(cells if pair % 2 == 0 else cells[::-1]):
                record = _one(lab, cell, servers[plan.instance(cell)])
                spent_s += record["wall_ns"] / 1e9
                record |= {"pair": pair, "order": order}
                store.append_jsonl(run_dir / store.WRK, record)
    return spent_s


def _one(lab: Lab, cell: Cell, server: RunningServer) -> dict[str, Any]:
    """One wrk run as a record: its document, or why there is none."""
    target = Target.of(server)
    started_unix_ns, started_ns = time.time_ns(), time.monotonic_ns()
    cpu_before = _cpu_ns(target)
    status, reason, document = Status.OK, None, None
    try:
        document = run_wrk(
            lab.executor, lab.house.wrk_script, lab.testbed, target, cell.workload, lab.split.client
        )
        reason = _errors(document)
        status = Status.OK if reason is None else Status.INVALID
    except ProcessError as error:
        status, reason = Status.FAILED, str(error)
    wall_ns = time.monotonic_ns() - started_ns
    cpu_after = _cpu_ns(target)
    known = cpu_before is not None and cpu_after is not None
    return {
        "schema_version": SCHEMA_VERSION,
        "cell": cell.id,
        "workload": cell.workload.name,
        "server": cell.server.label,
        "status": str(status),
        "reason": reason,
        "started_unix_ns": started_unix_ns,
        "wall_ns": wall_ns,
        "server_cpu_ns": (cpu_after or 0) - (cpu_before or 0) if known else None,
        "requests_per_s": rate(document, cell.workload.size_bytes) if document else None,
        "wrk": document,
    }


def _cpu_ns(target: Target) -> int | None:
    """CPU time of the server, None when it cannot be known."""
    if target.cpu_usage:
        return usage_ns(target.cpu_usage)
    return processes_cpu_ns(target.cpu_pids) if target.cpu_pids else None


def _errors(document: Mapping[str, Any]) -> str | None:
    """What wrk saw go wrong, None when nothing did."""
    errors = document.get("errors")
    wrong = {key: nr for key, nr in errors.items() if nr} if isinstance(errors, dict) else {}
    return ", ".join(f"{nr} {key}" for key, nr in wrong.items()) or None


def rate(document: Mapping[str, Any], size_bytes: int) -> float | None:
    """Requests per second of a wrk run, None when its document does not say.

    wrk counts bytes as they come and requests when they are complete: from 1 MiB up, where a run
    ends in the middle of most responses, requests are counted in bytes.
    """
    try:
        seconds = float(document["duration_us"]) / 1e6
        whole = float(document["requests"])
        parts = float(document["bytes"]) / size_bytes if size_bytes >= 1 << 20 else whole
    except (KeyError, TypeError, ValueError):
        return None
    return parts / seconds if seconds > 0 else None
