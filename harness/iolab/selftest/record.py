"""Measures what a self-test draws from: sessions with processes of their own, and whole gates."""

from __future__ import annotations

from dataclasses import asdict, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from iolab import compare, control, gate, manifest, model, resumption, runlock, store
from iolab.campaign import circumstances, run_plan
from iolab.console import say
from iolab.errors import InputError
from iolab.gate_pairs import BASE, CANDIDATE
from iolab.lab import Lab
from iolab.model import Cell, Plan, Server, Workload
from iolab.selftest import resume
from iolab.selftest.model import GATES, KIND, PLANTED, SCHEMA_VERSION, Settings
from iolab.sizes import format_size
from iolab.specs import parse_server


def session_plan(server: Server, settings: Settings, number: int) -> Plan:
    """The plan of one session: the server, its twin, and one with each handicap."""
    load = _workload(settings)
    servers = [server, *(replace(server, handicap_percent=p) for p in PLANTED)]
    plan = Plan(
        name=resume.session_name(number),
        summary="Equal and handicapped servers, for the self-test.",
        baseline=server.label,
        cells=tuple(Cell(one, load) for one in servers),
        budget_s=float("1e9"),
        min_blocks=settings.blocks,
        max_blocks=settings.blocks,
        slice_ms=settings.slice_ms,
        warmup_ms=settings.warmup_ms,
        seed=settings.seed * 1000 + number,
    )
    return control.with_control(plan)


def gate_plan(
    server: Server, settings: Settings, percent: int, budget_s: float, number: int
) -> Plan:
    """The plan of a whole gate: the same binary twice, the candidate handicapped."""
    base = replace(server, build=BASE)
    candidate = replace(server, build=CANDIDATE, handicap_percent=percent)
    plan = Plan(
        name=f"gate-{number:02}-{percent}",
        summary="A whole gate with a planted slowdown, for the self-test.",
        baseline=base.label,
        baseline_build=BASE,
        cells=(Cell(base, _workload(settings)), Cell(candidate, _workload(settings))),
        slice_ms=settings.slice_ms,
        warmup_ms=settings.warmup_ms,
        seed=settings.seed * 1000 + 10 * number,
    )
    return gate.plan_to(plan, settings.threshold_for(percent), budget_s)


def _workload(settings: Settings) -> Workload:
    return Workload(format_size(settings.size_bytes), settings.size_bytes, settings.connections)


def the_server(lab: Lab, settings: Settings) -> Server:
    """The engine to test with; InputError when it is not one, or this machine cannot run it."""
    servers = parse_server(f"engine:{settings.engine}", lab.offer, "file", "--engine")
    if len(servers) != 1:
        raise InputError(f"--engine: {settings.engine!r} names {len(servers)} servers: name one")
    server = servers[0]
    if server.unsupported is not None:
        raise InputError(f"--engine: {server.spec}: {server.unsupported}")
    return server


def record(lab: Lab, settings: Settings, run_dir: Path | None = None) -> Path:
    """Records everything; the directory of the run. With `run_dir`, what that run still lacks.

    Sessions first, then whole gates, in turns of one of each kind. KeyboardInterrupt, and whatever
    else, passes through after the manifest says so: it costs at most the session or the gate that
    is open, for every other is whole and synced. InputError when the run cannot go on here,
    IolabError when another process is recording into it: then nothing of it is touched.
    """
    server = the_server(lab, settings)
    run_dir = run_dir or store.create_run_dir(lab.house.results, KIND, datetime.now())
    with runlock.recording(run_dir):
        _record_missing(lab, server, settings, run_dir)
    return run_dir


def _record_missing(lab: Lab, server: Server, settings: Settings, run_dir: Path) -> None:
    """See record: what the run lacks, into its directory, which is locked."""
    document = _start(lab, settings, run_dir, session_plan(server, settings, 0))
    missing = resume.missing(run_dir, settings)
    _save(run_dir, document, "running")
    say(f"run: {run_dir}; {missing.text}")
    try:
        for number in missing.sessions:
            say(f"session {number + 1} of {settings.sessions}")
            record_session(lab, session_plan(server, settings, number), run_dir)
        for number, percent, budget_s in missing.gates:
            say(f"gate {number + 1} of {settings.repetitions}, planted {percent}%")
            line = whole_gate(lab, server, settings, percent, budget_s, number, run_dir)
            store.append_jsonl(run_dir / GATES, line)
    except BaseException as error:
        _save(run_dir, document, f"interrupted: {type(error).__name__}")
        say(f"what is finished is kept; go on with: ./iolab selftest --resume {run_dir}")
        say(f"or evaluate what there is: ./iolab report {run_dir}")
        raise
    _save(run_dir, document, "finished")


def record_session(lab: Lab, plan: Plan, run_dir: Path) -> None:
    """One session from its beginning; one that an interruption left unfinished is set aside."""
    aside = resume.set_aside(run_dir, plan.name)
    if aside is not None:
        say(f"{plan.name} is not whole: kept as {aside}, and recorded anew")
    (run_dir / plan.name).mkdir()
    run_plan(lab, plan, run_dir / plan.name, resumable=False)


def whole_gate(
    lab: Lab,
    server: Server,
    settings: Settings,
    percent: int,
    budget_s: float,
    number: int,
    run_dir: Path,
) -> dict[str, Any]:
    """One gate from end to end, as a line of gates.jsonl."""
    plan = gate_plan(server, settings, percent, budget_s, number)
    threshold = settings.threshold_for(percent)
    found = gate.rounds(lab, plan, threshold, compare.against_references, run_dir / "gates")
    outcomes = gate.decide(found[0], found[1] if len(found) > 1 else None)
    return {
        "schema_version": SCHEMA_VERSION,
        "percent": percent,
        "budget_s": budget_s,
        "threshold": threshold,
        "exit_code": gate.exit_code(outcomes),
        "reason": outcomes[0].reason if outcomes else "nothing was compared",
        "first_s": found[0].measured_s,
        "measured_s": sum(one.measured_s for one in found),
        "runs": [one.run for one in found],
    }


def _start(lab: Lab, settings: Settings, run_dir: Path, plan: Plan) -> dict[str, Any]:
    """The manifest of a run that begins, or goes on; what changed around it is said."""
    path = run_dir / store.MANIFEST
    stored = store.read_manifest(run_dir) if path.exists() else None
    fresh = _manifest(lab, settings, run_dir, plan)
    if stored is not None:
        resume.check_host(path, stored, fresh)
    document, changes = resumption.continued(stored, fresh)
    for line in resumption.in_words(changes):
        say(line)
    return document


def _manifest(lab: Lab, settings: Settings, run_dir: Path, plan: Plan) -> dict[str, Any]:
    return {
        "schema_version": model.SCHEMA_VERSION,
        "kind": KIND,
        "run": run_dir.name,
        "starts": [datetime.now().astimezone().isoformat(timespec="seconds")],
        **circumstances(lab, plan, lab.describe),
        "quietness": manifest.quietness(),
        "git": manifest.git_facts(lab.executor, lab.house.root),
        "binaries": manifest.binary_facts(lab.house.measuring),
        "settings": asdict(settings),
    }


def _save(run_dir: Path, document: dict[str, Any], state: str) -> None:
    document["state"] = state
    store.write_json(run_dir / store.MANIFEST, document)
