"""What the output says of a finished run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from iolab import store
from iolab.campaign import Result, Timing
from iolab.model import Cell, Plan, Server, Workload
from iolab.outcome import show
from iolab.runner import Outcome


@pytest.mark.parametrize("unproven", [None, "no A/A evidence: a#2@w: the interval is +-20% wide"])
def test_a_run_whose_control_shows_nothing_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], unproven: str | None
) -> None:
    store.write_json(tmp_path / store.MANIFEST, {"schema_version": 1, "run": "r"})
    plan = Plan("p", "", "a", (Cell(Server("engine", "a"), Workload("w", 1, 1)),))
    ended = Outcome("budget (1 s) used up", 1, 1, 1.0, 1.0)
    result = Result(tmp_path, plan, (), (), ended, Timing(), (), unproven)
    assert show(result, report=False, as_json=True) == 0
    said = capsys.readouterr()
    assert json.loads(said.out)["unproven"] == unproven
    assert ("no A/A evidence" in said.err) == (unproven is not None)
