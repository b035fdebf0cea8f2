"""A self-test interrupted at any place loses at most what was open, and goes on with the rest."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from madeup import sound_slice
from otherprocess import recorder, refusal
from schemas import validator

from iolab import store
from iolab.commands import selftest as verb
from iolab.errors import InputError, IolabError
from iolab.executor import Completed
from iolab.fake_executor import FakeExecutor
from iolab.lab import Lab
from iolab.matrix import plan_to_json
from iolab.model import Plan, Status
from iolab.paths import House
from iolab.selftest import record as recording
from iolab.selftest import resume
from iolab.selftest.model import GATES, KIND, Settings
from iolab.selftest.record import record
from iolab.store import StoreError
from iolab.testbed.loopback import Loopback
from iolab.topology import CpuSplit

SETTINGS = Settings(
    sessions=3, blocks=2, repetitions=2, gates=((0, 60.0), (10, 60.0)), draws=10, slice_ms=10
)
DESCRIBE = {
    "schema_version": 1,
    "engines": [{"name": "epoll", "sources": ["file"], "roles": ["file"]}],
}


def answer(argv: Sequence[str]) -> Completed:
    """The build describes itself; every other program says a version."""
    text = json.dumps(DESCRIBE) if "--describe" in argv else "1.0\n"
    return Completed(tuple(argv), 0, text, "")


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lab:
    """A laboratory whose processes are pretended, with its results in `tmp_path`."""
    monkeypatch.setenv("IOLAB_RESULTS", str(tmp_path / "results"))
    house = House(tmp_path, tmp_path / "build")
    house.build.mkdir()
    house.server_binary.touch(mode=0o755)
    return Lab(house, FakeExecutor(answer), Loopback(), CpuSplit((0,), 1), tmp_path / "scratch")


@dataclass
class Stage:
    """What a recording would measure: sessions of `SETTINGS.blocks` blocks, and gates.

    The step before which `stop_at` steps were begun is interrupted: a block, or a gate.
    """

    stop_at: int | None = None
    steps: int = 0
    sessions: list[str] = field(default_factory=list)
    gates: list[tuple[int, int]] = field(default_factory=list)

    def step(self) -> None:
        if self.steps == self.stop_at:
            raise KeyboardInterrupt
        self.steps += 1

    def run_plan(self, lab: Lab, plan: Plan, run_dir: Path, resumable: bool = True) -> None:
        """A session, block by block, as `campaign.run_plan` leaves it on disk."""
        assert not resumable
        self.sessions.append(plan.name)
        self.step()  # interrupted before anything is stored
        document = {"schema_version": 1, "run": plan.name, "plan": plan_to_json(plan)}
        store.write_json(run_dir / store.MANIFEST, {**document, "state": "running"})
        with store.SampleWriter(run_dir) as writer:
            for block in range(plan.max_blocks):
                for order, cell in enumerate(plan.cells):
                    writer.append(sound_slice(block, cell.id, 1000, order=order))
                self.step()
                writer.end_block(block, wall_ns=1, slices=len(plan.cells))
        store.write_json(run_dir / store.MANIFEST, {**document, "state": "finished"})

    def whole_gate(
        self, lab: Lab, server: Any, settings: Settings, percent: int, budget_s: float, number: int,
        run_dir: Path,
    ) -> dict[str, Any]:  # fmt: skip
        """A gate, as a line of gates.jsonl."""
        self.step()
        self.gates.append((number, percent))
        return {
            "schema_version": 1, "percent": percent, "budget_s": budget_s, "threshold": 0.05,
            "exit_code": 0, "reason": "", "first_s": 1.0, "measured_s": 1.0, "runs": [f"{number}"],
        }  # fmt: skip


def put_on(monkeypatch: pytest.MonkeyPatch, stage: Stage) -> Stage:
    monkeypatch.setattr(recording, "run_plan", stage.run_plan)
    monkeypatch.setattr(recording, "whole_gate", stage.whole_gate)
    return stage


def the_run(lab: Lab) -> Path:
    (found,) = lab.house.results.iterdir()
    return found


def interrupted(lab: Lab, monkeypatch: pytest.MonkeyPatch, stop_at: int) -> Path:
    """A recording that ended before its step number `stop_at`."""
    put_on(monkeypatch, Stage(stop_at))
    with pytest.raises(KeyboardInterrupt):
        record(lab, SETTINGS)
    return the_run(lab)


def said(capsys: pytest.CaptureFixture[str]) -> str:
    """What was said since last asked, without its line breaks."""
    return " ".join(capsys.readouterr().err.split())


NR_STEPS = 3 * (1 + 2) + 2 * 2


@pytest.mark.parametrize("stop_at", range(NR_STEPS))
def test_interrupted_anywhere_it_loses_what_was_open_and_nothing_else(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, stop_at: int
) -> None:
    run_dir = interrupted(lab, monkeypatch, stop_at)
    assert store.read_manifest(run_dir)["state"] == "interrupted: KeyboardInterrupt"
    before = {path: path.read_bytes() for path in run_dir.glob("session-*/*")}
    whole_sessions, done_gates = min(stop_at // 3, 3), max(0, stop_at - 9)
    again = put_on(monkeypatch, Stage())
    record(lab, resume.settings_of(run_dir), run_dir)
    assert again.sessions == [f"session-{number:02}" for number in range(whole_sessions, 3)]
    assert again.gates == [(0, 0), (0, 10), (1, 0), (1, 10)][done_gates:]
    kept = [path for path in before if int(path.parent.name[-2:]) < whole_sessions]
    assert all(path.read_bytes() == before[path] for path in kept)
    assert resume.missing(run_dir, SETTINGS) == resume.Missing((), ())
    assert len(list(store.read_jsonl(run_dir / GATES))) == 4
    manifest = store.read_manifest(run_dir)
    assert manifest["state"] == "finished"
    assert len(manifest["starts"]) == 2


def test_an_unfinished_session_is_kept_aside_and_recorded_anew(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run_dir = interrupted(lab, monkeypatch, 5)  # one block of session 1
    torn = (run_dir / "session-01" / store.SAMPLES).read_bytes()
    for number in range(2):  # interrupted at the same place once more
        put_on(monkeypatch, Stage(2))
        with pytest.raises(KeyboardInterrupt):
            record(lab, SETTINGS, run_dir)
        aside = run_dir / "discarded" / f"session-01.{number}"
        assert (aside / store.SAMPLES).read_bytes() == torn
        assert f"session-01 is not whole: kept as {aside}" in said(capsys)
    assert [path.name for path in sorted(run_dir.glob("session-*"))] == ["session-00", "session-01"]


def test_a_session_with_a_server_that_failed_is_not_whole(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_dir = interrupted(lab, monkeypatch, 9)
    place = run_dir / "session-01"
    assert resume.is_whole(place, 2)
    assert not resume.is_whole(place, 3)
    stored = store.read_samples(place).samples
    (place / store.SAMPLES).unlink()
    with store.SampleWriter(place) as writer:
        for sample in stored:
            writer.append(sample)
        writer.append(replace(stored[0], status=Status.FAILED, reason="died"))
        for block in range(2):
            writer.end_block(block)
    assert not resume.is_whole(place, 2)
    assert resume.missing(run_dir, SETTINGS).sessions == (1,)


def test_a_torn_line_of_gates_is_a_gate_that_is_missing(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_dir = interrupted(lab, monkeypatch, NR_STEPS - 1)
    data = (run_dir / GATES).read_bytes()
    assert data.count(b"\n") == 3
    last = data[:-1].rindex(b"\n") + 1
    for cut in (last + 1, len(data) - 1):
        (run_dir / GATES).write_bytes(data[:cut])
        assert resume.missing(run_dir, SETTINGS).gates == ((1, 0, 60.0), (1, 10, 60.0))
    again = put_on(monkeypatch, Stage())
    record(lab, SETTINGS, run_dir)
    assert again.gates == [(1, 0), (1, 10)]
    assert (run_dir / GATES).read_bytes().startswith(data[:last])
    assert len(list(store.read_jsonl(run_dir / GATES))) == 4


def test_gates_are_missing_by_kind(tmp_path: Path) -> None:
    line = {
        "schema_version": 1, "percent": 10, "budget_s": 60.0, "exit_code": 1, "first_s": 1.0,
        "measured_s": 2.0,
    }  # fmt: skip
    for kind in ({}, {}, {"budget_s": 30.0}, {"percent": 5}):
        store.append_jsonl(tmp_path / GATES, line | kind)
    found = resume.missing(tmp_path, SETTINGS)
    assert found.sessions == (0, 1, 2)
    assert found.gates == ((0, 0, 60.0), (1, 0, 60.0))
    assert found.text == "3 sessions and 2 whole gates are to be recorded"


def test_what_changed_around_it_is_recorded_and_said(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run_dir = interrupted(lab, monkeypatch, 4)
    document = store.read_manifest(run_dir)
    assert "changes" not in document
    document["host"]["kernel"] = "5.4.0-older"
    store.write_json(run_dir / store.MANIFEST, document)
    capsys.readouterr()
    put_on(monkeypatch, Stage(0))
    for _ in range(2):  # the second time, nothing has changed
        with pytest.raises(KeyboardInterrupt):
            record(lab, SETTINGS, run_dir)
    check = validator("manifest")
    check.validate(store.read_manifest(run_dir))
    assert not check.is_valid(store.read_manifest(run_dir) | {"changes": [{"start": "now"}]})
    (change,) = store.read_manifest(run_dir)["changes"]
    assert change["start"] == store.read_manifest(run_dir)["starts"][1]
    (found,) = change["differences"]
    assert (found["group"], found["key"], found["base"]) == ("kernel", "host.kernel", "5.4.0-older")
    words = "changed since the last start: kernel: host.kernel: 5.4.0-older ->"
    assert said(capsys).count(words) == 1


def test_a_run_of_another_host_is_refused_and_left_alone(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_dir = interrupted(lab, monkeypatch, 4)
    document = store.read_manifest(run_dir)
    document["host"]["hostname"] = "elsewhere"
    store.write_json(run_dir / store.MANIFEST, document)
    put_on(monkeypatch, Stage())
    with pytest.raises(InputError, match=r"another host \(host.hostname: elsewhere there, "):
        record(lab, SETTINGS, run_dir)
    assert store.read_manifest(run_dir) == document


def test_a_run_into_which_another_process_records_is_refused_and_left_alone(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_dir = interrupted(lab, monkeypatch, 5)
    again = put_on(monkeypatch, Stage())
    with recorder(run_dir) as other:
        before = {path: path.read_bytes() for path in run_dir.rglob("*") if path.is_file()}
        with pytest.raises(IolabError, match=rf": process {other.pid} is recording into this run"):
            record(lab, SETTINGS, run_dir)
        after = {path: path.read_bytes() for path in run_dir.rglob("*") if path.is_file()}
    assert after == before
    assert again.steps == 0
    record(lab, SETTINGS, run_dir)  # the other has ended
    assert store.read_manifest(run_dir)["state"] == "finished"


def test_a_self_test_keeps_others_out_until_it_ends(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Watched(Stage):
        def step(self) -> None:
            super().step()
            if self.steps in (1, NR_STEPS):  # the first block, and the last gate
                refusals.append(refusal(the_run(lab)))

    refusals: list[str] = []
    put_on(monkeypatch, Watched())
    run_dir = record(lab, SETTINGS)
    assert len(refusals) == 2
    assert all(f"process {os.getpid()} is recording" in words for words in refusals)
    with recorder(run_dir):  # which may now
        pass


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"kind": "relay-bench"}, "a relay-bench, no self-test"),
        ({"kind": None}, "the run of a matrix, no self-test\n  remedy: ./iolab run --resume"),
        ({"state": "finished"}, "finished, nothing is missing\n  remedy: ./iolab report"),
    ],
)
def test_what_cannot_go_on_is_refused(tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    document = {
        "schema_version": 1, "run": "r", "kind": KIND, "state": "running",
        "settings": asdict(SETTINGS),
    } | changes  # fmt: skip
    store.write_json(tmp_path / store.MANIFEST, document)
    with pytest.raises(InputError) as caught:
        resume.settings_of(tmp_path)
    assert words in str(caught.value)
    assert str(tmp_path / store.MANIFEST) in str(caught.value)


def test_settings_come_back_from_the_manifest_or_are_named(tmp_path: Path) -> None:
    document = {"schema_version": 1, "run": "r", "kind": KIND, "state": "running"}
    path = tmp_path / store.MANIFEST
    store.write_json(path, {**document, "settings": asdict(SETTINGS)})
    assert resume.settings_of(tmp_path) == SETTINGS
    store.write_json(path, {**document, "settings": {"colour": "red"}})
    with pytest.raises(StoreError, match=r"manifest.json: settings: .*colour"):
        resume.settings_of(tmp_path)


@pytest.mark.parametrize(
    ("argv", "flag"),
    [
        (["--blocks", "60"], "--blocks"),
        (["--quick"], "--quick"),
        (["--threshold", "5%"], "--threshold"),  # though it is the default
    ],
)
def test_settings_and_resume_exclude_each_other(argv: list[str], flag: str) -> None:
    found = CliRunner().invoke(verb.selftest, ["--resume", "x", *argv])
    assert found.exit_code == 2
    assert f"--resume and {flag}" in found.output
