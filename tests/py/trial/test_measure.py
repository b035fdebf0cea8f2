"""`tune validate --measure` on kept recordings, where it measures on the kernel's namespaces."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from iolab import gate
from iolab.campaign import given_profiles
from iolab.errors import InputError
from iolab.executor import HostExecutor
from iolab.gate import Round
from iolab.model import Cell, Plan, Server, Workload
from iolab.paths import find_house
from iolab.testbed.netns import open_netns
from iolab.trial import namespace, verb
from iolab.trial import verdict as trial_verdict
from iolab.trial.measure import Asked, script_plan
from iolab.trial.namespace import unfit, untaken
from iolab.trial.transfer import Key, Part, Transfer
from iolab.trial.verb import validate
from iolab.trial.verdict import KnobVerdict, Outcome
from iolab.tuning.host import Host
from iolab.tuning.scene import Scene
from iolab.tuning.state import journalled, state_dir
from iolab.verdict import Effect, Verdict

Recorded = Callable[[str], str]
LOAD = Workload("w", 1024, 2)
MATRIX = """
schema_version = 1
name = "tiny"
summary = "A measurement that costs nothing."
[run]
baseline = "epoll"
min_blocks = 2
slice_ms = 10
warmup_ms = 0
[servers]
list = ["engine:epoll"]
[[workload]]
name = "w"
size = "1KiB"
connections = 2
"""


def plan(**changes: Any) -> Plan:
    servers = (Server("engine", "epoll"), Server("engine", "io_uring", unsupported="no ring"))
    cells = tuple(Cell(server, LOAD) for server in servers)
    return replace(Plan("m", "", "epoll", cells, left_out=("io_uring: no ring",)), **changes)


def test_each_cell_stands_with_and_without_the_script_on_namespaces() -> None:
    made = script_plan(plan(), Asked("m", budget_s=5.0))
    assert [cell.id for cell in made.cells] == ["epoll@w@netns", "epoll@w@script@netns"]
    assert made.reference(made.cells[1]) == "epoll:none"
    assert (made.budget_s, made.partial, made.left_out) == (5.0, True, ("io_uring: no ring",))
    assert made.precision == pytest.approx(0.0247, abs=1e-4)
    assert script_plan(plan(), Asked("m", precision=0.1)).precision == 0.1


def test_what_has_no_closed_loop_is_left_out_by_name() -> None:
    cells = (*plan().cells, Cell(Server("engine", "epoll"), replace(LOAD, name="o", rate_per_s=9)))
    made = script_plan(plan(cells=cells), Asked("m"))
    assert len(made.cells) == 2
    assert "epoll@o: an open loop, whose rate is given" in made.left_out


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"role": "copy"}, "role copy"),
        ({"baseline_profile": "baseline"}, r"its \[profiles\]"),
        ({"cells": plan().cells[1:]}, "no cell of it can be measured"),
    ],
)  # fmt: skip
def test_a_matrix_that_cannot_be_meant_is_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        script_plan(plan(**changes), Asked("m"))


@pytest.mark.parametrize("option", ["--dry-run", "--budget=1s", "--precision=2%", "--threshold=5%"])
def test_options_of_measuring_ask_for_it(option: str) -> None:
    answer = CliRunner().invoke(validate, ["x.sh", option])
    assert answer.exit_code == 2
    assert "need --measure" in answer.output


# --- on the real kernel --------------------------------------------------------------------------


@contextmanager
def namespace_scene() -> Iterator[Scene]:
    with HostExecutor() as executor, open_netns(executor) as bed:
        name = bed.namespace("server")
        host = Host(executor, state=state_dir(name))
        try:
            yield Scene(host, bed.device("server"), name, only_netns=True)
        finally:
            host.close()


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where runs and journals of the test go; the matrix `tiny.toml` lies there."""
    if os.geteuid() != 0:
        pytest.skip("network namespaces take root")
    for binary in (find_house().server_binary, find_house().load_binary):
        if not binary.is_file():
            pytest.skip(f"{binary.name} is not built")
    monkeypatch.setenv("IOLAB_RESULTS", str(tmp_path / "results"))
    monkeypatch.setenv("IOLAB_STATE", str(tmp_path / "state"))
    (tmp_path / "tiny.toml").write_text(MATRIX)
    return tmp_path


