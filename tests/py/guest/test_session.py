from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from iolab.executor import Completed, ProcessError
from iolab.fake_executor import FakeExecutor, FakeProcess
from iolab.guest import session
from iolab.guest.accelerator import kvm_works
from iolab.guest.parts import GuestMissing, Parts, find_parts
from iolab.guest.session import GuestError, Job, Terminal, open_shell, run_job, settings


@pytest.fixture(autouse=True)
def no_kvm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "kvm_works", lambda executor, parts: False)


def share_of(argv: Sequence[str]) -> Path:
    """The share's path, from QEMU's command line."""
    match = re.search(r"id=share,path=([^,]+),", argv[-1])
    assert match
    return Path(match[1])


def fake_guest(act: Callable[[Path], None], running: bool = False) -> FakeExecutor:
    """A guest whose whole life is `act` on its share."""

    def start(argv: Sequence[str], pid: int) -> FakeProcess:
        act(share_of(argv))
        return FakeProcess(tuple(argv), pid, [], lambda line: [], "its words", running)

    return FakeExecutor(start=start)


def test_a_job_gets_its_files_and_gives_status_output_and_files_back(parts: Parts) -> None:
    seen: dict[str, bytes] = {}
    heard: list[tuple[str, bytes]] = []

    def act(share: Path) -> None:
        seen.update((path.name, path.read_bytes()) for path in share.iterdir())
        (share / "stdout").write_bytes(b"out")
        (share / "stderr").write_bytes(b"err")
        (share / "status").write_text("3\n")
        (share / "more").write_bytes(b"left")

    job = Job("exit 3\n", {"data": b"given"})
    outcome = run_job(fake_guest(act), parts, job, lambda *heard_now: heard.append(heard_now))
    assert (seen["job"], seen["data"]) == (b"exit 3\n", b"given")
    assert b"power-off" in seen["second.sh"]
    assert (outcome.status, outcome.stdout, outcome.stderr) == (3, b"out", b"err")
    assert outcome.files["more"] == b"left"
    assert heard == [("stdout", b"out"), ("stderr", b"err")]


def test_nothing_of_a_guest_stays_on_the_host(parts: Parts) -> None:
    places: list[Path] = []

    def act(share: Path) -> None:
        places.append(share)
        (share / "status").write_text("0\n")

    run_job(fake_guest(act), parts, Job("true\n"))
    assert places
    assert not places[0].parent.exists()


