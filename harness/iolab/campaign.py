"""A whole run from a plan to a directory under results/: what `quick` and `run` have in common."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from iolab import (
    capacity,
    control,
    curve,
    manifest,
    resumption,
    stats,
    store,
    syscallcheck,
    wrkcheck,
)
from iolab.conditions import Conditions, open_conditions
from iolab.console import measuring, say
from iolab.curve import CurveSet
from iolab.describe import Describe
from iolab.errors import IolabError
from iolab.kernelstat import KernelStat
from iolab.lab import Lab
from iolab.matrix import plan_from_json, plan_to_json
from iolab.model import SCHEMA_VERSION, Cell, Plan, Role, Sample, Server, Status
from iolab.runlock import recording
from iolab.runner import Outcome, Retired, Runner
from iolab.servers import RunningServer
from iolab.servers.enclosure import Enclosure
from iolab.servers.peer import peer_version
from iolab.stats import WorkloadSummary
from iolab.troupe import Check, Troupe, with_running_baseline
from iolab.tuning.profile import Loaded
from iolab.verify import Verification, verify_server

_ENDLESS = 1_000_000  # blocks: so many that a budget always ends before


@dataclass
class Timing:
    """Where the time of this session went, in seconds; `in_slices_s` and `in_wrk_s` measured."""

    started: float = field(default_factory=time.monotonic)
    in_slices_s: float = 0.0
    in_wrk_s: float = 0.0

    @property
    def total_s(self) -> float:
        """Seconds since the run began."""
        return time.monotonic() - self.started

    def to_json(self) -> dict[str, float]:
        """As the manifest stores it."""
        total = self.total_s
        return {
            "total_s": round(total, 3),
            "in_slices_s": round(self.in_slices_s, 3),
            "in_wrk_s": round(self.in_wrk_s, 3),
            "slice_share": round(self.in_slices_s / total, 4) if total > 0 else 0.0,
            "measuring_share": round((self.in_slices_s + self.in_wrk_s) / total, 4)
            if total > 0
            else 0.0,
        }


@dataclass(frozen=True)
class Result:
    """A finished run: its directory, the plan as measured, and what the samples say.

    `unproven` says which A/A pairs showed nothing, None where all did or the plan has none.
    """

    run_dir: Path
    plan: Plan
    summaries: tuple[WorkloadSummary, ...]
    curves: tuple[CurveSet, ...]
    outcome: Outcome
    timing: Timing
    controls: tuple[control.Control, ...] = ()
    unproven: str | None = None

    @property
    def untrusted(self) -> str | None:
        """Why this run is not to be trusted, None when its A/A pairs say nothing against it."""
        return control.untrusted(self.controls)


def run_plan(lab: Lab, plan: Plan, run_dir: Path | None = None, resumable: bool = True) -> Result:
    """Verifies, measures and stores `plan`; with `run_dir` it goes on with that run.

    One that is not `resumable` is a part of something larger, and its processes are its own.

    KeyboardInterrupt passes through after the finished blocks are safe and the manifest says
    that the run was interrupted; IolabError when nothing can be measured, or when another process
    is recording into `run_dir`: then nothing of it is touched.
    """
    with ExitStack() as held:
        if run_dir is not None:
            held.enter_context(recording(run_dir))
        return _measure_plan(lab, plan, run_dir, resumable, held)


def _measure_plan(
    lab: Lab, plan: Plan, run_dir: Path | None, resumable: bool, held: ExitStack
) -> Result:
    """See run_plan. A directory that is made here is locked by `held`."""
    timing = Timing()
    earlier = store.read_samples(run_dir) if run_dir is not None else None
    if earlier is None or not earlier.blocks:
        plan = control.with_control(plan)
    if earlier is not None and earlier.dropped:
        say(earlier.dropped)
    quiet = manifest.quietness()
    _say_host(lab, quiet)
    if plan.role == "file":
        lab.prepare_files(workload.size_bytes for workload in plan.workloads)
    verifications: list[Verification] = []
    with (
        open_conditions(lab, plan) as around,
        Troupe(plan, lab, around, verifier(around, plan, verifications)) as troupe,
    ):
        placed = around.stage(plan.cells[0])
        for note in around.notes():
            say(note)
        plan = with_running_baseline(plan, troupe)
        for note in plan.left_out:
            say(f"left out: {note}")
        _say_verified(verifications)
        plan, capacities = capacity.with_rates(plan, troupe)
        if run_dir is None:
            run_dir = store.create_run_dir(lab.house.results, plan.name, datetime.now())
            held.enter_context(recording(run_dir))
        document = _manifest(lab, plan, verifications, quiet, run_dir) | around.facts()
        if capacities:
            document["capacities"] = [asdict(found) for found in capacities]
        _save(run_dir, document, timing, None, "running")
        say(f"run: {run_dir}")
        retired = _unverified(plan, verifications)
        if earlier is not None:
            retired |= retired_before(earlier.samples)
        with Runner(plan, troupe, retired, observer=KernelStat()) as runner:
            try:
                outcome = _measure(runner, plan, run_dir, earlier)
            except BaseException as error:
                _save(run_dir, document, timing, None, f"interrupted: {type(error).__name__}")
                if resumable:
                    again = f"./iolab run --resume {run_dir.name}"
                    say(f"finished blocks are kept; go on with: {again}")
                raise
        before_ns = sum(sample.wall_ns for sample in earlier.samples) if earlier else 0
        timing.in_slices_s = outcome.slice_wall_s - before_ns / 1e9
        samples = store.read_samples(run_dir).samples
        summaries = stats.summarise(plan, samples)
        controls = control.read(plan, samples)
        document["untrusted"] = control.untrusted(controls)
        if plan.syscall_check:
            with syscallcheck.mounted_tracefs(lab.executor):
                _syscalls(placed, plan, troupe, summaries, run_dir, document)
            futexes = syscallcheck.futexes_per_sleep(store.read_syscalls(run_dir))
            summaries = stats.summarise(plan, samples, futexes)
        if plan.wrk_check:
            _wrk(placed, plan, troupe, summaries, run_dir, document, timing)
    _save(run_dir, document, timing, outcome, outcome.stop_reason)
    curves = curve.curve_sets(plan, stats.counted_samples(plan, samples), summaries)
    unproven = control.lacking(plan, samples) if control.pairs(plan) else None
    return Result(
        run_dir, plan, tuple(summaries), curves, outcome, timing, tuple(controls), unproven
    )


def finish_timing(result: Result) -> None:
    """Stores the times once more, when the report is written: the total then includes it."""
    document = store.read_manifest(result.run_dir)
    document["timing"] = result.timing.to_json()
    store.write_json(result.run_dir / store.MANIFEST, document)


def resume_plan(run_dir: Path) -> Plan:
    """The plan of a run that is to go on; StoreError or InputError when its manifest is unfit."""
    path = run_dir / store.MANIFEST
    document = store.read_manifest(run_dir)
    if not isinstance(document.get("plan"), dict):
        raise store.StoreError(f"{path}: no plan in it")
    plan = plan_from_json(document["plan"], str(path))
    if plan.testbed not in {condition.testbed for condition in plan.conditions}:
        raise store.StoreError(
            f"{path}: stored before cells had a testbed of their own ({plan.testbed}), and cannot "
            "go on",
            f"./iolab run {plan.name} begins anew",
        )
    return plan


def given_profiles(run_dir: Path) -> dict[str, Loaded]:
    """The profiles of a run that are none of the tree's, for it to go on with.

    StoreError when its manifest does not hold them as it should.
    """
    stored = store.read_manifest(run_dir).get("given_profiles") or {}
    try:
        return {name: Loaded.model_validate(document) for name, document in stored.items()}
    except (ValueError, AttributeError) as error:
        raise store.StoreError(f"{run_dir / store.MANIFEST}: given_profiles: {error}") from error


def retired_before(samples: tuple[Sample, ...]) -> dict[str, Retired]:
    """The cells that stored slices have already disqualified."""
    return {
        sample.cell: Retired(sample.status, sample.reason or "")
        for sample in samples
        if sample.status is not Status.OK
    }


def verifier(around: Conditions, plan: Plan, results: list[Verification]) -> Check:
    """Checks every server under every condition under which it runs, byte for byte.

    One instance of each: in the roles where cells have servers of their own, the first. What it
    finds is added to `results`.
    """
    done: set[str] = set()

    def check(cell: Cell, running: RunningServer) -> None:
        label = plan.label(cell)
        if label in done:
            return
        done.add(label)
        result = _verify_one(around.stage(cell), plan.role, cell.server, running, label)
        if result is not None:
            results.append(result)

    return check


def _say_verified(results: Sequence[Verification]) -> None:
    for result in results:
        if not result.ok:
            say(f"verification failed: {result.server}: {'; '.join(result.failures)}")
    good = sum(result.ok for result in results)
    say(f"verified byte for byte: {good} of {len(results)} servers")


def _verify_one(
    lab: Lab, role: Role, server: Server, running: RunningServer, label: str
) -> Verification | None:
    """What checking one running server found; None when there is nothing to check it by."""
    if server.kind == "technique":
        return lab.check_copies(server.argument)
    engine = lab.engine(server)
    if engine is not None and not engine.plays(role):
        return None
    if role != "file":
        return lab.check_pairs(label, running, role)
    with lab.testbed.at_client():
        return verify_server(label, running.host, running.port, lab.files)


def _unverified(plan: Plan, verifications: list[Verification]) -> dict[str, Retired]:
    """The cells of servers that sent wrong bytes."""
    wrong = {result.server: result.failures[0] for result in verifications if not result.ok}
    alone = plan.baseline_build is None and plan.baseline_profile is None
    if plan.baseline in wrong and alone:
        raise IolabError(f"the baseline {plan.baseline} sent wrong bytes: {wrong[plan.baseline]}")
    return {
        cell.id: Retired(Status.INVALID, f"verification: {wrong[plan.label(cell)]}")
        for cell in plan.cells
        if plan.label(cell) in wrong
    }


def _measure(
    runner: Runner, plan: Plan, run_dir: Path, earlier: store.StoredSamples | None
) -> Outcome:
    """The blocks, with progress; a resumed run has the rest of its budget."""
    first, spent_s = 0, 0.0
    if earlier is not None:
        first = earlier.next_block
        spent_s = sum(int(block.get("wall_ns", 0)) for block in earlier.blocks) / 1e9
        runner.samples += earlier.samples
    with store.SampleWriter(run_dir) as writer, measuring(plan.name) as progress:
        runner.progress = progress
        return runner.measure(writer, first, spent_s)


def _syscalls(
    lab: Lab,
    plan: Plan,
    troupe: Troupe,
    summaries: list[WorkloadSummary],
    run_dir: Path,
    document: dict[str, Any],
) -> None:
    """The pass that counts system calls, or the reason it is left out."""
    reason = syscallcheck.why_not(lab.executor)
    if reason is not None:
        _leave_out(document, "system call check", reason)
        return
    say("counting system calls")
    ok = {cell.cell for found in summaries for cell in found.cells if cell.status is Status.OK}
    cells = [cell for cell in plan.cells if cell.id in ok and not cell.workload.open_loop]
    syscallcheck.check_syscalls(
        lab.executor, lab, plan, troupe.servers, cells, run_dir, KernelStat()
    )


def _wrk(
    lab: Lab,
    plan: Plan,
    troupe: Troupe,
    summaries: list[WorkloadSummary],
    run_dir: Path,
    document: dict[str, Any],
    timing: Timing,
) -> None:
    """The wrk check, or the reason it is left out."""
    reason = wrkcheck.why_not(lab)
    if reason is not None:
        _leave_out(document, "wrk check", reason)
        return
    say("checking with wrk")
    timing.in_wrk_s = wrkcheck.check_with_wrk(lab, plan, troupe.servers, summaries, run_dir)


def _leave_out(document: dict[str, Any], what: str, reason: str) -> None:
    """Says that a pass is left out and why, here and in the manifest."""
    note = f"{what}: {reason}"
    say(f"left out: {note}")
    document["left_out"] = [*document["left_out"], note]


def _manifest(
    lab: Lab,
    plan: Plan,
    verifications: list[Verification],
    quiet: dict[str, Any],
    run_dir: Path,
) -> dict[str, Any]:
    """The manifest of a run that begins, or goes on; what changed around it is said."""
    path = run_dir / store.MANIFEST
    stored = store.read_manifest(run_dir) if path.exists() else None
    fresh = {
        "schema_version": SCHEMA_VERSION,
        "run": run_dir.name,
        "starts": [datetime.now().astimezone().isoformat(timespec="seconds")],
        **circumstances(lab, plan, lab.describe),
        "quietness": quiet,
        "git": manifest.git_facts(lab.executor, lab.house.root),
        "binaries": manifest.binary_facts(lab.house.measuring),
        "builds": {
            name: {**_build_facts(found), **lab.build_facts.get(name, {})}
            for name, found in lab.described_builds.items()
        },
        "given_profiles": {
            name: given.model_dump(mode="json", exclude_unset=True)
            for name, given in lab.given.items()
        },
        "seed": plan.seed,
        "plan": plan_to_json(plan),
        "left_out": list(plan.left_out),
        "describe": lab.describe.model_dump(mode="json"),
        "verification": [asdict(result) for result in verifications],
    }
    document, changes = resumption.continued(stored, fresh)
    for line in resumption.in_words(changes):
        say(line)
    return document


def _build_facts(found: Describe) -> dict[str, str]:
    return {"compiler": found.compiler, "cflags": found.cflags, "build_type": found.build_type}


def circumstances(lab: Lab, plan: Plan, described: Describe) -> dict[str, Any]:
    """The part of a manifest that two runs must share before their ratios are laid side by side.

    `described` is the build whose compiler counts.
    """
    peers: Mapping[str, str | None] = {
        name: peer_version(lab.executor, peer, lab.house.root)
        for name, peer in lab.peers.items()
        if any(server.kind == "peer" and server.name == name for server in plan.servers)
    }
    return {
        "host": manifest.host_facts(executor=lab.executor),
        "cpus": asdict(lab.split),
        "memory_limit": _memory_limit(plan),
        "testbed": plan.testbed,
        **_build_facts(described),
        "tools": manifest.tool_facts(lab.executor, peers),
    }


def _memory_limit(plan: Plan) -> dict[str, Any] | None:
    """What bounds the memory of each server here, and by what means."""
    if plan.memory_limit_bytes is None:
        return None
    trial = Enclosure.make(plan.memory_limit_bytes, account_cpu=False)
    trial.remove()
    return {"bytes": plan.memory_limit_bytes, "by": trial.limited_by}


def _save(
    run_dir: Path, document: dict[str, Any], timing: Timing, outcome: Outcome | None, state: str
) -> None:
    """Writes the manifest with how far the run came."""
    document["state"] = "finished" if outcome is not None else state
    document["timing"] = timing.to_json()
    if outcome is not None:
        document["outcome"] = {
            **asdict(outcome),
            "efficiency": round(outcome.efficiency, 4),
            "overhead": outcome.overhead.to_json(),
        }
    store.write_json(run_dir / store.MANIFEST, document)


def _say_host(lab: Lab, quiet: dict[str, Any]) -> None:
    split = lab.split
    servers = ",".join(map(str, split.server))
    say(f"server on CPU {servers}, client on CPU {split.client}")
    if split.note:
        say(f"note: {split.note}")
    busy = quiet.get("busy")
    if busy is not None and busy > 0.1:
        say(f"note: the host is not quiet: {busy:.0%} of its CPU time is in use already")


def override(
    plan: Plan, seed: int | None, budget_s: float | None, precision: float | None = None
) -> Plan:
    """`plan` with the values that the command line replaces; None leaves the plan's.

    Who asks for a precision or a budget means that, and not the matrix's numbers of blocks: a
    budget ends a run after its first block at the earliest.
    """
    if seed is not None:
        plan = replace(plan, seed=seed)
    if precision is not None:
        plan = replace(plan, precision=precision)
    if precision is not None or budget_s is not None:
        plan = replace(plan, max_blocks=max(plan.max_blocks, _ENDLESS))
    return replace(plan, budget_s=budget_s, min_blocks=1) if budget_s is not None else plan
