"""A run as rows for other tools: CSV and Parquet of every slice, OpenMetrics of every cell. Pure
but for `write_parquet`.

CSV and Parquet hold raw figures, a row for each stored slice. OpenMetrics holds what the statistics
make of them: ratios with their intervals, medians, and which cells have no number.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from iolab import bystanders, control, stats
from iolab.errors import IolabError
from iolab.model import Cell, Sample, Status
from iolab.report.run import Run

Value = str | int | float | None

# Column -> its type, in the order of the file. Counters of the server follow as `server_NAME`.
COLUMNS: Mapping[str, type] = {
    "run": str, "block": int, "order": int, "cell": str, "server": str, "build": str,
    "handicap_percent": int, "twin": int, "profile": str, "testbed": str, "workload": str,
    "role": str, "size_bytes": int,
    "connections": int, "pipeline": int, "pairs": int, "status": str, "reason": str,
    "started_unix_ns": int, "wall_ns": int, "window_ns": int, "requests": int, "body_bytes": int,
    "unit": str, "units_per_s": float, "server_cpu_ns": int, "client_cpu_ns": int,
    "client_share": float, "latency_kind": str, "p50_ns": int, "p90_ns": int, "p99_ns": int,
    "p999_ns": int, "max_ns": int, "rate_per_s": float, "arrivals": str, "due": int, "unsent": int,
    "outstanding": int, "abandoned": int, "overload": int, "lateness_p50_ns": int,
    "lateness_p99_ns": int, "lateness_max_ns": int, "bystander_share": float,
    "resident_peak_bytes": int,
}  # fmt: skip
_OFFERED = ("rate_per_s", "arrivals", "due", "unsent", "outstanding", "abandoned")
_LATENCIES = ("p50", "p90", "p99", "p999", "max")


class ExportError(IolabError):
    """A format that cannot be written here, with the remedy."""


def rows(run: Run) -> list[dict[str, Value]]:
    """Every slice of the finished blocks as a flat row; None where it has no such figure."""
    cells = {cell.id: cell for cell in run.plan.cells}
    return [_row(run, cells[sample.cell], sample) for sample in run.samples if sample.cell in cells]


def columns(table: Iterable[Mapping[str, Value]]) -> dict[str, type]:
    """The columns of these rows with their types: COLUMNS, then counters by name."""
    extra = sorted({key for row in table for key in row if key not in COLUMNS})
    return {**COLUMNS, **dict.fromkeys(extra, int)}


def _row(run: Run, cell: Cell, sample: Sample) -> dict[str, Value]:
    server, load = cell.server, cell.workload
    found: dict[str, Value] = {
        "run": run.name, "block": sample.block, "order": sample.order, "cell": cell.id,
        "server": server.label, "build": server.build,
        "handicap_percent": server.handicap_percent, "twin": int(server.twin),
        "profile": cell.profile, "testbed": cell.testbed,
        "workload": load.name, "role": run.plan.role, "size_bytes": load.size_bytes,
        "connections": load.connections, "pipeline": load.pipeline, "pairs": load.pairs,
        "status": str(sample.status), "reason": sample.reason,
        "started_unix_ns": sample.started_unix_ns, "wall_ns": sample.wall_ns, "unit": load.unit,
        "bystander_share": bystanders.share(sample) if "bystanders" in sample.extra else None,
        "resident_peak_bytes": sample.extra.get("memory", {}).get("resident_peak_bytes"),
    }  # fmt: skip
    if sample.load is not None:
        found |= _load(sample, load.unit_bytes)
    for key, value in _flat(sample.server_counters or {}):
        found[f"server_{key}"] = value
    return found


def _load(sample: Sample, unit_bytes: int) -> dict[str, Value]:
    """What the load generator measured. A rate only where the slice is usable."""
    document = sample.load or {}
    window, cpu = document.get("window") or {}, document.get("cpu") or {}
    latency = document.get("latency") or {}
    return {
        "window_ns": window.get("ns"),
        "requests": window.get("requests"),
        "body_bytes": window.get("body_bytes"),
        "units_per_s": stats.unit_rate(document, unit_bytes) if stats.usable(sample) else None,
        "server_cpu_ns": cpu.get("server_ns"),
        "client_cpu_ns": cpu.get("client_ns"),
        "client_share": cpu.get("client_share"),
        "latency_kind": latency.get("kind"),
        **{f"{name}_ns": latency.get(name) for name in _LATENCIES},
        **_open_loop(document.get("open_loop") or {}),
    }


def _open_loop(found: Mapping[str, Any]) -> dict[str, Value]:
    """What an open loop's latencies are to be read with; nothing of a closed loop."""
    if not found:
        return {}
    late = found.get("lateness") or {}
    return {
        **{key: found.get(key) for key in _OFFERED},
        "overload": int(found["overload"]),
        **{f"lateness_{name}_ns": late.get(name) for name in ("p50", "p99", "max")},
    }


