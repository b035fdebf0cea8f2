"""Conditions on the real kernel: pairs of namespaces of the test's own, and profiles in them."""

from __future__ import annotations

import json
import os
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from iolab.conditions import Conditions, load_variant, open_conditions
from iolab.errors import IolabError
from iolab.lab import Lab, open_lab
from iolab.model import Cell, Condition, Plan, Server, TestbedName, Workload
from iolab.paths import House
from iolab.surroundings import AS_FOUND
from iolab.tuning import bench
from iolab.tuning.bench import Applied
from iolab.tuning.profile import Loaded
from iolab.tuning.state import journalled

SMALL = 'summary = "s"\n[sysctl]\n"net.ipv4.tcp_fin_timeout" = 30\n'
LARGE = 'summary = "l"\n[sysctl]\n"net.ipv4.tcp_fin_timeout" = 90\n"net.ipv4.tcp_sack" = {sack}\n'
LACKS = 'summary = "x"\n[sysctl]\n"net.ipv4.no_such_knob" = 1\n'
# A limit belongs to no namespace: the whole is the host's, though nothing outside this process is.
HOST = 'summary = "h"\n[sysctl]\n"net.ipv4.tcp_fin_timeout" = 20\n[limits]\nnofile = {soft}\n'
FIN = "/proc/sys/net/ipv4/tcp_fin_timeout"


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Lab]:
    """The lab of this tree with profiles and a journal of the test's own."""
    if os.geteuid() != 0:
        pytest.skip("network namespaces take root")
    room = tmp_path / "profiles"
    room.mkdir()
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0] - 1
    sack = Path("/proc/sys/net/ipv4/tcp_sack").read_text().strip()
    texts = {
        "small": SMALL, "large": LARGE.format(sack=sack), "lacks": LACKS,
        "host": HOST.format(soft=soft),
    }  # fmt: skip
    for name, text in texts.items():
        (room / f"{name}.toml").write_text(text)
    monkeypatch.setattr(House, "profiles", room)
    monkeypatch.setenv("IOLAB_STATE", str(tmp_path / "state"))
    with open_lab() as opened:
        yield opened


def plan(*profiles: str, baseline: str = "none", testbed: TestbedName = "netns") -> Plan:
    load = Workload("w", 100, 2)
    cells = tuple(Cell(Server("engine", "epoll"), load, name, testbed) for name in profiles)
    return Plan("p", "", "epoll", cells, testbed=testbed, baseline_profile=baseline)


@contextmanager
def opened(
    lab: Lab, chosen: Plan, meet: Callable[[Conditions, Condition], None] = lambda *_: None
) -> Iterator[Conditions]:
    """The conditions of a plan that has begun; `meet` is called in each."""
    with open_conditions(lab, chosen) as around:
        around.begin(chosen.conditions, partial(meet, around))
        yield around


def fin_timeout(lab: Lab, around: Conditions, cell: Cell) -> int:
    bed = around.stage(cell).testbed
    return int(lab.executor.run(bed.on_server(["cat", FIN])).stdout)


def namespaces() -> list[str]:
    return [path.name for path in Path("/run/netns").glob(f"iolab-bed-{os.getpid()}-*")]


def test_profiles_in_namespaces_stand_side_by_side(lab: Lab) -> None:
    chosen = plan("none", "small", "large")
    before = Path(FIN).read_text()
    with opened(lab, chosen) as around:
        assert {around.phase(cell) for cell in chosen.cells} == {AS_FOUND}
        found = [fin_timeout(lab, around, cell) for cell in chosen.cells]
        assert found[1:] == [30, 90]
        assert around.drift() is None
        scopes = [one["scope"] for one in around.facts()["profiles"]]
        assert scopes == ["namespace", "namespace"]
        assert len(namespaces()) == 6
        assert len(journalled()) == 2
    assert Path(FIN).read_text() == before
    assert namespaces() == []
    assert journalled() == []


def mtu(lab: Lab, around: Conditions, cell: Cell) -> tuple[int, int]:
    """That of the server's end of a cell's pair, and of the client's."""
    bed = around.stage(cell).testbed
    places = (bed.on_server, "ioserver"), (bed.on_client, "ioclient")
    links = [
        lab.executor.run(place(["ip", "-j", "link", "show", name])).stdout for place, name in places
    ]
    server, client = (json.loads(text)[0]["mtu"] for text in links)
    return server, client


