"""Every stored line is what the schemas in results/schema/ say, and they refuse what is not."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fakestage import FakeStage
from realruns import KINDS
from schemas import NAMES, ROOT, validate_lines, validator

from iolab import stats, store
from iolab.gate_pairs import BASE, CANDIDATE
from iolab.lab import Lab, open_lab
from iolab.model import Cell, Plan, Sample, Server, Status, Workload
from iolab.paths import find_house
from iolab.relaybench.bench import PARTS, Order, run_bench, subject_of
from iolab.relaybench.model import Part, Record, Scale, Subject
from iolab.runner import Runner
from iolab.selftest.model import GATES, Settings
from iolab.selftest.record import record
from iolab.surroundings import Unchanging
from iolab.troupe import Troupe

KERNEL_GROUPS = {"cpus", "softnet", "tcp", "time_wait", "pressure_us", "server", "client"}


def test_there_is_a_schema_for_every_kind_of_file() -> None:
    assert NAMES == ["gates", "manifest", "parts", "samples", "selftest", "syscalls", "wrk"]
    for name in NAMES:
        validator(name)


# --- what the real programs wrote ----------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_a_real_run_stores_what_the_schemas_say(real_run: Callable[[str], Path], kind: str) -> None:
    run_dir = real_run(kind)
    validator("manifest").validate(store.read_json(run_dir / store.MANIFEST))
    found = validate_lines(run_dir / store.SAMPLES, "samples")
    ends = [line for line in found if "block_end" in line]
    slices = [line for line in found if "block_end" not in line]
    assert [line["block_end"] for line in ends] == [0, 1]
    assert {line["status"] for line in slices} == {"ok"}
    for line in slices:
        assert line["kernel"].keys() >= KERNEL_GROUPS
        assert (line["load"].get("open_loop") is not None) == (kind == "open")
        assert line["testbed"] == ("netns" if kind == "netns" else "loopback")
        assert ("tcp_client" in line["kernel"]) == (kind == "netns")
        assert ("client" in line["kernel"]["time_wait"]) == (kind == "netns")
        assert ("memory" in line) == (kind in ("relay", "forward"))
        assert (line["load"].get("mode") == "copy") == (kind == "copy")
        assert (line["server_counters"] is None) == (kind == "copy")
    wrk = run_dir / store.WRK
    assert wrk.exists() == (kind == "wrk")
    if wrk.exists():
        assert {line["server"] for line in validate_lines(wrk, "wrk")} == {"epoll", "splice"}


def test_counted_system_calls_are_what_the_schema_says(
    real_run: Callable[[str], Path],
) -> None:
    run_dir = real_run("closed")
    if not (run_dir / store.SYSCALLS).exists():
        left_out = store.read_manifest(run_dir)["left_out"]
        (reason,) = [note for note in left_out if note.startswith("system call check: ")]
        pytest.skip(reason)
    found = validate_lines(run_dir / store.SYSCALLS, "syscalls")
    assert {line["cell"] for line in found} == {"epoll@w", "epoll#2@w"}
    for line in found:
        assert line["status"] == "ok", line["reason"]
        assert line["traced"]["total"] >= line["requests"] > 0


@pytest.fixture
def small_lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Lab]:
    """This tree's lab, with its build as baseline and candidate, and results of its own."""
    house = find_house()
    for binary in (house.server_binary, house.load_binary):
        if not binary.is_file():
            pytest.skip(f"{binary.name} is not built: cmake --build build")
    monkeypatch.setenv("IOLAB_RESULTS", str(tmp_path))
    with open_lab({BASE: house.server_binary, CANDIDATE: house.server_binary}) as lab:
        yield lab


def test_whole_gates_of_a_self_test_are_what_the_schema_says(small_lab: Lab) -> None:
    settings = Settings(
        sessions=0, repetitions=1, gates=((0, 1.0), (20, 1.0)), connections=2, slice_ms=10,
        warmup_ms=0,
    )  # fmt: skip
    run_dir = record(small_lab, settings)
    validator("manifest").validate(store.read_json(run_dir / store.MANIFEST))
    found = validate_lines(run_dir / GATES, "gates")
    assert [line["percent"] for line in found] == [0, 20]
    for line in found:
        for run in line["runs"]:
            assert validate_lines(run_dir / "gates" / run / store.SAMPLES, "samples")


SMALL_SCALE = Scale(
    one_bytes=1 << 20, fifty_pairs=2, fifty_bytes=1 << 16, pressure_s=0.2,
    pressure_bytes_per_s=1 << 20, waiting_pairs=2, aborts=4, kills=2, at_once=2,
)  # fmt: skip


def test_every_part_of_a_relay_bench_is_what_the_schema_says(small_lab: Lab) -> None:
    able = subject_of(Server("engine", "epoll"), small_lab.describe)
    unable = Subject(Server("engine", "mmap", (), "it does not play role relay"))
    order = Order((able, unable), tuple(Part), SMALL_SCALE, 1)
    run_dir = run_bench(small_lab, order, lambda text: None)
    validator("manifest").validate(store.read_json(run_dir / store.MANIFEST))
    found = validate_lines(run_dir / PARTS, "parts")
    assert {(line["part"], line["server"]): line["status"] for line in found} == {
        (str(part), name): status
        for part in Part
        for name, status in (("epoll", "ok"), ("mmap", "unsupported"))
    }, [line["reason"] for line in found]


# --- what the writers store of what these runs do not meet -------------------------------------


