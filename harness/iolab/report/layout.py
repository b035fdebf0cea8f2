"""Where things stand in a chart, and which ticks an axis carries. Pure arithmetic, in pixels."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable
from dataclasses import dataclass

from iolab.report import fmt

_LOG_STEPS = (
    (1.0, 1.2, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 8.0),
    (1.0, 1.5, 2.0, 3.0, 5.0, 7.0),
    (1.0, 2.0, 5.0),
    (1.0, 3.0),
    (1.0,),
)


@dataclass(frozen=True)
class Box:
    """A panel's plotting area in pixels from the chart's top left corner."""

    left: float
    top: float
    right: float
    bottom: float


@dataclass(frozen=True)
class Grid:
    """Panels of equal size in rows, with the size of the whole chart in pixels."""

    width: int
    height: int
    boxes: tuple[Box, ...]
    per_row: int


@dataclass(frozen=True)
class Margins:
    """Room around the panels in pixels: names left, head above, caption below."""

    left: int
    right: int
    top: int
    bottom: int
    gap_x: int = 16
    gap_y: int = 78


def grid(nr: int, panel_height: int, margins: Margins, width: int = 1100) -> Grid:
    """Places `nr` panels, at most five beside each other, rows evenly filled.

    A single panel is not stretched over the page: charts with few panels become narrower.
    """
    if nr < 1:
        raise ValueError("a chart needs at least one panel")
    nr_rows = math.ceil(nr / 5)
    per_row = math.ceil(nr / nr_rows)
    room = width - margins.left - margins.right - margins.gap_x * (per_row - 1)
    panel_width = min(room / per_row, 460)
    boxes = []
    for place in range(nr):
        row, column = divmod(place, per_row)
        left = margins.left + column * (panel_width + margins.gap_x)
        top = margins.top + row * (panel_height + margins.gap_y)
        boxes.append(Box(left, top, left + panel_width, top + panel_height))
    used = max(box.right for box in boxes) + margins.right
    height = boxes[-1].bottom + margins.bottom
    return Grid(math.ceil(max(used, 720)), math.ceil(height), tuple(boxes), per_row)


def log_span(values: Iterable[float], include: float | None = None) -> tuple[float, float]:
    """A log axis that holds all positive values with a little air; one decade when there are none.

    The span is never under a factor of 1.5, so that noise does not fill the picture.
    """
    usable = [value for value in values if value > 0 and math.isfinite(value)]
    if include is not None:
        usable.append(include)
    if not usable:
        return 0.5, 5.0
    low, high = min(usable), max(usable)
    air = max((high / low) ** 0.06, 1.04)
    low, high = low / air, high * air
    if high / low < 1.5:
        middle = math.sqrt(low * high)
        low, high = middle / math.sqrt(1.5), middle * math.sqrt(1.5)
    return low, high


def log_ticks(low: float, high: float, length_px: float, gap_px: float = 34.0) -> list[float]:
    """Round tick values on a log axis of `length_px` pixels: the finest ladder of round numbers
    whose labels stand at least `gap_px` apart; ticks that still crowd are left out."""
    scale = length_px / math.log(high / low)
    ticks: list[float] = []
    for steps in _LOG_STEPS:
        powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
        found = [s * 10.0**p for p in powers for s in steps if low <= s * 10.0**p <= high]
        if ticks and len(found) < 2:
            break
        ticks = found
        gaps = [math.log(b / a) * scale for a, b in itertools.pairwise(ticks)]
        if min(gaps, default=gap_px) >= gap_px:
            return ticks
    kept: list[float] = []
    for tick in ticks:
        if not kept or math.log(tick / kept[-1]) * scale >= gap_px:
            kept.append(tick)
    return kept


def linear_ticks(high: float, at_most: int = 4) -> list[float]:
    """Round tick values from 0 up to `high`."""
    if high <= 0:
        return [0.0]
    raw = high / at_most
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= raw)
    return [step * nr for nr in range(math.floor(high / step) + 1)]


def tick_label(value: float) -> str:
    """A tick's text: shortest form, thousands as k, millions as M."""
    for scale, unit in ((1e6, "M"), (1e3, "k")):
        if value >= scale:
            return f"{value / scale:.6g}{unit}"
    return f"{value:.6g}"


def short_number(value: float) -> str:
    """Three significant digits with k or M: `1.20k`, `117k`, `66.9`."""
    for scale, unit in ((1e6, "M"), (1e3, "k")):
        if value >= scale * 0.9995:
            return f"{fmt.significant(value / scale)}{unit}"
    return fmt.significant(value)


def shorten(name: str, nr_chars: int = 30) -> str:
    """A name cut in the middle to at most `nr_chars` characters."""
    if len(name) <= nr_chars:
        return name
    head = (nr_chars - 1) * 2 // 3
    return f"{name[:head]}\N{HORIZONTAL ELLIPSIS}{name[len(name) - (nr_chars - 1 - head) :]}"
