"""Sizes in bytes as people write them in matrices and on command lines."""

from __future__ import annotations

import re

_UNITS = {
    "": 1,
    "B": 1,
    "KiB": 1 << 10,
    "MiB": 1 << 20,
    "GiB": 1 << 30,
    "TiB": 1 << 40,
    "kB": 10**3,
    "KB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
}
_PATTERN = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*")


def parse_size(text: str | int) -> int:
    """The number of bytes that `text` names: `"16KiB"`, `"1.5MiB"`, `"500kB"` or a plain number.

    Raises ValueError with the allowed units when the text is no size or no whole number of bytes.
    """
    if isinstance(text, bool):
        raise ValueError("a size is a number or a string such as '16KiB'")
    if isinstance(text, int):
        if text < 0:
            raise ValueError(f"a size cannot be negative: {text}")
        return text
    match = _PATTERN.fullmatch(text)
    units = ", ".join(unit for unit in _UNITS if unit)
    if match is None:
        raise ValueError(f"{text!r} is no size: a number and one of {units}")
    number, unit = match.groups()
    if unit not in _UNITS:
        raise ValueError(f"{text!r} has the unknown unit {unit!r}: allowed are {units}")
    size = float(number) * _UNITS[unit] if "." in number else int(number) * _UNITS[unit]
    if size != int(size):
        raise ValueError(f"{text!r} is no whole number of bytes")
    return int(size)


def format_size(nr_bytes: float) -> str:
    """`nr_bytes` with the largest binary unit that keeps the number at 1 or more."""
    for unit in ("TiB", "GiB", "MiB", "KiB"):
        scale = _UNITS[unit]
        if nr_bytes >= scale:
            value = nr_bytes / scale
            return f"{value:.0f}{unit}" if value == int(value) else f"{value:.1f}{unit}"
    return f"{nr_bytes:.0f}B"