def transferred(**values: str) -> Transfer:
    keys = [Key(("sysctl",), name.replace("__", "."), value) for name, value in values.items()]
    parts = tuple(Part(key.name, key.text, key.dotted) for key in keys)
    return Transfer(parts, {key.dotted: key for key in keys})


def test_the_kernel_says_what_a_namespace_takes(root: Path) -> None:
    now = Path("/proc/sys/net/ipv4/tcp_sack").read_text().strip()
    moved = transferred(
        net__ipv4__tcp_fin_timeout="17",
        net__ipv4__tcp_sack=now,
        net__core__netdev_max_backlog="17",
        net__ipv4__no_such_knob="1",
        net__ipv4__tcp_congestion_control="no_such_control",
    )
    with namespace_scene() as scene:
        reasons = unfit(moved, scene)
    assert reasons == {
        "sysctl.net.ipv4.tcp_sack": "a namespace of this host has that value already",
        "sysctl.net.core.netdev_max_backlog": "it belongs to the whole host",
        "sysctl.net.ipv4.no_such_knob": "this kernel has no /proc/sys/net/ipv4/no_such_knob, or "
        "its module is not loaded",
        "sysctl.net.ipv4.tcp_congestion_control": "tcp_no_such_control is not loaded, and loading "
        "it would change the host: modprobe tcp_no_such_control",
    }


def test_a_value_that_does_not_take_is_no_difference_to_measure(root: Path) -> None:
    """The kernel refuses a port range whose ends are in the wrong order (EINVAL)."""
    moved = transferred(
        net__ipv4__tcp_fin_timeout="17", net__ipv4__ip_local_port_range="60000 20000"
    )
    with namespace_scene() as scene:
        assert unfit(moved, scene) == {}
        reasons = untaken(moved, scene)
        now = scene.host.tree(scene.netns).read("proc/sys/net/ipv4/tcp_fin_timeout")
    assert list(reasons) == ["sysctl.net.ipv4.ip_local_port_range"]
    assert "refused here: " in reasons["sysctl.net.ipv4.ip_local_port_range"]
    assert now == Path("/proc/sys/net/ipv4/tcp_fin_timeout").read_text().strip()
    assert journalled() == []


