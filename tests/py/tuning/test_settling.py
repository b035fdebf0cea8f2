"""Knobs that move each other: what has moved is written again, what moves all the same is said."""

from __future__ import annotations

from pathlib import Path

import pytest
from fakehost import FakeHost, Rule, WriteProfile, snapshot

from iolab.tuning import bench, journal
from iolab.tuning.knob import Outcome
from iolab.tuning.scene import Scene

CORE = "proc/sys/net/core"


def moves(machine: Path, other: str, value: str) -> Rule:
    """A sysctl that sets another one when it is written, as ip_forward does accept_redirects."""

    def rule(old: str, new: str) -> str:
        (machine / CORE / other).write_text(f"{value}\n")
        return new

    return rule


def busy_poll(machine: Path) -> str:
    return (machine / CORE / "busy_poll").read_text().strip()


FORWARD = '[sysctl]\n"net.core.busy_poll" = 50\n"net.core.somaxconn" = 65535'


def test_a_knob_that_a_later_one_moves_is_written_again(
    machine: Path, host: FakeHost, scene: Scene, write_profile: WriteProfile
) -> None:
    before = snapshot(machine)
    host.rules["proc/sys/net/core/somaxconn"] = moves(machine, "busy_poll", "0")
    applied = bench.apply(write_profile(FORWARD), scene)
    assert applied.ok
    assert busy_poll(machine) == "50"
    assert all(one.good for one in bench.verify(host))
    bench.revert(host)
    assert snapshot(machine) == before


def test_what_was_so_and_is_moved_is_written_and_restored(
    machine: Path, host: FakeHost, scene: Scene, write_profile: WriteProfile
) -> None:
    before = snapshot(machine)
    host.rules["proc/sys/net/core/somaxconn"] = moves(machine, "busy_poll", "7")
    loaded = write_profile(FORWARD.replace("50", "0"))
    assert bench.apply(loaded, scene).ok
    assert busy_poll(machine) == "0"
    bench.revert(host)
    assert snapshot(machine) == before


@pytest.mark.parametrize("keep", [False, True])
def test_knobs_that_exclude_each_other_are_no_success(
    machine: Path, host: FakeHost, scene: Scene, write_profile: WriteProfile, keep: bool
) -> None:
    before = snapshot(machine)
    host.rules["proc/sys/net/core/somaxconn"] = moves(machine, "busy_poll", "0")
    host.rules["proc/sys/net/core/busy_poll"] = moves(machine, "somaxconn", "4096")
    applied = bench.apply(write_profile(FORWARD), scene, partial=keep)
    assert not applied.ok
    (bad,) = (one for one in applied.results if not one.good)
    assert bad.outcome is Outcome.DIFFERENT
    assert "another knob of the profile moved it" in bad.reason
    if keep:
        (found,) = (one for one in bench.verify(host) if not one.good)
        assert found.knob == bad.knob
        bench.revert(host)
    assert snapshot(machine) == before


def test_values_that_move_each_other_back_are_not_called_restored(
    machine: Path, host: FakeHost, scene: Scene, write_profile: WriteProfile
) -> None:
    bench.apply(write_profile(FORWARD), scene)
    host.rules["proc/sys/net/core/somaxconn"] = moves(machine, "busy_poll", "1")
    host.rules["proc/sys/net/core/busy_poll"] = moves(machine, "somaxconn", "1")
    problems = [one for one in bench.revert(host) if one.problem]
    assert ["another value moved it to '1'" in one.problem for one in problems] == [True]
    assert journal.load(host.state) is not None
