"""Numbers as text: one place decides how many digits a reader sees.

Every function takes None for "not measured" and gives a dash, so that a missing number can never
turn into "nan" or a zero on the page.
"""

from __future__ import annotations

import math

DASH = "\N{EN DASH}"


def _usable(value: float | None) -> bool:
    """True for a finite number: the only kind that may be printed."""
    return value is not None and math.isfinite(value)


def significant(value: float | None, digits: int = 3) -> str:
    """`value` with `digits` significant digits, thousands grouped, never in exponent form."""
    if value is None or not _usable(value):
        return DASH
    if value == 0:
        return "0"
    places = max(0, digits - 1 - math.floor(math.log10(abs(value))))
    return f"{value:,.{min(places, 9)}f}"


def quantity(value: float | None, unit: str) -> str:
    """A value with its unit, `1.00 MiB/s`; without a unit it is a count, of which 2 is no 2.00."""
    if value is None or not _usable(value):
        return DASH
    if not unit and value == int(value):
        return count(value)
    # Rounded first: 0.9996 has three digits behind the point, and is 1.00 nevertheless.
    return f"{significant(float(f'{value:.3g}'))} {unit}".strip()


def ratio(value: float | None) -> str:
    """A ratio: two decimals from 0.1 up (1.52), three significant digits below (0.0421)."""
    if value is None or not _usable(value):
        return DASH
    return f"{value:,.2f}" if value >= 0.1 else significant(value)


def interval(low: float | None, high: float | None) -> str:
    """An interval of ratios, `1.48 to 1.57`."""
    return f"{ratio(low)} to {ratio(high)}"


def count(value: float | None) -> str:
    """A whole number with thousands grouped."""
    if value is None or not _usable(value):
        return DASH
    return f"{round(value):,}"


def percent(share: float | None, digits: int = 0) -> str:
    """A share of one as a percentage."""
    if share is None or not _usable(share):
        return DASH
    return f"{share * 100:.{digits}f}%"


def probability(value: float | None) -> str:
    """A p-value; below 0.0001 the digits carry no information and are not printed."""
    if value is None or not _usable(value):
        return DASH
    return "< 0.0001" if value < 0.0001 else significant(value, 2)


def seconds(value: float | None) -> str:
    """A duration for people: `48 s`, `3 min 20 s`, `1 h 04 min`."""
    if value is None or not _usable(value):
        return DASH
    whole = round(value)
    if whole < 60:
        return f"{significant(value, 2) if value < 10 else whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def duration_ns(value: float | None) -> str:
    """A latency in the unit that reads best."""
    if value is None or not _usable(value):
        return DASH
    for scale, unit in ((1e9, "s"), (1e6, "ms"), (1e3, "\N{MICRO SIGN}s")):
        if value >= scale:
            return f"{significant(value / scale)} {unit}"
    return f"{round(value)} ns"


def listing(names: list[str]) -> str:
    """Names joined for a sentence: `a`, `a and b`, `a, b and c`."""
    if len(names) < 2:
        return "".join(names)
    return f"{', '.join(names[:-1])} and {names[-1]}"
