from __future__ import annotations

import json
import math
import random
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from madeup import sound_slice

from iolab import store
from iolab.commands.compare import compare
from iolab.errors import InputError
from iolab.matrix import plan_to_json
from iolab.model import Cell, Plan, Sample, Server, Status, Workload

LOADS = (Workload("small", 1000, 1), Workload("large", 5000, 1))


@pytest.fixture(autouse=True)
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A results directory of the test's own."""
    monkeypatch.setenv("IOLAB_RESULTS", str(tmp_path))
    return tmp_path


def manifest(name: str, plan: Plan, binary: str | None, **host: Any) -> dict[str, Any]:
    facts = {"hostname": "lab", "machine": "x86_64", "kernel": "6.1", "sysctls": {"a": "1"}}
    return {
        "schema_version": 1, "run": name, "plan": plan_to_json(plan), "host": facts | host,
        "compiler": "gcc 12", "git": {"commit": f"{name}-commit", "dirty": False},
        "binaries": {} if binary is None else {"iolab-server": binary},
        "tools": {"nginx": "1.22"},
    }  # fmt: skip


def write(
    results: Path,
    name: str,
    speed: dict[str, float],
    seed: int = 1,
    level: float = 1,
    limited: str | None = None,
    binary: str | None = "one",
    **host: Any,
) -> None:
    """A run of 30 blocks in which servers have these speeds on a machine of that level.

    The client of the `limited` server is used up; `binary` is the hash of the server's.
    """
    rng = random.Random(seed)
    servers = [
        Server(
            "peer" if server.startswith("nginx") else "engine",
            server.split("#")[0],
            twin="#" in server,
        )
        for server in speed
    ]
    cells = tuple(Cell(server, load) for load in LOADS for server in servers)
    plan = Plan(name, "", next(iter(speed)), cells)
    (results / name).mkdir()
    store.write_json(results / name / store.MANIFEST, manifest(name, plan, binary, **host))
    with store.SampleWriter(results / name) as writer:
        for block in range(30):
            wobble = rng.gauss(0, 0.3)
            for order, cell in enumerate(cells):
                rate = 1000 * level * speed[cell.server.label]
                rate *= math.exp(wobble + rng.gauss(0, 0.01))
                size = rate * cell.workload.size_bytes
                one = sound_slice(block, cell.id, size, order=order)
                if one.load is not None and cell.server.label == limited:
                    one.load["cpu"]["client_share"] = 0.99
                writer.append(one)
            writer.end_block(block)


def ask(*argv: str) -> dict[str, Any]:
    result = CliRunner().invoke(compare, [*argv, "--json"], catch_exceptions=False)
    document: dict[str, Any] = json.loads(result.stdout)
    return document


def effects(document: dict[str, Any]) -> dict[str, str]:
    return {one["name"]: one["effect"] for one in document["verdicts"]}


def test_runs_are_compared_beside_their_baselines_and_not_by_rates(results: Path) -> None:
    write(results, "old", {"base": 1.0, "a": 1.5, "b": 2.0, "gone": 1.0})
    write(results, "new", {"base": 1.0, "a": 1.2, "b": 2.0, "added": 1.0}, seed=2, level=3)
    document = ask("old", "new")
    assert effects(document) == {
        "a@small": "slower", "a@large": "slower", "b@small": "same", "b@large": "same",
    }  # fmt: skip
    assert document["verdicts"][0]["estimate"]["ratio"] == pytest.approx(0.8, rel=0.02)
    assert "unpaired, by what each cell was beside base" in document["note"]
    assert document["left_out"] == [
        "gone@small: only in old", "gone@large: only in old",
        "added@small: only in new", "added@large: only in new",
    ]  # fmt: skip


def test_what_differs_around_them_comes_first(results: Path) -> None:
    write(results, "old", {"base": 1.0, "a": 1.5})
    write(results, "new", {"base": 1.0, "a": 1.5}, seed=2, kernel="6.12", sysctls={"a": "2"})
    result = CliRunner().invoke(compare, ["old", "new"], catch_exceptions=False)
    lines = result.stdout.splitlines()
    assert lines[:4] == [
        "what differs between the manifests:",
        "  kernel: host.kernel: 6.1 -> 6.12",
        "  sysctls: host.sysctls.a: 1 -> 2",
        "  commit: git.commit: old-commit -> new-commit",
    ]
    assert "a@small" in result.stdout
    assert "same" in result.stdout


