"""A journal that cannot be written: what was not journalled is not written either."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest
from fakehost import FakeHost, WriteProfile, snapshot

from iolab.errors import IolabError
from iolab.tuning import bench
from iolab.tuning.profile import Loaded
from iolab.tuning.scene import Scene


def refusal(loaded: Loaded, scene: Scene) -> str:
    """What applying ends with; empty when it succeeds."""
    try:
        bench.apply(loaded, scene)
    except IolabError as error:
        return str(error)
    return ""


def test_a_full_disk_is_said_and_everything_undone(
    machine: Path, host: FakeHost, scene: Scene, write_profile: WriteProfile
) -> None:
    """Whichever write of the journal fails: the one of its head, of an event, of the end."""
    before, loaded = snapshot(machine), write_profile('[sysctl]\n"net.core.somaxconn" = 65535')
    for failing in range(1, 20):
        calls = count(1)

        def sync(handle: int, calls: Iterator[int] = calls, failing: int = failing) -> None:
            if next(calls) == failing:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        with pytest.MonkeyPatch.context() as patched:
            patched.setattr("os.fsync", sync)
            said = refusal(loaded, scene)
        if not said:
            assert failing > 4
            return
        assert "journal.jsonl cannot be written: No space left" in said
        assert snapshot(machine) == before
        assert list(host.state.glob("journal*")) == []
    pytest.fail("the profile was never applied")
