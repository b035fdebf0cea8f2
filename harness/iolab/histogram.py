"""The load generator's histograms: where a bucket lies, and those of many slices side by side.

They are log-linear: with b sub-bucket bits, a value v has index v below 2^(b+1), and
shift * 2^b + (v >> shift) with shift = floor(log2 v) - b from there on. Equal indices add up.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

SCHEME = "log-linear"


def bucket(index: int, sub_bucket_bits: int) -> tuple[int, int]:
    """The smallest and largest value that falls into bucket `index`."""
    per_octave = 1 << sub_bucket_bits
    if index < 2 * per_octave:
        return index, index
    shift = (index >> sub_bucket_bits) - 1
    low = (index % per_octave + per_octave) << shift
    return low, low + (1 << shift) - 1


@dataclass(frozen=True)
class Counts:
    """Histograms of several slices: a row each, a column for each bucket that any of them uses.

    `values` are what the columns stand for, rising: the middle of the bucket, kept within the
    smallest and largest value seen; the last one is infinite where something had no value. `most`
    is the largest value, infinite in that case.
    """

    table: npt.NDArray[np.float64]
    values: npt.NDArray[np.float64]
    most: float


def gather(
    documents: Iterable[Mapping[str, Any]], without_value: Sequence[int] | None = None
) -> Counts | None:
    """`latency` objects as one table, None when they hold nothing.

    `without_value` says for each how many it lacks that were larger than all. ValueError when the
    histograms are of different kinds.
    """
    found = list(documents)
    lacking = list(without_value or [0] * len(found))
    filled = [one for one in found if one["counts"]]
    kinds = {(str(one["scheme"]), int(one["sub_bucket_bits"])) for one in filled}
    if len(kinds) > 1 or any(scheme != SCHEME for scheme, _ in kinds):
        raise ValueError(f"latency histograms of kinds {sorted(kinds)} cannot be merged")
    if not filled and not any(lacking):
        return None
    bits = next(iter(kinds))[1] if kinds else 0
    indices = sorted({int(index) for one in filled for index, _ in one["counts"]})
    column = {index: at for at, index in enumerate(indices)}
    table = np.zeros((len(found), len(indices) + 1))
    for row, one in enumerate(found):
        for index, nr in one["counts"]:
            table[row, column[int(index)]] += nr
        table[row, -1] = lacking[row]
    least = min((float(one["min"]) for one in filled), default=math.inf)
    most = max((float(one["max"]) for one in filled), default=math.inf)
    middles = [min(max(sum(bucket(index, bits)) / 2, least), most) for index in indices]
    values = np.asarray([*middles, math.inf])
    return Counts(table, values, math.inf if any(lacking) else most)
