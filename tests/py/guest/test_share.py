"""A share is read without trusting the guest; nothing is booted here."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from iolab.guest import session, share
from iolab.guest.machine import Machine
from iolab.guest.session import GuestError
from iolab.guest.share import ShareError, read_file, read_files, require_room


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "share").mkdir()
    (tmp_path / "share/status").write_text("0\n")
    return tmp_path / "share"


def traps(place: Path) -> Iterator[str]:
    """What root in a guest may leave there, by name."""
    (place / "secret").symlink_to("/etc/passwd")
    (place / "endless").symlink_to("/dev/zero")
    os.mkfifo(place / "fifo")
    (place / "directory").mkdir()
    yield from ("secret", "endless", "fifo", "directory")
    if os.geteuid() == 0:
        os.mknod(place / "device", stat.S_IFCHR | 0o600, os.makedev(1, 5))  # /dev/zero
        yield "device"


def test_only_regular_files_are_read(place: Path) -> None:
    for name in traps(place):
        assert read_file(place / name) == b"", name
    assert read_files(place) == {"status": b"0\n"}


def test_a_file_is_read_from_an_offset_and_to_a_limit(place: Path) -> None:
    (place / "stdout").write_text("abcdef")
    assert read_file(place / "stdout", 2, 3) == b"cde"
    assert read_file(place / "absent") == b""


def test_what_is_too_large_is_not_read(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(share, "LIMIT_BYTES", 100)
    with (place / "holes").open("wb") as file:
        file.truncate(1 << 40)  # takes no room on the disk, and all memory when it is read
    require_room(place / "holes")
    with pytest.raises(ShareError, match="more than 0 MiB"):
        read_files(place)


def test_room_is_counted_below_directories_and_not_behind_links(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (place / "a/b").mkdir(parents=True)
    (place / "a/up").symlink_to(place)
    require_room(place, place.parent / "no console")
    (place / "a/b/file").write_bytes(b"x" * (1 << 20))
    monkeypatch.setattr(share, "LIMIT_BYTES", 1 << 19)
    with pytest.raises(ShareError):
        require_room(place)


def test_many_files_are_too_many(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(share, "LIMIT_FILES", 4)
    for number in range(4):
        (place / f"d{number}").mkdir()
        require_room(place) if number < 3 else None
    with pytest.raises(ShareError):
        require_room(place)
    with pytest.raises(ShareError):
        read_files(place)


class Running:
    """A guest that never ends by itself; only what `_follow` asks of a process."""

    def alive(self) -> bool:
        return True

    def last_words(self) -> str:
        return ""


def follow(place: Path, printed: list[tuple[str, bytes]]) -> None:
    machine: Any = Machine.__new__(Machine)
    object.__setattr__(machine, "share", place)
    object.__setattr__(machine, "console", place.parent / "console")
    process: Any = Running()
    session._follow(process, machine, 300.0, lambda *new: printed.append(new))


def test_a_guest_that_fills_the_disk_is_ended(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(share, "LIMIT_BYTES", 1 << 20)
    (place / "log").write_bytes(b"x" * (2 << 20))
    with pytest.raises(GuestError, match="the guest wrote more than 1 MiB"):
        follow(place, [])


def test_a_guest_that_fills_the_disk_by_its_console_is_ended(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(share, "LIMIT_BYTES", 1 << 20)
    (place.parent / "console").write_bytes(b"x\n" * (2 << 20))
    with pytest.raises(GuestError, match="the guest wrote more than 1 MiB"):
        follow(place, [])


def test_output_with_holes_ends(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "LIMIT_BYTES", 2 << 20)
    with (place / "stdout").open("wb") as file:
        file.truncate(1 << 40)
    printed: list[tuple[str, bytes]] = []
    with pytest.raises(GuestError, match="the guest printed more than 2 MiB"):
        follow(place, printed)
    assert {stream for stream, _ in printed} == {"stdout"}
