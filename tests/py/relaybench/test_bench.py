from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from iolab import cli, store
from iolab.commands import relay_bench as verb
from iolab.describe import Describe, Engine, Option
from iolab.errors import InputError
from iolab.executor import Completed, ProcessError
from iolab.fake_executor import FakeExecutor
from iolab.lab import Lab
from iolab.model import Server
from iolab.paths import House
from iolab.relaybench import bench, parts
from iolab.relaybench.bench import Order, choose, perform, read_records, run_bench
from iolab.relaybench.model import QUICK, Part, Record, Subject
from iolab.report import ReportError, summarise_run, write_report
from iolab.specs import Offer, PeerOffer
from iolab.testbed.loopback import Loopback
from iolab.topology import CpuSplit

POLICY = Option(name="policy", type="enum", values=("stream", "buffered"), default="stream")
PIPE = Option(name="pipe", type="size", default="65536", min=4096)
RELAY = ("file", "relay", "forward")
ENGINES = (
    Engine(name="sendfile", roles=("file",)),
    Engine(name="threads", driver="blocking", roles=RELAY),
    Engine(name="copy", driver="epoll", roles=RELAY, options=(POLICY,)),
    Engine(name="pipes", driver="epoll", roles=RELAY, options=(PIPE, POLICY)),
    Engine(name="rings", roles=RELAY, usable=False, reason="no io_uring here"),
)
OFFER = Offer(Describe(schema_version=1, engines=ENGINES), {"node": PeerOffer(("relay",))})
PIPES = Subject(Server("engine", "pipes"), pipes=True)
PRESSURE = {
    "workers": 1, "limit_bytes_per_s": 1 << 20, "received_bytes": 5 << 20, "receive_ns": 5 * 10**9,
    "sent_bytes": 9 << 20, "wrong": None, "peak_bytes": None,
    "readings": [[0, 3 << 20, 0, 0, 0], [10**9, 3 << 20, 1, 0, 0], [5 * 10**9, 3 << 20, 2, 0, 0]],
}  # fmt: skip
NOTHING = {"resident_bytes": 0, "descriptors": 8, "connections": 0, "pipes": 0, "transfers": 0}
ABORTS = {
    "workers": 2, "aborted": 500, "killed": 20, "at_once": 16, "works_after": True,
    "before": NOTHING, "after": NOTHING,
}  # fmt: skip
LEAK = {**ABORTS, "after": {**NOTHING, "transfers": 3}}


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lab:
    """A lab whose build says what ENGINES say, and whose results go to a folder of their own."""
    monkeypatch.setenv("IOLAB_RESULTS", str(tmp_path / "results"))
    build = tmp_path / "build"
    build.mkdir()
    for name in ("iolab-server", "iolab-load"):
        (build / name).touch(mode=0o755)
    document = OFFER.describe.model_dump_json()

    def run(argv: Any) -> Completed:
        return Completed(tuple(argv), 0, document if "--describe" in argv else "", "")

    house = House(tmp_path, build)
    return Lab(house, FakeExecutor(run), Loopback(), CpuSplit((0,), 1), tmp_path / "scratch")


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> dict[Part, Any]:
    """What parts answer instead of being run: a raw result, or an error."""
    found: dict[Part, Any] = {Part.BACKPRESSURE: PRESSURE, Part.ABORTS: ABORTS}

    def answer(lab: Lab, part: Part, subject: Subject, order: Order) -> dict[str, Any]:
        if isinstance(found[part], BaseException):
            raise found[part]
        assert isinstance(found[part], dict)
        return dict(found[part])

    monkeypatch.setattr(bench, "_on_fresh_server", answer)
    return found


def order(*chosen: Part, subjects: tuple[Subject, ...] = (PIPES,)) -> Order:
    return Order(subjects, chosen, QUICK, 1)