def test_a_discipline_whose_module_would_be_loaded_is_left_out(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def would_load(module: str, scene: Scene) -> bool:
        asked.append(module)
        return True

    monkeypatch.setattr(namespace, "_would_load", would_load)
    key = Key(("nic",), "qdisc", "mq/pfifo")
    with namespace_scene() as scene:
        reasons = unfit(Transfer((), {key.dotted: key}), scene)
    assert asked == ["sch_pfifo"]
    assert "loading it would change the host: modprobe sch_pfifo" in reasons["nic.qdisc"]


def invoke(root: Path, kept: str, *more: str) -> tuple[Result, dict[str, Any]]:
    words = [kept, "--recorded", "--json", "--measure", str(root / "tiny.toml"), *more]
    answer = CliRunner().invoke(validate, words)
    assert answer.exception is None or isinstance(answer.exception, SystemExit), answer.exception
    return answer, json.loads(answer.stdout)


def network() -> dict[str, str]:
    """The host's own values of what the script sets."""
    core = ("core/netdev_max_backlog", "core/somaxconn")
    tcp = ("rmem", "wmem", "fin_timeout", "tw_reuse", "congestion_control")
    names = (*core, "ipv4/ip_local_port_range", *(f"ipv4/tcp_{name}" for name in tcp))
    return {name: Path("/proc/sys/net", name).read_text() for name in names}


def test_a_recorded_trial_is_measured_and_leaves_the_host_alone(
    root: Path, recorded: Recorded
) -> None:
    before = network()
    answer, document = invoke(root, recorded("sysctl-production"), "--budget", "1s")
    assert network() == before
    assert answer.exit_code == 1  # the script has findings, whatever it does to speed
    measured = document["measured"]
    part = {one["knob"]: one for one in measured["knobs"]}
    assert part["net.core.netdev_max_backlog"]["takes_part"] is False
    assert part["net.core.netdev_max_backlog"]["reason"] == "it belongs to the whole host"
    assert part["limit/nofile"]["reason"] == "dies with the shell in the trial"
    assert part["net.ipv4.tcp_fin_timeout"]["takes_part"] is True
    assert measured["cells"] == ["epoll@w@netns", "epoll@w@script@netns"]
    assert [one["first"]["base"] for one in measured["verdicts"]] == ["epoll:none"]
    assert "nothing about a NIC" in measured["label"]
    manifest = json.loads((root / "results" / measured["runs"][0] / "manifest.json").read_text())
    (profile,) = manifest["profiles"]
    assert (profile["profile"], profile["scope"]) == ("script", "namespace")
    asked = {one["key"]: one["effective"] for one in profile["knobs"]}
    assert asked["sysctl.net.ipv4.tcp_fin_timeout"] == "30"
    assert "net.core.netdev_max_backlog: it belongs to the whole host" in manifest["left_out"]
    (kept,) = given_profiles(root / "results" / measured["runs"][0]).values()
    assert kept.profile.sysctl["net.ipv4.tcp_fin_timeout"] == "30"  # a run that goes on has it
    assert journalled() == []
    assert not list(Path("/run/netns").glob(f"iolab-bed-{os.getpid()}-*"))


def test_a_dry_run_says_what_would_be_measured(root: Path, recorded: Recorded) -> None:
    _, document = invoke(root, recorded("sysctl-production"), "--dry-run")
    assert document["measured"]["why_not"] == "--dry-run"
    assert document["measured"]["runs"] == []
    assert any(one["takes_part"] for one in document["measured"]["knobs"])
    assert not (root / "results").exists()


def test_without_a_knob_of_a_namespace_there_is_nothing_to_measure(
    root: Path, recorded: Recorded
) -> None:
    answer, document = invoke(root, recorded("irq-local-node"))
    assert answer.exit_code == 0
    assert "no knob of the script makes a difference" in document["measured"]["why_not"]
    assert {one["reason"] for one in document["measured"]["knobs"]} == {
        "a veth device has no interrupts"
    }


def rounds(effect: Effect) -> list[Round]:
    """What two measurements would have said."""
    name = "epoll:script@w"
    verdict = Verdict(name, "epoll:none", "epoll:script", "w", effect, 0.99, 0.05)
    return [Round("first", (verdict,)), Round("second", (verdict,))]


@pytest.mark.parametrize(
    ("effect", "status", "finding"), [(Effect.SLOWER, 1, True), (Effect.FASTER, 0, False)]
)
def test_slower_twice_is_a_finding_of_a_script_that_sets_what_it_says(
    root: Path,
    recorded: Recorded,
    monkeypatch: pytest.MonkeyPatch,
    effect: Effect,
    status: int,
    finding: bool,
) -> None:
    refused = {"key": "nic.qdisc", "outcome": "refused", "reason": "no", "effective": None}
    manifest = {"schema_version": 1, "profiles": [{"knobs": [refused]}]}
    (root / "results/first").mkdir(parents=True)
    (root / "results/first/manifest.json").write_text(json.dumps(manifest))
    good = KnobVerdict("tc/eth0/root", Outcome.CHANGED, "mq", "pfifo", "pfifo limit 1000p")
    monkeypatch.setattr(verb, "judge", lambda recording: trial_verdict.Verdict(0, (good,), ()))
    monkeypatch.setattr(gate, "rounds", lambda *args: rounds(effect))
    answer, document = invoke(root, recorded("fq-root"))
    assert (answer.exit_code, document["ok"]) == (status, True)
    measured = document["measured"]
    assert measured["verdicts"][0]["finding"] is finding
    assert measured["knobs"][0]["reason"] == "refused: no"
    assert measured["report"] is None
