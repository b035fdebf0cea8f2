"""Every stored line is what the schemas in results/schema/ say, and they refuse what is not."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from iolab import stats, store
from iolab.model import Sample, Server, Status

jsonschema = pytest.importorskip(
    "jsonschema", reason="jsonschema is not installed: it is in setup/requirements-dev.txt"
)
ROOT = Path(__file__).resolve().parents[2]
SCHEMAS = sorted(path.name.split(".")[0] for path in (ROOT / "results/schema").glob("*.json"))


def validator(name: str) -> Any:
    """The validator of results/schema/NAME.schema.json."""
    schema = json.loads((ROOT / f"results/schema/{name}.schema.json").read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def check_run(run_dir: Path) -> int:
    """Validates everything a run stored; how many lines of samples there were."""
    validator("manifest").validate(store.read_json(run_dir / store.MANIFEST))
    samples = validator("samples")
    found = lines(run_dir / store.SAMPLES)
    for line in found:
        samples.validate(line)
        assert "block_end" in line or line["wall_ns"] == 0 or "kernel" in line
    for line in store.read_jsonl(run_dir / store.WRK):
        validator("wrk").validate(line)
    for line in store.read_jsonl(run_dir / store.SYSCALLS):
        validator("syscalls").validate(line)
    return len(found)


def test_there_is_a_schema_for_every_kind_of_file() -> None:
    assert SCHEMAS == ["gates", "manifest", "parts", "samples", "syscalls", "wrk"]
    for name in SCHEMAS:
        validator(name)


TINY = """
schema_version = 1
name = "tiny"
summary = "For the schemas."
[run]
baseline = "epoll"
budget_s = 1
min_blocks = 1
max_blocks = 2
slice_ms = 10
warmup_ms = 0
ROLE
[servers]
list = ["engine:epoll"]
[[workload]]
name = "w"
LOAD
"""


@pytest.mark.parametrize(
    ("role", "load"),
    [
        ("syscall_check = true", 'size = "1KiB"\nconnections = 2'),
        ("wrk_check = true", 'size = "1KiB"\nconnections = 2\nadd = ["engine:splice"]'),
        ("", 'size = "1KiB"\nconnections = 2\nrate = 500'),
        ('testbed = "netns"', 'size = "1KiB"\nconnections = 2'),
        ('role = "relay"', 'size = "64KiB"\npairs = 1'),
        ('role = "forward"', "pairs = 1"),
    ],
)
def test_a_real_run_stores_what_the_schemas_say(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, role: str, load: str
) -> None:
    from iolab.campaign import run_plan
    from iolab.lab import open_lab
    from iolab.paths import find_house

    house = find_house()
    for binary in (house.server_binary, house.load_binary):
        if not os.access(binary, os.X_OK):
            pytest.skip(f"{binary.name} is not built: cmake --build build")
    monkeypatch.setenv("IOLAB_RESULTS", str(tmp_path))
    matrix = tmp_path / "tiny.toml"
    matrix.write_text(TINY.replace("ROLE", role).replace("LOAD", load))
    if "netns" in role and os.geteuid() != 0:
        pytest.skip("network namespaces need root")
    if "wrk" in role and shutil.which("wrk") is None:
        pytest.skip("wrk is not installed: apt-get install wrk")
    with open_lab() as lab:
        result = run_plan(lab, lab.plan(str(matrix)))
    # Up to two blocks of the baseline and its twin, and their ends.
    assert check_run(result.run_dir) >= 3
    assert (result.run_dir / store.WRK).exists() == ("wrk" in role)
    text = (result.run_dir / store.SAMPLES).read_text()
    assert ('"open_loop":{' in text) == ("rate" in load)
    assert ('"testbed":"netns"' in text) == ("netns" in role)


def test_other_kinds_of_runs_are_what_the_schemas_say() -> None:
    from iolab.relaybench.model import Part, Record, Subject

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
    ],
)
def test_slices_that_are_none_are_refused(change: dict[str, Any]) -> None:
    check = validator("samples")
    assert check.is_valid(good())
    assert check.is_valid(good() | {"a_later_key": 1, "kernel": KERNEL})
    assert not check.is_valid(good() | change)


def test_every_required_key_is_required() -> None:
    for key in good():
        less = {name: value for name, value in good().items() if name != key}
        assert not validator("samples").is_valid(less), key
