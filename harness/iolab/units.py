"""Shares and durations as people type them, each with its unit."""

from __future__ import annotations

import math
import re

_SECONDS = {"ms": 1e-3, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}
_NUMBER = re.compile(r"\d+(?:\.\d+)?")
_PERCENT = re.compile(r"(\d+(?:\.\d+)?)\s*%")
_PART = re.compile(r"(\d+(?:\.\d+)?)\s*([a-z]+)\s*")


def parse_percent(text: str) -> float:
    """The share of 1 that `text` names: `2%` and `0.02` are the same.

    ValueError unless it is above 0 and below 1. A number without the sign must be below 1 anyway,
    so `2` is refused instead of taken for 200%.
    """
    text = text.strip()
    match = _PERCENT.fullmatch(text)
    if match is not None:
        share = float(match[1]) / 100
    elif _NUMBER.fullmatch(text):
        share = float(text)
    else:
        raise ValueError(f"{text!r} is no share: write a percentage such as 2% or 0.5%")
    if not 0 < share < 1:
        hint = f"; is {text}% meant?" if match is None and share >= 1 else ""
        raise ValueError(f"{text!r}: a share above 0% and below 100% is required{hint}")
    return share


def parse_duration(text: str) -> float:
    """The seconds that `text` names: `90s`, `10m`, `1h30m`, `500ms`; a plain number is seconds.

    ValueError unless it is above 0.
    """
    text = text.strip()
    if _NUMBER.fullmatch(text):
        seconds = float(text)
    else:
        parts = _PART.findall(text)
        if not parts or "".join(_PART.split(text)[::3]).strip():
            raise ValueError(f"{text!r} is no duration: write 90s, 10m or 1h30m")
        unknown = [unit for _, unit in parts if unit not in _SECONDS]
        if unknown:
            units = ", ".join(_SECONDS)
            raise ValueError(f"{text!r} has the unknown unit {unknown[0]!r}: allowed are {units}")
        seconds = sum(float(number) * _SECONDS[unit] for number, unit in parts)
    if not seconds > 0:
        raise ValueError(f"{text!r}: a time above 0 is required")
    return seconds


def format_duration(seconds: float) -> str:
    """`45 s`, `10 min`, `1 h 30 min`: rounded up, for what somebody should wait."""
    if not math.isfinite(seconds):
        return "no time that is known"
    if seconds < 90:
        return f"{max(1, math.ceil(seconds))} s"
    minutes = math.ceil(seconds / 60)
    if minutes < 90:
        return f"{minutes} min"
    hours, rest = divmod(minutes, 60)
    return f"{hours} h {rest} min" if rest else f"{hours} h"


def as_argument(seconds: float) -> str:
    """A time as a command line takes it, rounded up: `45s`, `10m`."""
    minutes = math.ceil(seconds / 60)
    return f"{max(1, math.ceil(seconds))}s" if seconds < 90 else f"{minutes}m"


def format_percent(share: float) -> str:
    """A share as `5%`, `2.5%`, `0.25%`: as many digits as it has, three at most."""
    return f"{share * 100:.3g}%"
