from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from iolab.errors import InputError, IolabError
from iolab.executor import Executor
from iolab.fake_executor import FakeExecutor
from iolab.guest import session
from iolab.guest.parts import Parts
from iolab.trial import trial as trials
from iolab.trial.inside import at_home
from iolab.trial.show import grouped
from iolab.trial.trial import Setting, Trial, interpreter, run_trials
from iolab.trial.verb import validate
from iolab.trial.verdict import KnobVerdict, Outcome, display

from .conftest import recording

Recorded = Callable[[str], str]
PARTS = Parts(Path("/q"), Path("/k"), Path("/m"), "6.1", Path("/b"), Path("/c"))


def test_json_holds_the_verdict_and_the_status_says_that_there_is_a_finding(
    recorded: Recorded,
) -> None:
    kept = recorded("irq-mask-ff")
    answer = CliRunner().invoke(validate, [kept, "--recorded", "--json"])
    document = json.loads(answer.stdout)
    assert answer.exit_code == 1
    assert (document["schema_version"], document["ok"], document["status"]) == (1, False, 0)
    assert {knob["outcome"] for knob in document["knobs"]} == {"failed silently"}
    assert {finding["kind"] for finding in document["findings"]} == {
        "number of CPUs", "exit status",
    }  # fmt: skip


def test_a_good_script_has_status_0(recorded: Recorded) -> None:
    kept = recorded("irq-local-node")
    answer = CliRunner().invoke(validate, [kept, "--recorded"])
    assert answer.exit_code == 0
    assert "changed as intended" in answer.stdout


def test_the_tables_name_knobs_findings_and_a_summary(recorded: Recorded) -> None:
    kept = recorded("rps-eight-queues")
    answer = CliRunner().invoke(validate, [kept, "--recorded"])
    assert "eth0/queues/rx-*" in answer.stdout
    assert "number of queues" in answer.stdout
    assert "8 failed silently; 3 findings; exit status 0" in answer.stdout


def test_a_recording_that_is_none_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("{}")
    answer = CliRunner().invoke(validate, [str(tmp_path / "x"), "--recorded"])
    assert isinstance(answer.exception, IolabError)
    assert "cannot be read" in str(answer.exception)


def test_a_recording_that_could_not_be_kept_ends_it_before_the_trial(tmp_path: Path) -> None:
    keep = tmp_path / "nowhere/kept.json"
    answer = CliRunner().invoke(validate, ["/no/such/script", "--keep", str(keep)])
    assert isinstance(answer.exception, InputError)
    assert f"--keep {keep}: {keep.parent} is not there" in str(answer.exception)


def test_a_name_that_no_interface_can_have_is_refused() -> None:
    answer = CliRunner().invoke(validate, ["x.sh", "--interface", "a/b"])
    assert answer.exit_code == 2
    assert "no name of an interface" in answer.output


def test_a_script_that_cannot_be_read_is_named() -> None:
    with pytest.raises(InputError, match=r"/no/such\.sh: No such file"):
        run_trials(FakeExecutor(), PARTS, Path("/h"), [Trial(Path("/no/such.sh"))], Setting())


@pytest.mark.parametrize(
    ("first", "words"),
    [
        (b"#!/bin/bash -e\nx", ["/bin/bash", "-e"]),
        (b"#!/usr/bin/env -S bash -e \n", ["/usr/bin/env", "-S bash -e"]),
        (b"#! /usr/bin/env python3\n", ["/usr/bin/env", "python3"]),
        (b"echo\n", ["/bin/sh"]),
        (b"", ["/bin/sh"]),
        (b"#!\n", ["/bin/sh"]),
    ],
)
def test_the_first_line_says_what_runs_a_script(first: bytes, words: list[str]) -> None:
    assert list(interpreter(first, Path("a.sh"))) == words


def test_a_carriage_return_in_the_first_line_is_not_repaired() -> None:
    with pytest.raises(InputError, match=r"a\.sh:1: '#!/bin/sh\\r' ends with a carriage return"):
        interpreter(b"#!/bin/sh\r\necho\r\n", Path("a.sh"))