class Restless(Unchanging):
    """Surroundings in which each profile is a phase of the host, and a knob moves once."""

    now = ""
    answers: Iterator[str | None] = iter([None, "base: somaxconn: asked for 1, has 2"])

    def phase(self, cell: Cell) -> str:
        return cell.profile

    def enter(self, phase: str) -> bool:
        switched, self.now = phase != self.now, phase
        return switched

    def drift(self) -> str | None:
        return next(self.answers, None)

    def renew(self) -> None:
        self.now = ""

    def not_set(self, cell: Cell) -> tuple[str, ...]:
        return ("cpu.turbo",) if cell.profile == "fast" else ()


def test_switched_drifted_and_lacking_profiles_are_stored_as_the_schema_says(
    tmp_path: Path,
) -> None:
    cells = tuple(
        Cell(Server("engine", "a"), Workload("w", 100, 2), profile) for profile in ("base", "fast")
    )
    plan = Plan(
        "p", "", "a", cells, baseline_profile="base", budget_s=1e6, slice_ms=100, min_blocks=3,
        max_blocks=3,
    )  # fmt: skip
    stage = FakeStage()
    around = Restless(stage)
    with (
        Troupe(plan, stage, around) as troupe,
        Runner(plan, troupe, {}, stage.clock) as runner,
        store.SampleWriter(tmp_path) as writer,
    ):
        runner.measure(writer)
    found = validate_lines(tmp_path / store.SAMPLES, "samples")
    ends = [line for line in found if "block_end" in line]
    assert [line.get("drift") for line in ends] == [
        "base: somaxconn: asked for 1, has 2", None, None,
    ]  # fmt: skip
    settled = [one for line in ends for one in line.get("settled", ())]
    assert [one["slices"] for one in settled] == [2] * len(settled) != []
    assert {line["profile"]: line.get("not_set") for line in found if "profile" in line} == {
        "base": None, "fast": ["cpu.turbo"],
    }  # fmt: skip


def test_other_kinds_of_runs_are_what_the_schemas_say() -> None:
    subject = Subject(Server("engine", "splice"), pipes=True)
    for status, reason in (("ok", None), ("failed", "it died")):
        raw = {"workers": 1} if status == "ok" else {}
        record = Record(Part.ABORTS, subject, status, reason, 1, 2, raw)
        validator("parts").validate(record.to_json())
    counted = {
        "schema_version": 1, "cell": "a@w", "workload": "w", "server": "a", "started_unix_ns": 1,
        "status": "ok", "reason": None, "requests": 9, "traced": {"total": 18, "futex": 2},
        "server_counters": None, "switches": {"threads": 1, "voluntary": 2},
    }  # fmt: skip
    check = validator("syscalls")
    check.validate(counted)
    assert not check.is_valid(counted | {"traced": {"futex": 2}})
    assert not check.is_valid(counted | {"status": "failed"})
    gate = {
        "schema_version": 1, "percent": 10, "budget_s": 60.0, "threshold": 0.05, "exit_code": 1,
        "reason": "slower, twice", "first_s": 21.4, "measured_s": 40.1, "runs": ["a", "b"],
    }  # fmt: skip
    validator("gates").validate(gate)
    for kind, extra in (("relay-bench", "scale"), ("selftest", "settings")):
        document = {"schema_version": 1, "run": "r", "kind": kind, "state": "running", extra: {}}
        validator("manifest").validate(document)


PORTS: dict[str, Any] = {
    "time_wait": {"server": {"before": 90, "after": 200}, "client": {"before": 0, "after": 3}},
    "ports": {"server": {"range": 200, "held": 199, "held_first": 100, "time_wait": 198}},
}
KERNEL: dict[str, Any] = {
    "ns": 1, "tick_ns": 10_000_000, "cpus": {"0": {"user": 1}}, "softnet": {}, "tcp": {},
    "pressure_us": {}, "server": {}, "client": {},
}  # fmt: skip


def test_the_documented_slice_is_one_and_is_read(tmp_path: Path) -> None:
    text = (ROOT / "docs/result-format.md").read_text()
    example = text.partition("A slice:\n\n```json\n")[2].partition("```")[0]
    line = json.dumps(json.loads(example))
    validator("samples").validate(json.loads(line))
    (tmp_path / store.SAMPLES).write_text(line + '\n{"block_end":3,"schema_version":1}\n')
    (sample,) = store.read_samples(tmp_path).samples
    assert stats.unit_rate(sample.load or {}, 16384) == pytest.approx(20_000)


def good() -> dict[str, Any]:
    return Sample(0, 0, "a@w", Status.FAILED, "died", 1, 2).to_json()


@pytest.mark.parametrize(
    "change",
    [
        {"schema_version": 2},
        {"block": -1},
        {"block": "0"},
        {"cell": "no workload"},
        {"status": "great"},
        {"status": "ok"},  # with a reason
        {"reason": None},  # of a failure
        {"load": 5},
        {"load": {"schema_version": 1}},
        {"server_counters": {"requests": "many"}},
        {"block_end": 3},
        {"kernel": {"ns": 1}},
        {"kernel": KERNEL | {"tcp": {"what is this": 1}}},
        {"kernel": KERNEL | {"cpus": {"0": {"user": "many"}}}},
        {"kernel": KERNEL | {"time_wait": {"server": {"before": 1}}}},
        {"kernel": KERNEL | {"time_wait": {"upstream": {"before": 1, "after": 1}}}},
        {"kernel": KERNEL | {"ports": {"server": {"range": 9, "held": 9, "time_wait": 9}}}},
    ],
)
def test_slices_that_are_none_are_refused(change: dict[str, Any]) -> None:
    check = validator("samples")
    assert check.is_valid(good())
    assert check.is_valid(good() | {"a_later_key": 1, "kernel": KERNEL})
    assert check.is_valid(good() | {"kernel": KERNEL | PORTS})
    assert not check.is_valid(good() | change)


def test_every_required_key_is_required() -> None:
    for key in good():
        less = {name: value for name, value in good().items() if name != key}
        assert not validator("samples").is_valid(less), key
