"""What the harness costs: shares of sums, and what is not known stays unknown."""

from __future__ import annotations

import pytest

from iolab.model import Sample, Status
from iolab.overhead import Overhead, of_run, read


def sample(wall_ms: int, window_ms: int | None, cpu_ns: int | None) -> Sample:
    load = None if window_ms is None else {"window": {"ns": window_ms * 10**6}}
    extra = {} if cpu_ns is None else {"harness_cpu_ns": cpu_ns}
    return Sample(0, 0, "a@w", Status.OK, None, 0, wall_ms * 10**6, load, None, extra)


def test_shares_of_the_loop_and_of_a_core() -> None:
    found = read([sample(100, 75, 500_000), sample(300, 225, 1_500_000)], 0.5)
    assert found.outside == pytest.approx(0.2)
    assert found.inside == pytest.approx(0.005)
    assert found.untimed == pytest.approx(0.25)
    assert found.met is False
    assert "20.0% of the measuring loop between slices (limit 5%)" in found.text
    assert "0.50% of a core inside them (limit 1%)" in found.text


@pytest.mark.parametrize(
    ("loop_s", "cpu_ns", "met"),
    [(1.04, 9_000_000, True), (1.06, 9_000_000, False), (1.04, 11_000_000, False)],
)
def test_both_limits_count(loop_s: float, cpu_ns: int, met: bool) -> None:
    assert read([sample(1000, 900, cpu_ns)], loop_s).met is met


def test_slices_that_recorded_nothing_do_not_lower_the_share() -> None:
    """A run that an earlier version began and this one went on with."""
    found = read([sample(900, 800, None), sample(100, 90, 2_000_000)], 1.0)
    assert found.inside == pytest.approx(0.02)


def test_what_was_not_measured_is_not_judged() -> None:
    assert Overhead().met is None
    assert Overhead().text == "not recorded"
    old = of_run([sample(100, 75, None)], {"outcome": {"measure_wall_s": 0.1}})
    assert (old.inside, old.met) == (None, None)
    interrupted = of_run([sample(100, 75, 10)], {})
    assert (interrupted.outside, interrupted.met) == (None, None)
    assert read([sample(100, None, 10)], 1).windows_s == 0  # a slice that failed is time as well
    assert Overhead().to_json()["inside_share"] is None


def test_time_for_profiles_is_told_apart() -> None:
    tuned = sample(600, 500, 10**6)
    tuned.extra["profiles_ns"] = 380 * 10**6
    found = read([tuned], 1.0)
    assert found.outside == pytest.approx(0.02)
    assert found.profiles == pytest.approx(0.38)
    assert found.met is True
    assert "38% of the loop brings profiles into force" in found.text
    assert found.to_json()["profiles_share"] == 0.38
    assert (found + found).profiles == pytest.approx(0.38)
    assert "profiles" not in read([sample(600, 500, 10**6)], 1.0).text


def test_runs_add_up() -> None:
    one, two = read([sample(100, 80, 10**6)], 0.2), read([sample(300, 240, 10**6)], 0.3)
    both = one + two
    assert both.outside == pytest.approx(0.2)
    assert both.inside == pytest.approx(0.005)