def _flat(counters: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, int]]:
    """Counters through nested tables: `requests`, `syscalls_send`."""
    for key, value in counters.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}_")
        elif isinstance(value, int):
            yield f"{prefix}{key}", value


def to_csv(run: Run) -> str:
    """Every slice as CSV (RFC 4180) with a header; an empty field is a missing figure."""
    table = rows(run)
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, fieldnames=list(columns(table)), restval="")
    writer.writeheader()
    writer.writerows(table)
    return text.getvalue()


def write_parquet(run: Run, path: Path) -> None:
    """Every slice as a Parquet file at `path`.

    ExportError when pyarrow, an optional dependency, is not installed, or the file cannot be
    written.
    """
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise ExportError(
            f"--format parquet: pyarrow is not installed ({error}); it is large, and nothing else "
            "needs it",
            ".venv/bin/python -m pip install --require-hashes -r setup/requirements-parquet.txt",
        ) from error
    table = rows(run)
    types = {str: pyarrow.string(), int: pyarrow.int64(), float: pyarrow.float64()}
    schema = pyarrow.schema([(name, types[kind]) for name, kind in columns(table).items()])
    try:
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(table, schema=schema), str(path))
    except OSError as error:
        raise ExportError(f"{path}: cannot be written: {error.strerror or error}") from error


# --- OpenMetrics ---------------------------------------------------------------------------------

# Family -> its help text.
_FAMILIES = {
    "iolab_ratio": "Median of the paired ratios of rates to the reference.",
    "iolab_ratio_low": "Lower end of the 95% interval of the ratio.",
    "iolab_ratio_high": "Upper end of the 95% interval of the ratio.",
    "iolab_rate": "Median rate of a cell, in units per second; the label unit says of what.",
    "iolab_server_cpu_seconds": "Median server CPU time for one unit.",
    "iolab_blocks": "Blocks that a cell was measured in.",
    "iolab_cell_ok": "1 for a cell with numbers, 0 for one without; the label status says why.",
    "iolab_client_limited": "1 for a cell that the client limited: its ratio shows no server.",
    "iolab_run_untrusted": "1 when an A/A pair of the run differs.",
}


def to_openmetrics(run: Run) -> str:
    """The run's figures in the OpenMetrics text format 1.0: gauges, ended by `# EOF`."""
    found: dict[str, list[str]] = {name: [] for name in _FAMILIES}

    def put(name: str, value: float | int | None, **labels: str) -> None:
        if value is not None:
            text = ",".join(f'{key}="{_escaped(label)}"' for key, label in labels.items())
            found[name].append(f"{name}{{{text}}} {value!r}")

    for summary in stats.summarise(run.plan, run.samples):
        for cell in summary.cells:
            labels = {"run": run.name, "server": cell.server, "workload": cell.workload}
            put("iolab_cell_ok", int(cell.status is Status.OK), **labels, status=str(cell.status))
            if cell.status is not Status.OK:
                continue
            put("iolab_rate", cell.units_per_s, **labels, unit=summary.workload.unit)
            put("iolab_blocks", cell.slices, **labels)
            if cell.server_us_per_unit is not None:
                unit = summary.workload.unit
                put("iolab_server_cpu_seconds", cell.server_us_per_unit / 1e6, **labels, unit=unit)
            put("iolab_client_limited", int(cell.client_limited), **labels)
            # Of open loops the rates are those asked for, and their ratio is 1 for all who keep up.
            if cell.ratio is not None and not summary.workload.open_loop:
                beside = {**labels, "baseline": summary.baseline}
                put("iolab_ratio", cell.ratio.ratio, **beside)
                put("iolab_ratio_low", cell.ratio.low, **beside)
                put("iolab_ratio_high", cell.ratio.high, **beside)
    bad = control.untrusted(control.read(run.plan, run.samples))
    put("iolab_run_untrusted", int(bad is not None), run=run.name)
    return "\n".join([*_families(found), "# EOF"]) + "\n"


def _families(found: Mapping[str, Sequence[str]]) -> Iterable[str]:
    for name, lines in found.items():
        if lines:
            yield f"# TYPE {name} gauge"
            if name.endswith("_seconds"):
                yield f"# UNIT {name} seconds"
            yield f"# HELP {name} {_FAMILIES[name]}"
            yield from lines


def _escaped(text: str) -> str:
    """A label's value as the format wants it."""
    return text.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')