def test_by_default_all_relays_run_and_one_that_buffers() -> None:
    found = {one.label: one for one in choose((), OFFER)}
    assert list(found) == ["threads", "copy", "pipes", "rings", "copy,policy=buffered"]
    assert found["rings"].server.unsupported == "no io_uring here"
    traits = {name: (one.pipes, one.queues, one.threads) for name, one in found.items()}
    assert traits["threads"] == (False, False, True)
    assert traits["copy"] == (False, False, False)
    assert traits["pipes"] == (True, False, False)
    assert traits["copy,policy=buffered"] == (False, True, False)


def test_named_servers() -> None:
    found = choose(("pipes,pipe=8192", "engine:copy", "copy", "sendfile", "peer:node"), OFFER)
    assert [one.label for one in found] == ["pipes,pipe=8192", "copy", "sendfile", "node"]
    first, second, third, fourth = (one.server.unsupported for one in found)
    assert (first, second) == (None, None)
    assert third is not None
    assert "it does not play role relay" in third
    assert fourth == "only engines are looked into, no peers"
    with pytest.raises(InputError, match=r"--engine: unknown engine 'pipe': did you mean 'pipes'"):
        choose(("pipe",), OFFER)


def test_parts_run_one_after_another_server_by_server() -> None:
    two = (PIPES, Subject(Server("engine", "copy")))
    steps = order(Part.WAITING, Part.ABORTS, subjects=two).steps
    assert [(str(part), subject.label) for part, subject in steps] == [
        ("waiting", "pipes"), ("waiting", "copy"), ("aborts", "pipes"), ("aborts", "copy"),
    ]  # fmt: skip


def test_what_cannot_run_is_a_record_with_its_reason(lab: Lab, answers: dict[Part, Any]) -> None:
    unsupported = replace(PIPES, server=replace(PIPES.server, unsupported="not here"))
    found = perform(lab, Part.ABORTS, unsupported, order(Part.ABORTS))
    assert (found.status, found.reason, found.raw) == ("unsupported", "not here", {})
    answers[Part.ABORTS] = ProcessError("it died")
    found = perform(lab, Part.ABORTS, PIPES, order(Part.ABORTS))
    assert (found.status, found.reason, found.raw) == ("failed", "it died", {})


def test_a_server_that_does_not_start_fails_its_part(lab: Lab) -> None:
    found = perform(lab, Part.WAITING, PIPES, order(Part.WAITING))
    assert found.status == "failed"
    assert "cannot be started" in (found.reason or "")


def test_an_interrupted_bench_keeps_its_finished_parts(lab: Lab, answers: dict[Part, Any]) -> None:
    answers[Part.ABORTS] = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        run_bench(lab, order(Part.BACKPRESSURE, Part.ABORTS), lambda text: None)
    run_dir = store.find_run_dir(lab.house.results, "last")
    assert store.read_manifest(run_dir)["state"] == "interrupted: KeyboardInterrupt"
    assert [one.part for one in read_records(run_dir)] == [Part.BACKPRESSURE]
    assert write_report(run_dir).is_file()


def test_the_report_shows_every_figure(lab: Lab, answers: dict[Part, Any]) -> None:
    answers[Part.ABORTS] = LEAK
    evil = Subject(Server("engine", "copy", (("x", "<b>"),)))
    subjects = (PIPES, evil)
    chosen = (Part.BACKPRESSURE, Part.ABORTS)
    run_dir = run_bench(lab, order(*chosen, subjects=subjects), lambda text: None)
    page = write_report(run_dir)
    text = page.read_text()
    assert 'data-figure="aborts/pipes/slots left"' in text
    assert 'data-figure="backpressure/pipes/receiver&#39;s rate"' in text
    assert "missed or failed" in text
    assert "x=&lt;b&gt;" in text
    assert "x=<b>" not in text
    assert "A quick run" in text
    for name in ("backpressure.svg", "backpressure.gp", "data/backpressure.tsv", "summary.json"):
        assert (page.parent / name).is_file(), name
    assert "<svg" in (page.parent / "backpressure.svg").read_text()
    summary = json.loads((page.parent / "summary.json").read_text())
    assert summary == json.loads(json.dumps(summarise_run(run_dir)))
    assert summary["ok"] is False
    missed = [one["name"] for one in summary["figures"] if one["verdict"] == "missed"]
    assert missed == ["slots left", "slots left"]


