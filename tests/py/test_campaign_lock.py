"""One process at a time records into a run: a real one, which others want to go on with."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import realruns
from otherprocess import recorder, refusal

from iolab.campaign import resume_plan, run_plan
from iolab.errors import IolabError
from iolab.lab import open_lab
from iolab.store import SampleWriter, read_manifest


def contents(run_dir: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in run_dir.rglob("*") if path.is_file()}


def test_a_run_into_which_another_process_records_is_refused_and_left_alone(
    real_run: Callable[[str], Path], tmp_path: Path
) -> None:
    run_dir = tmp_path / "run"
    shutil.copytree(real_run("open"), run_dir)
    plan = resume_plan(run_dir)
    with open_lab() as lab:
        with recorder(run_dir) as other:
            before = contents(run_dir)
            words = rf": process {other.pid} is recording into this run"
            with pytest.raises(IolabError, match=words):
                run_plan(lab, plan, run_dir)
            assert contents(run_dir) == before
        run_plan(lab, plan, run_dir)  # the other has ended
    assert len(read_manifest(run_dir)["starts"]) == 2


def test_a_run_keeps_others_out_from_its_first_block_to_its_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refusals: list[str] = []
    end_block = SampleWriter.end_block

    def meanwhile(writer: SampleWriter, block: int, **facts: Any) -> None:
        refusals.append(refusal(writer._path.parent))
        end_block(writer, block, **facts)

    monkeypatch.setattr(SampleWriter, "end_block", meanwhile)
    run_dir = realruns.measure("open", tmp_path)
    assert len(refusals) == 2
    assert all(f"process {os.getpid()} is recording" in words for words in refusals)
    with recorder(run_dir):  # which may now
        pass