def test_both_ends_of_a_pair_have_the_mtu_of_a_profile(lab: Lab) -> None:
    text = 'summary = "j"\n[nic.files]\nmtu = 9000\n'
    (lab.house.profiles / "jumbo.toml").write_text(text)
    chosen = plan("none", "jumbo")
    with opened(lab, chosen) as around:
        assert {around.phase(cell) for cell in chosen.cells} == {AS_FOUND}
        found = [mtu(lab, around, cell) for cell in chosen.cells]
        assert found == [(1500, 1500), (9000, 9000)]
        assert around.drift() is None


def test_an_mtu_that_the_server_did_not_take_is_not_the_clients_either(lab: Lab) -> None:
    text = 'summary = "j"\n[nic.files]\nmtu = 70000\n'
    (lab.house.profiles / "giant.toml").write_text(text)
    chosen = replace(plan("none", "giant"), partial=True)
    with opened(lab, chosen) as around:
        assert mtu(lab, around, chosen.cells[1]) == (1500, 1500)
        assert around.not_set(chosen.cells[1]) == ("mtu of ioserver",)


def test_drift_in_a_namespace_is_seen_and_mended(lab: Lab) -> None:
    chosen = plan("none", "small")
    with opened(lab, chosen) as around:
        bed = around.stage(chosen.cells[1]).testbed
        lab.executor.run(bed.on_server(["sh", "-c", f"echo 77 > {FIN}"]))
        drift = around.drift()
        assert drift is not None
        assert "small: net.ipv4.tcp_fin_timeout: asked for 30, has 77" in drift
        around.renew()
        assert around.drift() is None
        assert fin_timeout(lab, around, chosen.cells[1]) == 30


def test_a_profile_of_the_host_is_in_force_in_its_phase_only(lab: Lab) -> None:
    chosen = plan("none", "host")
    cell = chosen.cells[1]
    with opened(lab, chosen) as around:
        found = fin_timeout(lab, around, cell)
        assert around.phase(cell) == "host@netns"
        assert around.enter("host@netns")
        assert not around.enter("host@netns")
        assert fin_timeout(lab, around, cell) == 20
        assert around.drift() is None
        assert around.enter(AS_FOUND)
        assert fin_timeout(lab, around, cell) == found
        assert journalled() == []


