"""Resource limits: of which process they are set, and how far."""

from __future__ import annotations

from pathlib import Path

import pytest
from fakehost import PID, FakeHost, WriteProfile

from iolab.errors import IolabError
from iolab.tuning import bench
from iolab.tuning.knob import Outcome
from iolab.tuning.profile import load_profile
from iolab.tuning.scene import Scene, calling_shell


def called_by(machine: Path, *processes: tuple[int, str, int, int]) -> None:
    """Processes above iolab: id, name, parent, session."""
    for pid, name, parent, session in processes:
        (machine / f"proc/{pid}").mkdir(exist_ok=True)
        text = f"{pid} ({name}) S {parent} {pid} {session} {' '.join(['1'] * 46)}\n"
        (machine / f"proc/{pid}/stat").write_text(text)


def test_limits_go_past_sudo_to_the_shell(
    machine: Path, host: FakeHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    # sudo with use_pty runs its command in a session of its own.
    called_by(machine, (20, "sudo", 19, 20), (19, "sudo", PID, PID), (PID, "bash", 1, PID))
    monkeypatch.setattr("os.getppid", lambda: 20)
    monkeypatch.setattr("os.getsid", lambda pid: 20)
    assert calling_shell(host.tree()) == PID


@pytest.mark.parametrize("parent", [(0, "", 0, 0), (1, "systemd", 0, 1), (77, "cron", 1, 77)])
def test_limits_are_not_set_on_a_daemon(
    machine: Path,
    host: FakeHost,
    write_profile: WriteProfile,
    monkeypatch: pytest.MonkeyPatch,
    parent: tuple[int, str, int, int],
) -> None:
    if parent[0]:
        called_by(machine, parent)
    monkeypatch.setattr("os.getppid", lambda: parent[0])
    monkeypatch.setattr("os.getsid", lambda pid: 500)
    scene = Scene(host, limits_pid=calling_shell(host.tree()))
    with pytest.raises(IolabError, match=r"limits\.nofile: .*no process of this session"):
        bench.apply(write_profile("[limits]\nnofile = 1048576"), scene)
    assert host.changes == 0
    optional = write_profile('optional = ["limits.*"]\n[limits]\nnofile = 1048576')
    (result,) = bench.apply(optional, scene).results
    assert result.outcome is Outcome.UNAVAILABLE


def test_many_descriptors_take_where_systemd_raised_the_bound(
    machine: Path, host: FakeHost, scene: Scene, house_root: Path
) -> None:
    """A hard limit above fs.nr_open is refused by prlimit(2), even one that was there before."""
    (machine / "proc/sys/fs/nr_open").write_text("1073741816\n")
    host.prlimit(PID, "nofile", 1024, 1073741816)
    applied = bench.apply(load_profile(house_root / "tuning/profiles", "many-connections"), scene)
    assert applied.ok, [one for one in applied.results if not one.good]
    assert (machine / "proc/sys/fs/nr_open").read_text() == "1073741816\n"


def test_a_lower_limit_leaves_the_hard_one(
    machine: Path, host: FakeHost, scene: Scene, write_profile: WriteProfile
) -> None:
    (result,) = bench.apply(write_profile("[limits]\nnofile = 512"), scene).results
    assert result.effective == "512 4096"
    assert f"process {PID} (bash)" in result.knob
