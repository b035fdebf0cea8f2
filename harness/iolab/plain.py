"""Nested data as JSON can hold it. Pure."""

from __future__ import annotations

import math
from enum import StrEnum
from typing import Any


def plain(value: Any) -> Any:
    """A copy of dicts, lists and tuples (as lists) in which a number that is not finite is None.

    JSON knows no infinity (RFC 8259, 6). Of a StrEnum its text is kept.
    """
    if isinstance(value, dict):
        return {key: plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain(inner) for inner in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return str(value) if isinstance(value, StrEnum) else value
