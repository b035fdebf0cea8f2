from __future__ import annotations

import pytest

from iolab.units import (
    as_argument,
    format_duration,
    format_percent,
    parse_duration,
    parse_percent,
)


@pytest.mark.parametrize(
    ("text", "share"), [("2%", 0.02), ("0.5 %", 0.005), ("0.02", 0.02), (" 99% ", 0.99)]
)
def test_shares(text: str, share: float) -> None:
    assert parse_percent(text) == pytest.approx(share)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("2", "is 2% meant"),
        ("0%", "above 0%"),
        ("100%", "below 100%"),
        ("-2%", "no share"),
        ("two", "no share"),
        ("2%%", "no share"),
        ("", "no share"),
    ],
)
def test_what_is_no_share_is_explained(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        parse_percent(text)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("10m", 600),
        ("90s", 90),
        ("1h30m", 5400),
        ("1h 30min", 5400),
        ("500ms", 0.5),
        ("1.5h", 5400),
        ("60", 60),
    ],
)
def test_durations(text: str, seconds: float) -> None:
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("0", "above 0"),
        ("0s", "above 0"),
        ("ten", "no duration"),
        ("10x", "unknown unit 'x': allowed are ms, s, m, min, h"),
        ("10m!", "no duration"),
        ("m10", "no duration"),
        ("-5s", "no duration"),
        ("", "no duration"),
        ("1,5m", "no duration"),
    ],
)
def test_what_is_no_duration_is_explained(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        parse_duration(text)


def test_what_to_wait_is_rounded_up() -> None:
    assert [format_duration(s) for s in (0.2, 45, 89.5, 90, 601, 5400, 7200, 7201)] == [
        "1 s", "45 s", "90 s", "2 min", "11 min", "1 h 30 min", "2 h", "2 h 1 min",
    ]  # fmt: skip
    assert format_duration(float("inf")) == "no time that is known"


def test_shares_have_the_digits_they_need() -> None:
    assert [format_percent(share) for share in (0.05, 0.025, 0.0025)] == ["5%", "2.5%", "0.25%"]


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.2, "1s"), (44.1, "45s"), (90, "2m"), (600, "10m"), (7201, "121m")]
)
def test_a_time_for_a_command_line_is_read_back_as_no_less(seconds: float, text: str) -> None:
    assert as_argument(seconds) == text
    assert parse_duration(text) >= seconds
