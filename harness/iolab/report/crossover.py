"""Where each technique overtakes the next: the map of a grid of sizes and connections.

Each place shows the server that leads there, and how far it is ahead of the first one that a
paired test tells apart from it. A place whose leader is tied, or has nobody behind it, is no
evidence for a technique: it is hatched.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from iolab import stats
from iolab.model import Plan
from iolab.report import fmt, layout
from iolab.report.chart import Cell, Chart, Place, Tick, caption, clean
from iolab.report.view import Crossing, Estimate, ReportView
from iolab.sizes import format_size

_LEFT, _RIGHT, _TOP, _BOTTOM = 92, 18, 92, 62
_ROW_HEIGHT = 56


def crossing(
    summary: stats.WorkloadSummary,
    cells: Sequence[stats.CellSummary],
    rates: Mapping[str, Mapping[int, float]],
    seed: int,
) -> Crossing:
    """The place of one workload; `cells` ranked, `rates` by cell and block."""
    workload = summary.workload
    first = [cell for cell in cells if cell.rank == 1]
    behind = next((cell for cell in cells if cell.rank is not None and cell.rank > 1), None)
    ahead = None
    if first and behind is not None:
        logs = stats.rate_logs(rates[first[0].cell], rates[behind.cell])
        found = stats.estimate(logs, seed)
        if found is not None:
            ahead = Estimate(found.ratio, found.low, found.high, found.coverage)
    limited = [cell.server for cell in cells if cell.client_limited]
    return Crossing(
        workload=workload.name,
        size_bytes=workload.size_bytes,
        connections=workload.connections,
        leader=first[0].server if first else None,
        tied=tuple(cell.server for cell in first[1:]),
        behind=behind.server if behind else None,
        ahead=ahead,
        client_limited=tuple(limited),
    )


def crossings(plan: Plan, found: Mapping[str, Crossing]) -> tuple[Crossing, ...]:
    """All places of the grid, by size and connections; empty when the plan is no grid."""
    if not plan.grid:
        return ()
    places = (found[workload.name] for workload in plan.workloads if workload.name in found)
    return tuple(sorted(places, key=lambda place: (place.size_bytes, place.connections)))


def crossover_chart(view: ReportView) -> Chart | None:
    """The map, None when the run is no grid. Rows are sizes, the smallest on top."""
    if not view.crossings:
        return None
    sizes = sorted({place.size_bytes for place in view.crossings})
    columns = sorted({place.connections for place in view.crossings})
    table: list[tuple[Cell, ...]] = []
    places = []
    for place in view.crossings:
        column, row = columns.index(place.connections), sizes.index(place.size_bytes)
        low, high = (place.ahead.low, place.ahead.high) if place.ahead else (None, None)
        value = place.ahead.value if place.ahead else None
        tied, behind = ", ".join(place.tied), place.behind or ""
        table.append(
            (column, row, place.workload, place.leader or "", tied, behind, value, low, high)
        )
        colour = view.styles[place.leader].colour if place.leader else "#000000"
        places.append(Place(column, row, colour, place.sure, _lines(place)))
    width = max(720, _LEFT + _RIGHT + 190 * len(columns))
    height = _TOP + _BOTTOM + _ROW_HEIGHT * len(sizes)
    return Chart(
        name="crossover",
        template="crossover.gp.j2",
        title="Which technique leads where",
        subtitle="Sizes of a response by connections: the leader, its ratio to the first server "
        "told apart from it, the 95% interval. Hatched: tied, or nobody was told apart.",
        caption=caption(view),
        alt="The leading server at every size and number of connections",
        width=width,
        height=height,
        header=("column", "row", "workload", "leader", "tied", "behind", "ratio", "low", "high"),
        table=tuple(table),
        box=layout.Box(_LEFT, _TOP, width - _RIGHT, height - _BOTTOM),
        places=tuple(places),
        xticks=tuple(Tick(at, f"{nr:,}") for at, nr in enumerate(columns)),
        ticks=tuple(Tick(at, format_size(size)) for at, size in enumerate(sizes)),
    )


def _lines(place: Crossing) -> tuple[str, ...]:
    """What is written into a place, at most three lines."""
    if place.leader is None:
        return ("no ranking",)
    lines = [layout.shorten(clean(place.leader), 24)]
    if len(place.tied) == 1:
        lines.append(layout.shorten(f"= {clean(place.tied[0])}", 24))
    elif place.tied:
        lines.append(f"tied with {len(place.tied)} others")
    if place.ahead is not None:
        interval = fmt.interval(place.ahead.low, place.ahead.high)
        lines.append(f"{fmt.ratio(place.ahead.value)} [{interval}]")
        if not place.tied:
            lines.append(layout.shorten(f"of {clean(place.behind or '')}", 24))
    return tuple(lines)
