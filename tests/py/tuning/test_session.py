"""A session leaves nothing behind, whenever it is interrupted and however often."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from fakehost import FakeHost, Rule, WriteProfile, snapshot

from iolab.tuning import bench, journal, session
from iolab.tuning.journal import holder_of, lives
from iolab.tuning.profile import Loaded
from iolab.tuning.scene import Scene
from iolab.tuning.undisturbed import undisturbed

FILE = "proc/sys/net/core/somaxconn"


@pytest.fixture
def loaded(write_profile: WriteProfile) -> Loaded:
    return write_profile('[sysctl]\n"net.core.busy_poll" = 50\n"net.core.somaxconn" = 65535')


def signals_at(value: str, number: int) -> Rule:
    """A file that gets its process a signal when that value is written, as a second Ctrl-C."""

    def rule(old: str, new: str) -> str:
        if new == value:
            signal.raise_signal(number)
        return new

    return rule


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_does_not_break_a_revert_off(
    machine: Path,
    host: FakeHost,
    scene: Scene,
    loaded: Loaded,
    number: int,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def interrupted(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    def run() -> None:
        with session.session(loaded, scene):
            host.rules[FILE] = signals_at("4096", number)
            raise KeyboardInterrupt  # the first one

    before, handler = snapshot(machine), signal.signal(number, interrupted)
    try:
        with pytest.raises(KeyboardInterrupt):
            run()
        assert signal.getsignal(number) is interrupted
    finally:
        signal.signal(number, handler)
    assert snapshot(machine) == before
    assert journal.load(host.state) is None
    assert "restoring the host first" in capsys.readouterr().err


def test_an_ignored_signal_stays_ignored(capsys: pytest.CaptureFixture[str]) -> None:
    handler = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # nohup(1)
    try:
        with undisturbed():
            signal.raise_signal(signal.SIGHUP)
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, handler)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("place", ["place", "bench.apply"])
def test_an_interrupt_as_the_profile_has_been_applied_reverts_it(
    machine: Path,
    host: FakeHost,
    scene: Scene,
    loaded: Loaded,
    place: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before, apply = snapshot(machine), bench.apply

    def interrupted(*args: object) -> None:
        if place == "bench.apply":
            apply(*args)  # type: ignore[arg-type]
        raise KeyboardInterrupt

    monkeypatch.setattr(f"iolab.tuning.session.{place}", interrupted)
    with pytest.raises(KeyboardInterrupt), session.session(loaded, scene):
        pytest.fail("it was entered")
    assert snapshot(machine) == before
    assert journal.load(host.state) is None


def test_a_session_leaves_what_somebody_else_applied_meanwhile(
    machine: Path, host: FakeHost, scene: Scene, loaded: Loaded
) -> None:
    with session.session(loaded, scene) as tuned:
        assert lives(tuned.holder)
        bench.revert(host)
        assert bench.apply(loaded, scene).ok
    left = journal.load(host.state)
    assert left is not None
    assert left.holder == ""
    assert (machine / FILE).read_text() == "65535\n"


def test_a_holder_is_told_from_a_later_process_with_its_id() -> None:
    pid, started = holder_of(os.getpid()).split()
    assert lives(f"{pid} {started} 1")
    assert not lives(f"{pid} {int(started) + 1} 1")
