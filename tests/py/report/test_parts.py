"""The report's parts without a run: numbers as text, layout, palette, histograms."""

from __future__ import annotations

import itertools
import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from synthetic import bucket_of, histogram

from iolab.histogram import bucket
from iolab.report import chart, fmt, latency, layout, palette, svg


@pytest.mark.parametrize("render", [fmt.significant, fmt.ratio, fmt.count, fmt.percent,
                                    fmt.probability, fmt.seconds])  # fmt: skip
@pytest.mark.parametrize("value", [None, math.nan, math.inf, -math.inf])
def test_what_is_no_number_becomes_a_dash(render: object, value: float | None) -> None:
    assert callable(render)
    assert render(value) == fmt.DASH


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0"), (1234567.0, "1,234,567"), (12.345, "12.3"), (0.00123456, "0.00123")],
)
def test_significant(value: float, text: str) -> None:
    assert fmt.significant(value) == text


def test_listing() -> None:
    assert fmt.listing(["a", "b", "c"]) == "a, b and c"
    assert fmt.listing([]) == ""


@pytest.mark.parametrize(("s", "text"), [(3.21, "3.2 s"), (48, "48 s"), (200, "3 min 20 s"),
                                         (3840, "1 h 04 min")])  # fmt: skip
def test_seconds(s: float, text: str) -> None:
    assert fmt.seconds(s) == text


@given(st.integers(min_value=0, max_value=2**63))
def test_buckets_hold_the_values_they_count(value: int) -> None:
    low, high = bucket(bucket_of(value), 5)
    assert low <= value <= high
    assert (high - low) <= max(low / 32, 0)


def test_percentiles_come_from_the_merged_histogram() -> None:
    rng = random.Random(2)
    slices = [[rng.randrange(1000, 10**6) for _ in range(500)] for _ in range(4)]
    merged = latency.merge(histogram(values) for values in slices)
    assert merged is not None
    ordered = sorted(itertools.chain(*slices))
    assert merged.nr == 2000
    assert merged.max == ordered[-1]
    for share, found in ((0.5, merged.p50), (0.9, merged.p90), (0.99, merged.p99)):
        assert found == pytest.approx(ordered[math.ceil(share * 2000) - 1], rel=1 / 32)


def test_no_latency_is_none_and_mixed_schemes_are_refused() -> None:
    assert latency.merge([]) is None
    other = histogram([5]) | {"sub_bucket_bits": 7}
    with pytest.raises(ValueError, match="cannot be merged"):
        latency.merge([histogram([5]), other])


@given(
    st.floats(min_value=1e-3, max_value=1e6),
    st.floats(min_value=1.5, max_value=1e4),
    st.floats(min_value=80, max_value=400),
)
def test_log_ticks_lie_inside_and_apart(low: float, span: float, length: float) -> None:
    ticks = layout.log_ticks(low, low * span, length)
    assert all(low <= tick <= low * span for tick in ticks)
    for a, b in itertools.pairwise(ticks):
        assert math.log(b / a) / math.log(span) * length >= 33.9


@given(st.floats(min_value=1e-6, max_value=1e9))
def test_linear_ticks_start_at_zero_and_stay_inside(high: float) -> None:
    ticks = layout.linear_ticks(high)
    assert ticks[0] == 0
    assert 2 <= len(ticks) <= 6
    assert ticks[-1] <= high * (1 + 1e-9)


@given(st.integers(min_value=1, max_value=23))
def test_panels_do_not_overlap_and_stay_on_the_chart(nr: int) -> None:
    grid = layout.grid(nr, 200, layout.Margins(150, 18, 116, 58))
    assert len(grid.boxes) == nr
    for a, b in itertools.combinations(grid.boxes, 2):
        assert a.right <= b.left or b.right <= a.left or a.bottom <= b.top or b.bottom <= a.top
    assert all(box.right <= grid.width and box.bottom <= grid.height for box in grid.boxes)


def test_a_server_keeps_its_look_and_shares_it_with_none() -> None:
    names = [f"server{nr}" for nr in range(24)]
    styles = palette.styles(names, "server3")
    looks = [(s.colour, s.filled) for s in styles.values()]
    assert len(set(looks)) == len(names)
    assert styles["server3"].colour == palette.BASELINE_COLOUR
    assert styles == palette.styles(names, "server3")


@given(st.text())
def test_quoted_text_stays_one_string(text: str) -> None:
    quoted = chart.quote(text)
    assert quoted[0] == quoted[-1] == "'"
    assert "'" not in quoted[1:-1]
    assert not set(quoted) & set("\n\r\t\0")


def test_foreign_svg_is_refused() -> None:
    with pytest.raises(ValueError, match="gnuplot"):
        svg.finish("<svg></svg>", "a", "b")


def test_shorten_keeps_both_ends() -> None:
    name = layout.shorten("io_uring,cache=memory,sqpoll=on,merge=1", 20)
    assert len(name) == 20
    assert name.startswith("io_uring,c")
    assert name.endswith("merge=1")