def test_other_hosts_are_refused_unless_asked_for(results: Path) -> None:
    write(results, "old", {"base": 1.0, "a": 1.5})
    write(results, "new", {"base": 1.0, "a": 1.5}, seed=2, hostname="other")
    with pytest.raises(
        InputError, match=r"different hosts \(host.hostname: lab and other\)"
    ) as why:
        ask("old", "new")
    assert "--cross-host" in (why.value.remedy or "")
    assert effects(ask("old", "new", "--cross-host"))["a@small"] == "same"


def test_servers_and_cells_of_one_run_are_paired(results: Path) -> None:
    write(results, "one", {"base": 1.0, "a": 1.5, "b": 1.2})
    document = ask("a", "b", "--run", "one")
    assert effects(document) == {"b@small": "slower", "b@large": "slower"}
    found = document["verdicts"][0]["estimate"]
    assert found["high"] / found["low"] < 1.05  # the wobble of 30% cancels
    assert effects(ask("b@large", "a@large", "--run", "last")) == {"a@large": "faster"}
    with pytest.raises(InputError, match="did you mean 'base'"):
        ask("a", "bass", "--run", "one")
    with pytest.raises(InputError, match="different workloads"):
        ask("a@small", "b@large", "--run", "one")


def test_a_specification_means_no_twin(results: Path) -> None:
    write(results, "one", {"base": 1.0, "base#2": 0.5, "a": 1.5})
    found = ask("engine:base", "engine:a", "--run", "one")["verdicts"]
    assert [(one["base"], one["new"]) for one in found] == [("base", "a")] * 2
    assert found[0]["estimate"]["ratio"] == pytest.approx(1.5, rel=0.02)
    back = ask("a", "engine:base", "--run", "one")["verdicts"]
    assert [one["new"] for one in back] == ["base"] * 2
    assert effects(ask("a", "base#2", "--run", "one"))["base#2@small"] == "slower"


def test_runs_without_a_common_baseline_are_refused(results: Path) -> None:
    write(results, "old", {"base": 1.0, "a": 1.5})
    write(results, "new", {"a": 1.5, "base": 1.0})
    with pytest.raises(InputError, match="the baselines differ: base in old, a in new"):
        ask("old", "new")


def test_an_untrusted_run_says_so_on_the_first_line(results: Path) -> None:
    write(results, "old", {"base": 1.0, "base#2": 0.8, "a": 1.5})
    write(results, "new", {"base": 1.0, "base#2": 1.0, "a": 1.5}, seed=2)
    result = CliRunner().invoke(compare, ["old", "new"], catch_exceptions=False)
    assert result.stdout.startswith("untrusted: old: the baseline differs from itself")
    assert "base#2" not in effects(ask("old", "new"))


def test_a_run_without_a_a_evidence_is_named(results: Path) -> None:
    write(results, "old", {"base": 1.0, "base#2": 1.0, "a": 1.5})
    write(results, "new", {"base": 1.0, "a": 1.5}, seed=2)
    assert ask("old", "new")["unproven"] == ["new: no A/A evidence: none in the plan"]
    assert ask("base", "a", "--run", "old")["unproven"] == []
    (wide,) = ask("base", "a", "--run", "old", "--threshold", "0.1%")["unproven"]
    assert wide.startswith("old: no A/A evidence: base#2@small: the interval is")
    result = CliRunner().invoke(compare, ["old", "new"], catch_exceptions=False)
    assert result.stdout.splitlines()[-1] == "new: no A/A evidence: none in the plan"


