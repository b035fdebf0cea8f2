from __future__ import annotations

import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from iolab import gate_stored
from iolab.describe import Describe, Engine
from iolab.errors import InputError
from iolab.gate_pairs import CANDIDATE
from iolab.gate_stored import (
    check_circumstances,
    check_profiles,
    check_trust,
    stored_missing,
    stored_plan,
)
from iolab.lab import Lab
from iolab.model import Cell, Plan, Sample, Server, Status, Workload
from iolab.report.run import Run
from iolab.specs import Offer, PeerOffer

LOAD = Workload("1KiB", 1024, 8)
FACTS: dict[str, Any] = {
    "host": {"hostname": "lab", "kernel": "6.1", "sysctls": {"a": "1"}},
    "compiler": "gcc 12",
    "cpus": {"server": [0], "client": 1},
}


def stored(baseline: str = "nginx", **manifest: Any) -> Run:
    servers = [
        Server("peer", "nginx"),
        Server("peer", "nginx", twin=True),
        Server("engine", "a"),
        Server("engine", "b"),
        Server("engine", "c", (), "no kernel support"),
    ]
    plan = Plan("m", "", baseline, tuple(Cell(server, LOAD) for server in servers))
    return Run("kept", Path("kept"), {**FACTS, **manifest}, plan, (), 0, None, (), (), ())


def offer() -> Offer:
    here = Describe(
        schema_version=1,
        engines=tuple(Engine(name=n, sources=("file",), roles=("file",)) for n in "abc"),
    )
    return Offer(here, {"nginx": PeerOffer(("file",))}, builds={CANDIDATE: here})


def test_the_candidate_stands_beside_the_stored_baseline() -> None:
    plan = stored_plan(stored(), offer(), (), 0.05, 10.0)
    labels = [cell.server.label for cell in plan.cells]
    assert labels == ["nginx", "candidate/a", "candidate/b"]
    assert (plan.baseline, plan.baseline_build, plan.budget_s) == ("nginx", None, 10.0)
    some = stored_plan(stored(), offer(), ("engine:b",), 0.05, None)
    assert [cell.server.label for cell in some.cells] == ["nginx", "candidate/b"]


def test_an_engine_as_baseline_is_refused() -> None:
    with pytest.raises(InputError, match="its baseline a is an engine"):
        stored_plan(stored("a"), offer(), (), 0.05, None)


def test_engines_that_were_not_stored_are_named() -> None:
    with pytest.raises(InputError, match="no engine x in it; it has a, b, c"):
        stored_plan(stored(), offer(), ("x",), 0.05, None)


def test_what_the_candidate_cannot_run_of_a_stored_run_is_missing() -> None:
    both = offer()
    lame = tuple(
        one.model_copy(update={"usable": False, "reason": "no ring"}) if one.name == "b" else one
        for one in both.describe.engines
    )
    lacks = replace(both, builds={CANDIDATE: both.describe.model_copy(update={"engines": lame})})
    assert stored_missing(stored(), both, ()) == {}
    assert stored_missing(stored(), lacks, ()) == {
        "b@1KiB": "the stored run has it and the candidate does not: no ring"
    }
    assert stored_missing(stored(), lacks, ("engine:a",)) == {}
    labels = [cell.server.label for cell in stored_plan(stored(), lacks, (), 0.05, None).cells]
    assert labels == ["nginx", "candidate/a"]
    with pytest.raises(InputError, match=r"nothing to compare: b@1KiB: .*no ring"):
        stored_plan(stored(), lacks, ("b",), 0.05, None)


class FakeLab:
    described_builds = {CANDIDATE: Describe(schema_version=1, engines=())}  # noqa: RUF012


def check(now: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gate_stored, "circumstances", lambda lab, plan, described: now)
    check_circumstances(cast(Lab, FakeLab()), stored())


def test_equal_circumstances_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    check(FACTS, monkeypatch)
    check({**FACTS, "git": {"commit": "another"}}, monkeypatch)
    # A split is a tuple until it is stored.
    check({**FACTS, "cpus": {"server": (0,), "client": 1}}, monkeypatch)


def test_other_circumstances_are_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    host = {"hostname": "lab", "kernel": "6.12", "sysctls": {"a": "2"}}
    with pytest.raises(InputError) as why:
        check({**FACTS, "host": host, "compiler": "gcc 13"}, monkeypatch)
    text = str(why.value)
    assert "kernel: host.kernel: 6.1 -> 6.12" in text
    assert "sysctls: host.sysctls.a: 1 -> 2" in text
    assert "compiler: compiler: gcc 12 -> gcc 13" in text
    assert why.value.exit_code == 2


def kept(twin: float, nr: int = 40, noise: float = 0.01) -> Run:
    """A stored run in which the twin is so many times as fast as its original."""
    run, rng = stored(), np.random.default_rng(5)
    speed = {"nginx#2": twin}
    samples = []
    for block in range(nr):
        for cell in run.plan.cells:
            done = 1e8 * speed.get(cell.server.label, 1.0) * math.exp(rng.normal(0, noise))
            window = {"ns": 10**9, "requests": 1, "body_bytes": done}
            cpu = {"client_ns": 1, "server_ns": 1, "client_share": 0.1}
            load = {"window": window, "cpu": cpu}
            samples.append(Sample(block, 0, cell.id, Status.OK, None, 0, 1, load))
    return replace(run, samples=tuple(samples), nr_blocks=nr)


@pytest.mark.parametrize(
    ("twin", "nr", "noise", "why"),
    [
        (1.0, 40, 0.01, None),
        (0.9, 40, 0.01, "untrusted: the baseline differs from itself: nginx#2 to nginx"),
        (1.0, 4, 0.01, "no A/A evidence: nginx#2@1KiB: 4 blocks are too few"),
        (1.0, 40, 0.3, "no A/A evidence: nginx#2@1KiB: the interval is"),
    ],
)
def test_a_stored_run_that_nobody_may_trust_is_refused(
    twin: float, nr: int, noise: float, why: str | None
) -> None:
    if why is None:
        check_trust(kept(twin, nr, noise), 0.05)
        return
    with pytest.raises(InputError, match=re.escape(why)) as refused:
        check_trust(kept(twin, nr, noise), 0.05)
    assert "./iolab run m --precision 2.5%" in (refused.value.remedy or "")


def applied(**values: str | None) -> list[dict[str, Any]]:
    knobs = [{"knob": knob, "key": knob, "effective": value} for knob, value in values.items()]
    return [{"profile": "fast", "testbed": "loopback", "knobs": knobs}]


def test_profiles_must_become_what_they_were(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before they are applied nobody knows, so that only then they can be a reason to refuse."""
    tuned = stored(profiles=applied(somaxconn="4096", turbo=None))
    monkeypatch.setattr(gate_stored, "circumstances", lambda lab, plan, described: FACTS)
    check_circumstances(cast(Lab, FakeLab()), tuned)
    check_profiles(tuned, {"profiles": applied(somaxconn="4096", turbo=None)})
    check_profiles(tuned, {"profiles": []})  # no cell of the candidate needs one
    check_profiles(stored(), {})
    with pytest.raises(
        InputError, match=r"tuning: profiles\.fast@loopback\.somaxconn: 4096 -> 128"
    ):
        check_profiles(tuned, {"profiles": applied(somaxconn="128", turbo=None)})
    with pytest.raises(InputError, match="None -> 1"):
        check_profiles(tuned, {"profiles": applied(somaxconn="4096", turbo="1")})
