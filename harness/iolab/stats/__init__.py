"""Samples -> verdicts. Pure: everything a report says is recomputed from the raw slices.

The unit of evidence is the block. Within a block all servers of a workload are driven within a few
seconds, so the noise of the machine is largely shared and cancels in
`x_b = log(rate of the cell / rate of the baseline)`, one number per block and cell. Two cells of a
workload are compared the same way through their own paired log ratios.

Data passes through the rooms in this order:

* `slices.py`: one slice; `warmup.py`: which blocks count; `pairing.py`: slices to log ratios;
* `dependence.py`: how many independent values a series is worth; `intervals.py`: intervals of its
  median; `significance.py`: p-values, of one series and of a family; `ratio.py`: all that in one;
* `precision.py`: whether a run may stop; `cells.py`: cells and workloads (`summary.py`) with their
  numbers; `ranking.py`: their ranks.

docs/method.md has the method as a whole. Callers use what this package names and no room of it.
"""

from iolab.stats.cells import limiter_of, summarise
from iolab.stats.dependence import Floats, correlation, effective_blocks, lag1
from iolab.stats.intervals import (
    CONFIDENCE,
    bootstrap_interval,
    order_interval,
    resample_blocks,
    resample_length,
)
from iolab.stats.pairing import against_reference, cell_logs, cell_status, paired_logs, rate_logs
from iolab.stats.precision import (
    comparison_logs,
    half_width,
    is_narrow,
    missed,
    widest_cell,
    widest_interval,
    without_number,
)
from iolab.stats.ranking import blind, least_blocks, rank
from iolab.stats.ratio import Estimate, Work, estimate, estimates, required_blocks
from iolab.stats.significance import ALPHA, holm, paired_p_value, preload
from iolab.stats.slices import (
    judge_slice,
    last_counted,
    overloaded,
    server_cpu_ns,
    unit_rate,
    units,
    usable,
)
from iolab.stats.summary import CellSummary, WorkloadSummary
from iolab.stats.warmup import counted_samples, warmup_blocks

__all__ = [
    "ALPHA",
    "CONFIDENCE",
    "CellSummary",
    "Estimate",
    "Floats",
    "Work",
    "WorkloadSummary",
    "against_reference",
    "blind",
    "bootstrap_interval",
    "cell_logs",
    "cell_status",
    "comparison_logs",
    "correlation",
    "counted_samples",
    "effective_blocks",
    "estimate",
    "estimates",
    "half_width",
    "holm",
    "is_narrow",
    "judge_slice",
    "lag1",
    "last_counted",
    "least_blocks",
    "limiter_of",
    "missed",
    "order_interval",
    "overloaded",
    "paired_logs",
    "paired_p_value",
    "preload",
    "rank",
    "rate_logs",
    "required_blocks",
    "resample_blocks",
    "resample_length",
    "server_cpu_ns",
    "summarise",
    "unit_rate",
    "units",
    "usable",
    "warmup_blocks",
    "widest_cell",
    "widest_interval",
    "without_number",
]