@pytest.mark.parametrize(
    ("old", "new", "speed", "effect"),
    [
        ("base", None, 1.2, "unclear"),  # so the ratio in old is too large: slower only seems so
        ("base", None, 2.0, "faster"),
        (None, "base", 1.2, "slower"),
        (None, "base", 2.0, "unclear"),
        ("a", None, 1.2, "slower"),
        (None, "a", 1.2, "unclear"),
        (None, "base", 1.5, "unclear"),
        (None, None, 1.5, "same"),
    ],
)
def test_a_client_that_was_used_up_in_one_run_moves_its_ratios(
    results: Path, old: str | None, new: str | None, speed: float, effect: str
) -> None:
    write(results, "old", {"base": 1.0, "a": 1.5}, limited=old)
    write(results, "new", {"base": 1.0, "a": speed}, seed=2, limited=new)
    found = {one["name"]: one for one in ask("old", "new")["verdicts"]}["a@small"]
    assert found["effect"] == effect
    if effect == "unclear":
        (run, server) = ("old", old) if old else ("new", new)
        assert f"{server}@small in {run} was limited by its client" in found["reason"]


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        ("one", "two", "binaries.iolab-server: one and two"),
        ("one", None, "git.commit: old-commit and new-commit"),
        ("one", "one", None),
    ],
)
def test_an_engine_of_another_build_is_no_yardstick(
    results: Path, old: str | None, new: str | None, why: str | None
) -> None:
    """All of the tree 20% slower would read as the same, for the baseline is so as well."""
    write(results, "old", {"base": 1.0, "a": 1.5, "b": 1.5}, binary=old)
    write(results, "new", {"base": 0.8, "a": 1.2, "b": 1.8}, seed=2, binary=new)
    document = ask("old", "new")
    found = {one["name"]: one for one in document["verdicts"]}
    assert ("nothing can be judged by it" in document["note"]) == (why is not None)
    if why is None:
        assert (found["a@small"]["effect"], found["b@small"]["effect"]) == ("same", "faster")
        return
    for name in ("a@small", "b@small"):
        assert found[name]["effect"] == "unclear"
        assert f"the baseline base is another one in each run ({why}" in found[name]["reason"]


def test_a_peer_is_a_yardstick_in_one_version(results: Path) -> None:
    for name, seed in (("old", 1), ("new", 2), ("other", 3)):
        write(results, name, {"nginx": 1.0, "a": 1.5}, seed, binary=name)
    path = results / "other" / store.MANIFEST
    store.write_json(path, store.read_manifest(results / "other") | {"tools": {"nginx": "1.26"}})
    assert effects(ask("old", "new"))["a@small"] == "same"
    found = {one["name"]: one for one in ask("old", "other")["verdicts"]}["a@small"]
    assert found["effect"] == "unclear"
    assert "tools.nginx: 1.22 and 1.26" in found["reason"]


def test_a_cell_that_failed_is_unclear_with_its_reason(results: Path) -> None:
    write(results, "old", {"base": 1.0, "a": 1.5})
    write(results, "new", {"base": 1.0, "a": 1.5}, seed=2)
    path = results / "new" / store.SAMPLES
    bad = Sample(30, 0, "a@small", Status.INVALID, "client saw 1 short", 0, 1).to_json()
    with path.open("a") as file:
        file.write(json.dumps(bad) + '\n{"block_end":30,"schema_version":1}\n')
    found = {one["name"]: one for one in ask("old", "new")["verdicts"]}
    assert found["a@small"]["effect"] == "unclear"
    assert "invalid: client saw 1 short" in found["a@small"]["reason"]
    assert found["a@large"]["effect"] == "same"


def test_a_baseline_that_failed_is_the_reason_of_its_cells(results: Path) -> None:
    write(results, "old", {"base": 1.0, "a": 1.5})
    write(results, "new", {"base": 1.0, "a": 1.5}, seed=2)
    bad = Sample(30, 0, "base@small", Status.INVALID, "client saw 1 reset", 0, 1).to_json()
    with (results / "old" / store.SAMPLES).open("a") as file:
        file.write(json.dumps(bad) + '\n{"block_end":30,"schema_version":1}\n')
    found = {one["name"]: one for one in ask("old", "new")["verdicts"]}
    assert found["a@small"]["reason"] == "base@small in old: invalid: client saw 1 reset"
    assert found["a@large"]["reason"] is None


def test_a_threshold_decides_what_matters(results: Path) -> None:
    write(results, "one", {"base": 1.0, "a": 0.97})
    assert effects(ask("base", "a", "--run", "one"))["a@small"] == "same"
    assert effects(ask("base", "a", "--run", "one", "--threshold", "1%"))["a@small"] == "slower"
