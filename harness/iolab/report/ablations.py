"""Ablations drawn: a chart for each profile on each server and workload, a row for each knob."""

from __future__ import annotations

import math
from itertools import groupby

from iolab.ablation import Step
from iolab.report import fmt, layout
from iolab.report.chart import Cell, Chart, Panel, Tick, caption, clean
from iolab.report.palette import BASELINE_COLOUR
from iolab.report.view import ReportView

_ROW_HEIGHT, _CHAR_WIDTH, _TEXT_ROOM = 22, 6.6, 0.5
_CARRIES, _CIRCLE = "#0072b2", 7
_HEADER = (
    "panel", "row", "workload", "knob", "series", "value", "low", "high", "colour", "marker",
    "state", "text",
)  # fmt: skip


def ablation_charts(view: ReportView) -> list[Chart]:
    """One chart a family of steps that has a number, named as the page asks for it."""
    ordered = sorted(view.ablations, key=lambda step: step.place)
    families = [list(found) for _, found in groupby(ordered, key=lambda step: step.place)]
    return [
        _chart(view, number, [step for step in family if step.ratio is not None])
        for number, family in enumerate(families, start=1)
        if any(step.ratio is not None for step in family)
    ]


def _chart(view: ReportView, number: int, steps: list[Step]) -> Chart:
    steps = sorted(steps, key=lambda step: -(step.ratio.ratio if step.ratio else 0.0))
    names = [layout.shorten(clean(step.knob), 46) for step in steps]
    left = 24 + math.ceil(max(map(len, names)) * _CHAR_WIDTH)
    margins = layout.Margins(left=max(left, 110), right=18, top=116, bottom=58)
    grid = layout.grid(1, len(steps) * _ROW_HEIGHT + 6, margins)
    ends = [end for s in steps if s.ratio for end in (s.ratio.low, s.ratio.high) if end > 0]
    low, high = min([*ends, 0.98]) * 0.99, max([*ends, 1.02]) * 1.01
    room = high + (high - low) * _TEXT_ROOM
    first = steps[0]
    return Chart(
        name=f"ablation-{number}",
        template="rows.gp.j2",
        title=f"What each knob of {first.profile} adds",
        subtitle=f"{clean(first.server)} at {clean(first.workload)}, {first.testbed}: rate with "
        "the whole profile over that without the knob; bars: 95% intervals. Blue: told apart "
        "from 1.",
        caption=caption(view),
        alt=f"Ratio of profile {first.profile} to itself without each knob",
        width=grid.width,
        height=grid.height,
        header=_HEADER,
        table=tuple(_row(row, step) for row, step in enumerate(steps)),
        panels=(
            Panel(
                box=grid.boxes[0],
                title=layout.shorten(first.workload, 22),
                below=layout.shorten(clean(first.server), 30),
                names=True,
                low=low,
                high=room,
                ticks=_ticks(low, high),
                text_at=room - (room - low) * 0.01,
            ),
        ),
        rows=tuple(names),
        mark=1.0,
        bar_width=2.2,
        point_size=0.6,
    )


def _ticks(low: float, high: float) -> tuple[Tick, ...]:
    found = (at for at in layout.linear_ticks(high, 4) if at >= low)
    return tuple(Tick(at, layout.tick_label(at)) for at in found)


def _row(row: int, step: Step) -> tuple[Cell, ...]:
    ratio = step.ratio
    assert ratio is not None
    colour = int((_CARRIES if step.carries else BASELINE_COLOUR)[1:], 16)
    text = f"{fmt.ratio(ratio.ratio)} [{fmt.interval(ratio.low, ratio.high)}]"
    state = "lead" if step.carries else "ranked"
    return (
        0, row, step.workload, step.knob, "ratio", ratio.ratio, ratio.low, ratio.high, colour,
        _CIRCLE, state, text,
    )  # fmt: skip
