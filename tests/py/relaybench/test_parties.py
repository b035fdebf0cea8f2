from __future__ import annotations

import random
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from iolab.executor import HostExecutor, ProcessError
from iolab.relaybench import parties
from iolab.relaybench.model import Part, Scale
from iolab.relaybench.parties import Moment, Side
from iolab.relaybench.parts import Stage, run_part
from iolab.relaybench.probe import Probe, settled

if TYPE_CHECKING:
    from conftest import FakeRelay

PLAN = parties.Abort(Side.SENDER, Moment.BODY, True, True, False, 300_000, 0.5, True)


def fake_proc(tmp_path: Path) -> Path:
    directory = tmp_path / "proc/1"
    (directory / "fd").mkdir(parents=True)
    (directory / "smaps_rollup").write_text("Rss: 4 kB\n")
    (directory / "status").write_text("VmHWM: 8 kB\n")
    return tmp_path / "proc"


def stage(relay: FakeRelay, executor: HostExecutor, tmp_path: Path, **scale: int) -> Stage:
    probe = Probe(relay, fake_proc(tmp_path))
    return Stage(relay.address, 1, probe, executor, ("load",), 0, Scale(**scale), seed=3)


def test_the_series_of_aborts_is_a_function_of_the_seed() -> None:
    def series(seed: int) -> list[parties.Abort]:
        source = random.Random(seed)
        return [parties.plan_abort(source) for _ in range(300)]

    assert series(1) == series(1)
    assert series(1) != series(2)
    assert {(one.victim, one.moment, one.by_reset) for one in series(1)} == {
        (side, moment, how) for side in Side for moment in Moment for how in (True, False)
    }


@pytest.mark.parametrize("victim", list(Side))
@pytest.mark.parametrize("moment", list(Moment))
@pytest.mark.parametrize("chunked", [False, True])
def test_every_abort_leaves_the_relay_empty(
    fake_relay: FakeRelay, victim: Side, moment: Moment, chunked: bool
) -> None:
    survivors = parties.Survivors(2)
    for i, first in enumerate((True, False, True, False)):
        plan = parties.Abort(victim, moment, first, first, chunked, 70_000, i / 4, not first)
        parties.abort_one(fake_relay.address, f"/a{i}", plan, survivors)
    survivors.close()
    assert settled(lambda: fake_relay.open == 0 and not fake_relay.names, 20)


def test_the_whole_series_of_a_part(fake_relay: FakeRelay, tmp_path: Path) -> None:
    """With real processes that are killed."""
    with HostExecutor() as executor:
        there = stage(fake_relay, executor, tmp_path, aborts=40, kills=8, at_once=4)
        raw = run_part(Part.ABORTS, there)
    assert sum(raw["counts"].values()) == 40
    assert raw["after"]["connections"] == raw["after"]["transfers"] == 0
    assert raw["works_after"]
    assert raw["halfway"] is not None


def test_waiting_pairs_are_all_there_and_all_leave(fake_relay: FakeRelay, tmp_path: Path) -> None:
    with HostExecutor() as executor:
        raw = run_part(Part.WAITING, stage(fake_relay, executor, tmp_path, waiting_pairs=10))
    assert raw["waiting"]["connections"] == raw["waiting"]["transfers"] == 20
    assert raw["after"]["connections"] == raw["after"]["transfers"] == 0


def test_a_limited_receiver_never_exceeds_its_limit(fake_relay: FakeRelay) -> None:
    found = parties.Throttled(fake_relay.address, "/slow", 200_000).run(0.5)
    assert found["wrong"] is None
    assert 0 < found["received_bytes"] <= 200_000 * 0.5 + 65536
    assert found["sent_bytes"] >= found["received_bytes"]


def test_wrong_bytes_are_seen(fake_relay: FakeRelay) -> None:
    fake_relay.spoil = lambda data: bytes([data[0] ^ 1]) + data[1:]
    found = parties.Throttled(fake_relay.address, "/wrong", 1 << 30).run(20)
    assert "wrong byte" in (found["wrong"] or "")
    assert not parties.whole_transfer(fake_relay.address, "/whole")


def test_a_whole_transfer(fake_relay: FakeRelay) -> None:
    assert parties.whole_transfer(fake_relay.address, "/whole")


def test_nobody_to_connect_to(fake_relay: FakeRelay) -> None:
    with pytest.raises(ProcessError, match=r"connect to 127\.0\.0\.1:1:"):
        parties.abort_one(("127.0.0.1", 1), "/x", PLAN, parties.Survivors(1))