def test_a_run_without_a_part_has_no_report(lab: Lab, answers: dict[Part, Any]) -> None:
    run_dir = run_bench(lab, order(), lambda text: None)
    with pytest.raises(ReportError, match=r"no finished part in parts\.jsonl"):
        write_report(run_dir)


def test_foreign_lines_are_named(tmp_path: Path) -> None:
    (tmp_path / bench.PARTS).write_text('{"schema_version":1}\n')
    with pytest.raises(store.StoreError, match=r"parts\.jsonl:1: no record of a part"):
        list(read_records(tmp_path))


class OpenLab:
    """Stands in for open_lab()."""

    def __init__(self, lab: Lab) -> None:
        self._lab = lab

    def __call__(self) -> OpenLab:
        return self

    def __enter__(self) -> Lab:
        return self._lab

    def __exit__(self, *ignored: object) -> None:
        return None


def run_verb(lab: Lab, monkeypatch: pytest.MonkeyPatch, *argv: str) -> Any:
    monkeypatch.setattr(verb, "open_lab", OpenLab(lab))
    return CliRunner().invoke(cli.cli, ["relay-bench", "--quick", *argv])


@pytest.mark.parametrize(("raw", "code"), [(ABORTS, 0), (LEAK, 1), (ProcessError("[x] died"), 1)])
def test_the_verb_ends_with_what_it_found(
    lab: Lab,
    answers: dict[Part, Any],
    monkeypatch: pytest.MonkeyPatch,
    raw: Any,
    code: int,
) -> None:
    answers[Part.ABORTS] = raw
    result = run_verb(lab, monkeypatch, "--engine", "pipes", "--only", "aborts")
    assert result.exit_code == code, result.output
    assert "[1/1] aborts: pipes" in result.stderr
    assert "report: " in result.stderr
    if isinstance(raw, dict):
        assert "slots left" in result.stdout
    else:
        assert "[x] died" in result.stdout


def test_the_verb_prints_json(
    lab: Lab, answers: dict[Part, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    result = run_verb(lab, monkeypatch, "--engine", "rings", "--only", "aborts", "--json")
    document = json.loads(result.stdout)
    assert document["kind"] == "relay-bench"
    assert [one["verdict"] for one in document["figures"]] == ["unsupported"]
    assert document["report"].endswith("index.html")
    assert result.exit_code == 0


def test_usage(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run_verb(lab, monkeypatch, "--only", "nonsense").exit_code == 2
    assert isinstance(run_verb(lab, monkeypatch, "--engine", "x").exception, InputError)


def test_the_load_tools_command_line() -> None:
    stage = parts.Stage(
        ("127.0.0.1", 80),
        7,
        None,
        FakeExecutor(),
        ("/b/load",),
        3,
        QUICK,
        5,  # type: ignore[arg-type]
    )
    argv = parts.load_arguments(stage, 2, 64)
    assert argv[:2] == ["/b/load", "--relay"]
    assert dict(zip(argv[2::2], argv[3::2], strict=True)) == {
        "--target": "127.0.0.1:80", "--pairs": "2", "--size": "64", "--count": "1",
        "--check": "sample", "--prefix": "bench", "--timeout": "60", "--seed": "5", "--cpu": "3",
        "--cpu-clock": "7",
    }  # fmt: skip


def test_records_hold_their_traits() -> None:
    assert Record(Part.WAITING, PIPES, "ok").to_json()["traits"]["pipes"] is True
