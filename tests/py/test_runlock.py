from __future__ import annotations

import re
from pathlib import Path

import pytest
from otherprocess import recorder, refusal

from iolab.errors import IolabError
from iolab.runlock import LOCK, recording


def test_one_process_records_and_another_is_told_which(tmp_path: Path) -> None:
    with recorder(tmp_path) as other:
        words = rf"{re.escape(str(tmp_path))}: process {other.pid} is recording into this run"
        with pytest.raises(IolabError, match=words) as caught, recording(tmp_path):
            pass
        assert f"`kill {other.pid}`" in (caught.value.remedy or "")
        assert f"process {other.pid}" in refusal(tmp_path)  # the first refusal took nothing away


def test_the_lock_ends_with_its_process_however_that_ends(tmp_path: Path) -> None:
    with recorder(tmp_path) as other:
        other.kill()
        other.wait()
        with recording(tmp_path):
            pass


def test_the_lock_ends_with_the_recording_and_its_file_stays(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), recording(tmp_path):
        raise KeyboardInterrupt
    assert (tmp_path / LOCK).read_bytes() == b""
    with recorder(tmp_path):
        pass


def test_a_run_that_cannot_be_locked_is_named(tmp_path: Path) -> None:
    (tmp_path / LOCK).mkdir()
    words = r"lock: cannot be locked: Is a directory"
    with pytest.raises(IolabError, match=words), recording(tmp_path):
        pass
