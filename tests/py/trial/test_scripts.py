"""The shipped scripts on trial in the real guest: verdicts as tuning/scripts/expected.toml says.

Recordings are left in the directory named by IOLAB_KEEP_RECORDINGS, where that is set.
"""

from __future__ import annotations

import os
from itertools import groupby
from pathlib import Path

import pytest

from iolab.executor import HostExecutor
from iolab.guest.parts import GuestMissing, find_parts
from iolab.paths import find_house
from iolab.trial.judge import judge
from iolab.trial.recording import Recording
from iolab.trial.transfer import Machine, guest_machine, transfer
from iolab.trial.trial import Setting, Trial, run_trials
from iolab.trial.values import flatten

from .conftest import ROOT, SCRIPTS, Expected, load_expected

EXPECTED = {one.name: one for one in load_expected()}


@pytest.fixture(scope="module")
def recordings() -> dict[str, Recording]:
    """All scripts tried: those that go without the same modules share a guest."""
    try:
        parts = find_parts(find_house().cache)
    except GuestMissing as error:
        pytest.skip(str(error).replace("\n", ";"))
    found: dict[str, Recording] = {}
    for without, group in groupby(EXPECTED.values(), key=lambda one: one.without):
        names = [one.name for one in group]
        setting = Setting(without=without, timeout_s=3600)
        with HostExecutor() as executor:
            recorded = run_trials(
                executor, parts, ROOT / "harness", [trial(name) for name in names], setting
            )
        found.update(zip(names, recorded, strict=True))
    if keep := os.environ.get("IOLAB_KEEP_RECORDINGS"):
        for name, one in found.items():
            Path(keep, f"{name}.json").write_text(one.to_json())
    return found


def trial(name: str) -> Trial:
    undo = SCRIPTS / f"{name}.undo.sh"
    return Trial(SCRIPTS / f"{name}.sh", undo if undo.exists() else None)


def test_every_script_has_its_expected_verdict_written_down() -> None:
    scripts = {path.name.partition(".")[0] for path in SCRIPTS.glob("*.sh")}
    assert scripts == set(EXPECTED)


@pytest.mark.parametrize("expected", EXPECTED.values(), ids=EXPECTED)
def test_the_verdict_is_as_expected(recordings: dict[str, Recording], expected: Expected) -> None:
    assert expected.contradictions(judge(recordings[expected.name])) == []


def test_a_snapshot_knows_what_a_script_may_change(recordings: dict[str, Recording]) -> None:
    first = next(iter(recordings.values())).before[0]
    assert len(first.files) > 1500
    assert "Combined:" in first.outputs["ethtool -l eth0"]
    assert first.outputs["tc qdisc show dev eth0"].startswith("qdisc")


def test_what_a_script_set_there_is_found_for_a_namespace(
    recordings: dict[str, Recording],
) -> None:
    recorded = recordings["rps-all-queues"]
    guest = guest_machine(flatten(recorded.first.after), recorded.interface)
    assert guest == Machine(frozenset(range(4)), 4, 4)
    found = transfer(judge(recorded), recorded.interface, guest, guest, "ioserver")
    masks = {f"queues/rx-{queue}/rps_cpus": "f" for queue in range(4)}
    assert masks.items() <= found.loaded("script", "").profile.nic.files.items()
