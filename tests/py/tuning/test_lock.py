from __future__ import annotations

import os
from pathlib import Path

import pytest
from fakehost import in_child

from iolab.errors import IolabError
from iolab.tuning.lock import busy, locked


def test_a_lock_keeps_others_out_and_is_seen(tmp_path: Path) -> None:
    assert not busy(tmp_path)
    with locked(tmp_path):
        assert busy(tmp_path)
        assert os.waitstatus_to_exitcode(in_child(lambda: _expect_refusal(tmp_path))) == 0
    assert not busy(tmp_path)
    with locked(tmp_path):
        pass


def _expect_refusal(state: Path) -> None:
    assert busy(state)
    with pytest.raises(IolabError, match="another iolab is tuning"), locked(state):
        pass


def test_looking_is_never_in_the_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While `busy` still has the file open, an apply must find the lock free."""
    with locked(tmp_path):
        pass
    close, taken = os.close, []

    def apply_meanwhile(handle: int) -> None:
        monkeypatch.setattr("os.close", close)
        with locked(tmp_path):
            taken.append(True)
        close(handle)

    monkeypatch.setattr("os.close", apply_meanwhile)
    assert not busy(tmp_path)
    assert taken == [True]
