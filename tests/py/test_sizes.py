from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iolab.sizes import format_size, parse_size


@pytest.mark.parametrize(
    ("text", "size"),
    [("0", 0), ("1KiB", 1024), ("16 MiB", 16 << 20), ("1.5KiB", 1536), ("2kB", 2000), (7, 7)],
)
def test_sizes_that_people_write(text: str | int, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "KiB", "1kib", "1 XiB", "-1", "0.3B", "1e3", -1, True])
def test_wrong_sizes_are_refused(text: str | int) -> None:
    with pytest.raises(ValueError, match=r"size|unit|bytes"):
        parse_size(text)


@given(st.integers(0, 1 << 20), st.sampled_from(["KiB", "MiB", "GiB", "TiB"]))
def test_binary_units_are_powers_of_1024(number: int, unit: str) -> None:
    power = ["KiB", "MiB", "GiB", "TiB"].index(unit) + 1
    assert parse_size(f"{number}{unit}") == number * 1024**power


def test_format_picks_the_largest_unit() -> None:
    assert [format_size(n) for n in (0, 1023, 1024, 1536, 1 << 30)] == [
        "0B",
        "1023B",
        "1KiB",
        "1.5KiB",
        "1GiB",
    ]