def test_each_condition_is_met_where_it_was_tried(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A profile of the host is applied once for that; each is planned on the host as it was."""
    chosen = plan("none", "host", "small", "host~limits.nofile")
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    applied, met = [], {}

    def apply(loaded: Loaded, *rest: Any) -> Applied:
        applied.append(loaded.name)
        return bench.apply(loaded, *rest)

    def meet(around: Conditions, condition: Condition) -> None:
        cell = next(one for one in chosen.cells if one.condition == condition)
        assert not around.enter(around.phase(cell))
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        met[condition.profile] = (fin_timeout(lab, around, cell), limit - soft)

    noting = SimpleNamespace(apply=apply, revert=bench.revert, verify=bench.verify)
    monkeypatch.setattr("iolab.tuning.session.bench", noting)
    with opened(lab, chosen, meet) as around:
        assert applied == ["host", "small", "host~limits.nofile"]
        assert around.phase(chosen.cells[1]) == "host@netns"
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == soft
    assert met["host"] == (20, -1)
    assert [met[name] for name in ("small", "host~limits.nofile")] == [(30, 0), (20, 0)]


def test_what_cannot_be_had_is_met_by_nobody(lab: Lab) -> None:
    met: list[str] = []
    with opened(lab, plan("none", "lacks", "host"), lambda _, one: met.append(one.profile)):
        assert met == ["none", "host"]


def test_an_error_reverts_what_is_applied(lab: Lab) -> None:
    def interrupted() -> None:
        with opened(lab, plan("none", "host")) as around:
            around.enter("host@netns")
            assert len(journalled()) == 1
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert journalled() == []


def test_what_the_host_lacks_is_a_reason_and_no_partial_application(lab: Lab) -> None:
    chosen = plan("none", "lacks")
    with opened(lab, chosen) as around:
        (reason,) = around.unsupported.values()
        assert "lacks.toml: sysctl.net.ipv4.no_such_knob" in reason
        assert journalled() == []
    with pytest.raises(IolabError, match="the baseline profile lacks: "):
        opened(lab, plan("small", "lacks", baseline="lacks")).__enter__()
    assert namespaces() == []


def test_leaving_out_what_changes_nothing_is_not_measured(lab: Lab) -> None:
    names = [f"large~sysctl.net.ipv4.{key}" for key in ("tcp_fin_timeout", "tcp_sack")]
    chosen = plan("none", "large", *names)
    with opened(lab, chosen) as around:
        (reason,) = around.unsupported.values()
        assert reason == (
            "sysctl.net.ipv4.tcp_sack changes nothing here: the host has that value already"
        )
        assert fin_timeout(lab, around, chosen.cells[2]) != 90


def test_leaving_out_the_only_knob_of_the_host_is_measured(lab: Lab) -> None:
    """What is left lives in a namespace, where the knob that is left out is none."""
    chosen = plan("none", "host", "host~limits.nofile")
    with opened(lab, chosen) as around:
        assert around.unsupported == {}
        assert [around.phase(cell) for cell in chosen.cells] == [AS_FOUND, "host@netns", AS_FOUND]
        assert fin_timeout(lab, around, chosen.cells[2]) == 20


def test_leaving_out_what_was_not_taken_is_not_measured(lab: Lab) -> None:
    (lab.house.profiles / "mixed.toml").write_text(LACKS + '"net.ipv4.tcp_fin_timeout" = 33\n')
    names = [f"mixed~sysctl.net.ipv4.{key}" for key in ("no_such_knob", "tcp_fin_timeout")]
    chosen = replace(plan("none", "mixed", *names), partial=True)
    with opened(lab, chosen) as around:
        ((condition, reason),) = around.unsupported.items()
        assert condition.profile == names[0]
        assert "no_such_knob changes nothing here: unavailable" in reason
        assert around.not_set(chosen.cells[1]) == ("net.ipv4.no_such_knob",)
        # What exists nowhere is not known to be a namespace's own: the profile is the host's.
        assert around.enter(around.phase(chosen.cells[1]))
        assert around.drift() is None  # what was not taken is no drift
        assert fin_timeout(lab, around, chosen.cells[1]) == 33


def test_why_a_step_changes_nothing_is_one_line(lab: Lab) -> None:
    """The kernel's refusal comes with its remedy; the reason stands in a table of the report."""
    text = SMALL + '[nic]\nqdisc = "no_such_kind"\n'
    (lab.house.profiles / "kind.toml").write_text(text)
    chosen = replace(plan("none", "kind", "kind~nic.qdisc"), partial=True)
    with opened(lab, chosen) as around:
        (reason,) = around.unsupported.values()
    assert reason.startswith("nic.qdisc changes nothing here: refused: tc qdisc replace")
    assert reason.endswith("remedy: this kernel lacks sch_no_such_kind: modprobe sch_no_such_kind")
    assert "\n" not in reason


def test_an_ablation_is_loaded_from_its_name(lab: Lab) -> None:
    loaded = load_variant(lab.house.profiles, "large~sysctl.net.ipv4.tcp_sack")
    assert loaded.name == "large~sysctl.net.ipv4.tcp_sack"
    assert list(loaded.profile.sysctl) == ["net.ipv4.tcp_fin_timeout"]


def test_a_given_profile_goes_to_a_namespace_whatever_it_names(lab: Lab) -> None:
    text = SMALL + '"net.core.default_qdisc" = "pfifo_fast"\n'
    (lab.house.profiles / "wide.toml").write_text(text)
    given = replace(lab, given={"ours": load_variant(lab.house.profiles, "wide")})
    host = Path("/proc/sys/net/core/default_qdisc").read_text()
    chosen = plan("none", "ours")
    with opened(given, chosen) as around:
        assert around.phase(chosen.cells[1]) == AS_FOUND
        assert fin_timeout(given, around, chosen.cells[1]) == 30
        (facts,) = around.facts()["profiles"]
        assert (facts["scope"], len(facts["knobs"])) == ("namespace", 1)
        assert Path("/proc/sys/net/core/default_qdisc").read_text() == host


def test_a_given_profile_has_no_place_on_loopback(lab: Lab) -> None:
    given = replace(lab, given={"ours": load_variant(lab.house.profiles, "small")})
    with opened(given, plan("none", "ours", testbed="loopback")) as around:
        (reason,) = around.unsupported.values()
        assert "testbed loopback has none" in reason