@pytest.mark.parametrize(("copy", "runs"), [(b"echo", "home"), (b"other", "copy")])
def test_a_script_runs_at_its_own_path_where_the_guest_has_it(
    tmp_path: Path, copy: bytes, runs: str
) -> None:
    (tmp_path / "home").write_bytes(b"echo")
    (tmp_path / "copy").write_bytes(copy)
    paths = {name: str(tmp_path / name) for name in ("home", "copy")}
    plan = {"run": ["/bin/sh", paths["copy"], "eth0"]}
    plan |= {f"run_{name}": path for name, path in paths.items()}
    assert at_home(plan, "run") == ["/bin/sh", paths[runs], "eth0"]
    plan["run_home"] = "/no/such"
    assert at_home(plan, "run") == ["/bin/sh", paths["copy"], "eth0"]


def test_the_guest_is_told_of_each_trial_and_its_recordings_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script, undo = tmp_path / "a.sh", tmp_path / "b.sh"
    script.write_bytes(b"#!/bin/bash\nx")
    undo.write_bytes(b"y")
    jobs: list[session.Job] = []
    kept = recording("irq-mask-ff").to_json().encode()

    def run(executor: Executor, parts: Parts, job: session.Job) -> session.Outcome:
        jobs.append(job)
        files = {"recording-0.json": kept, "recording-1.json": kept}
        return session.Outcome(0, b"", b"", files)

    monkeypatch.setattr(trials, "run_job", run)
    found = run_trials(
        FakeExecutor(),
        PARTS,
        Path("/h"),
        [Trial(script, undo, ("eth9",)), Trial(script)],
        Setting("eth9", ("tcp_bbr",), 7.0, True),
    )
    assert len(found) == 2
    (job,) = jobs
    assert json.loads(job.files["plan.json"]) == [
        {
            "interface": "eth9",
            "run": ["/bin/bash", "/run/iolab/run-0", "eth9"],
            "run_copy": "/run/iolab/run-0",
            "run_home": str(script),
            "undo": ["/bin/sh", "/run/iolab/undo-0", "eth9"],
            "undo_copy": "/run/iolab/undo-0",
            "undo_home": str(undo),
        },
        {
            "interface": "eth9",
            "run": ["/bin/bash", "/run/iolab/run-1"],
            "run_copy": "/run/iolab/run-1",
            "run_home": str(script),
        },
    ]
    assert job.files["run-0"] == b"#!/bin/bash\nx"
    assert (job.interface, job.without, job.timeout_s, job.emulate) == (
        "eth9", ("tcp_bbr",), 7.0, True,
    )  # fmt: skip


def test_a_trial_that_breaks_off_says_what_the_guest_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = tmp_path / "a.sh"
    script.touch()
    outcome = session.Outcome(1, b"", b"Traceback: strace", {})
    monkeypatch.setattr(trials, "run_job", lambda executor, parts, job: outcome)
    with pytest.raises(session.GuestError, match="Traceback: strace"):
        run_trials(FakeExecutor(), PARTS, Path("/h"), [Trial(script)], Setting())


def test_knobs_that_differ_in_numbers_share_a_row() -> None:
    def knob(name: str, outcome: Outcome = Outcome.CHANGED) -> KnobVerdict:
        return KnobVerdict(name, outcome, None, None, None)

    names = ["/proc/irq/24/smp_affinity", "/proc/irq/25/smp_affinity", "/proc/sys/net/ipv4/a"]
    groups = list(grouped([*map(knob, names), knob(names[0], Outcome.SILENT)]))
    assert [len(group) for group in groups] == [2, 1, 1]


def test_sysctls_are_shown_as_people_write_them() -> None:
    assert display("/proc/sys/net/ipv4/conf/eth0.5/rp_filter") == "net.ipv4.conf.eth0/5.rp_filter"
    assert display("/sys/class/net/eth0/mtu") == "eth0/mtu"