def test_what_a_killed_harness_left_is_removed_by_the_next(
    parts: Parts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    left, other = tmp_path / "iolab-guest-4999999-x", tmp_path / f"iolab-guest-{os.getpid()}-y"
    for place in (left, other):
        (place / "share").mkdir(parents=True)

    def act(share: Path) -> None:
        (share / "status").write_text("0\n")

    run_job(fake_guest(act), parts, Job(""))
    assert not left.exists()
    assert other.exists()


def test_a_guest_that_dies_says_its_last_words(parts: Parts) -> None:
    def act(share: Path) -> None:
        (share.parent / "console").write_text("Kernel panic - not syncing\n")

    with pytest.raises(GuestError, match=r"(?s)without a result.*its words.*Kernel panic"):
        run_job(fake_guest(act), parts, Job("true\n"))


def test_a_guest_that_does_not_end_is_ended_by_its_process(parts: Parts) -> None:
    executor = fake_guest(lambda share: None, running=True)
    with pytest.raises(GuestError, match="did not end within 0 s"):
        run_job(executor, parts, Job("true\n", timeout_s=0))
    assert not executor.started[0].running


def test_settings_are_quoted_for_the_guests_shell(parts: Parts) -> None:
    text = settings(parts, Job("", interface="a b;c", without=("tcp_bbr", "sch_fq")))
    assert "INTERFACE='a b;c'\n" in text
    assert "WITHOUT='tcp_bbr sch_fq'\n" in text
    assert "INTERACTIVE" not in text
    terminal = Terminal("xterm", 40, 120, lambda path, alive: None)
    assert "ROWS=40\nCOLUMNS=120\n" in settings(parts, Job(""), terminal)


def test_a_shell_gets_the_terminal_and_gives_its_status(parts: Parts) -> None:
    relayed: list[Path] = []

    def act(share: Path) -> None:
        (share.parent / "terminal").touch()
        (share / "status").write_text("7\n")

    terminal = Terminal("xterm", 24, 80, lambda path, alive: relayed.append(path))
    assert open_shell(fake_guest(act), parts, Job("exec sh\n"), terminal) == 7
    assert [path.name for path in relayed] == ["terminal"]


def test_kvm_counts_only_when_the_kernel_boots_and_is_asked_once(
    parts: Parts, tmp_path: Path
) -> None:
    device = tmp_path / "kvm"
    assert not kvm_works(FakeExecutor(), parts, device)
    device.touch()
    boots = FakeExecutor(run=lambda argv: Completed(tuple(argv), 0, "", ""))
    assert kvm_works(boots, parts, device)
    assert kvm_works(boots, parts, device)
    assert len(boots.ran) == 1


def test_kvm_that_hangs_counts_as_none(parts: Parts, tmp_path: Path) -> None:
    device = tmp_path / "kvm"
    device.touch()
    assert not kvm_works(FakeExecutor(), parts, device)  # which raises, as a time-out does


def late(argv: Sequence[str]) -> Completed:
    """QEMU on a busy host."""
    raise ProcessError("timed out")


def test_kvm_that_was_late_once_is_asked_again(parts: Parts, tmp_path: Path) -> None:
    device = tmp_path / "kvm"
    device.touch()
    boots = FakeExecutor(run=lambda argv: Completed(tuple(argv), 0, "", ""))
    assert not kvm_works(FakeExecutor(run=late), parts, device)
    assert kvm_works(boots, parts, device)


def refused(parts: Parts, device: Path, kind: str) -> Path:
    """KVM that does not work, asked until that is taken for its answer; the file that holds it."""
    device.touch()
    refuses = FakeExecutor(run=lambda argv: Completed(tuple(argv), 1, "", ""))
    hangs = FakeExecutor(run=late)
    for _ in range(3 if kind == "late thrice" else 1):
        assert not kvm_works(hangs if kind == "late thrice" else refuses, parts, device)
    (stamp,) = parts.cache.glob("kvm-*")
    return stamp


REFUSALS = pytest.mark.parametrize("kind", ["late thrice", "refused once"])


@REFUSALS
def test_kvm_that_does_not_work_is_not_asked_again_soon(
    parts: Parts, tmp_path: Path, kind: str
) -> None:
    device = tmp_path / "kvm"
    refused(parts, device, kind)
    boots = FakeExecutor(run=lambda argv: Completed(tuple(argv), 0, "", ""))
    assert not kvm_works(boots, parts, device)
    assert boots.ran == []


@REFUSALS
@pytest.mark.parametrize("moment", ["a day later", "after a boot", "clock set back"])
def test_kvm_that_did_not_work_is_asked_again_later(
    parts: Parts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, moment: str
) -> None:
    device = tmp_path / "kvm"
    stamp = refused(parts, device, kind)
    written = stamp.stat().st_mtime
    now = {"a day later": written + 90_000, "after a boot": written + 100}.get(moment, written - 9)
    up_s = 50.0 if moment == "after a boot" else 1e9
    monkeypatch.setattr("iolab.guest.accelerator.time.time", lambda: now)
    monkeypatch.setattr("iolab.guest.accelerator.time.clock_gettime", lambda clock: up_s)
    boots = FakeExecutor(run=lambda argv: Completed(tuple(argv), 0, "", ""))
    assert kvm_works(boots, parts, device)
    assert kvm_works(boots, parts, device)
    assert len(boots.ran) == 1


def test_kvm_that_is_late_again_a_day_later_is_left_for_another_day(
    parts: Parts, tmp_path: Path
) -> None:
    device = tmp_path / "kvm"
    stamp = refused(parts, device, "late thrice")
    os.utime(stamp, (0, 0))
    hangs = FakeExecutor(run=late)
    for _ in range(2):
        assert not kvm_works(hangs, parts, device)
    assert len(hangs.ran) == 1


def test_a_missing_kernel_is_said_with_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("iolab.guest.parts.which", lambda name: Path("/bin") / name)
    with pytest.raises(GuestMissing, match=r"(?s)no kernel.*iolab setup --guest"):
        find_parts(tmp_path)


def test_missing_programs_are_said_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "iolab.guest.parts.which", lambda name: None if "qemu" in name else Path("/bin") / name
    )
    with pytest.raises(GuestMissing, match="qemu-system-x86_64"):
        find_parts(tmp_path)
