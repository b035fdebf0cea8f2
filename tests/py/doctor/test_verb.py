from __future__ import annotations

import json
from dataclasses import replace

import pytest
from click.testing import CliRunner

from iolab.commands import doctor as verb
from iolab.doctor.machine import Machine


@pytest.mark.parametrize(("nofile", "code"), [(1 << 20, 0), (100, 1)])
def test_the_verb_prints_json_and_ends_with_1_on_a_failure(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, nofile: int, code: int
) -> None:
    monkeypatch.setattr(verb, "look_at", lambda house: replace(machine, nofile_hard=nofile))
    result = CliRunner().invoke(verb.doctor, ["--json"])
    document = json.loads(result.stdout)
    assert result.exit_code == code
    assert document["level"] == ("fail" if code else "ok")
    assert {"check", "level", "found", "remedy"} == set(document["findings"][0])


def test_the_verb_on_this_machine_prints_a_line_for_each_check() -> None:
    result = CliRunner().invoke(verb.doctor, [])
    assert result.exit_code in (0, 1)
    assert all(word in result.stdout for word in ("kernel", "loopback", "clocksource", "disk"))
