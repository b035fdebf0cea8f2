"""What surrounds the numbers: the host, how far to trust the run, and what it cannot say.

Facts come from the manifest. A manifest of another version may lack any of them: a missing one is
named as missing where trust rests on it, and left out where it does not.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from iolab import bystanders, control, overhead, stats
from iolab.model import WITHOUT, Plan, Status
from iolab.report import fmt, zerocopy
from iolab.report.run import Run
from iolab.report.view import Fact, ProfileView, WorkloadView

# Above this share of busy CPU time before the run began, the host was not quiet.
_QUIET = 0.05
_FILE_LIMITS = (
    "Each workload asks for one file again and again: it is in the page cache, disks play no part, "
    "and a server's own cache works at its best.",
)
_PAIR_LIMITS = (
    "Senders and receivers of all pairs are one thread of one process, which sends from memory "
    "without a copy and discards most of what it receives: real clients cost more, and their cost "
    "is in the total only as far as this one's.",
    "Peak memory is that of the server's process or processes over the whole run so far; the "
    "kernel's socket buffers are in none of the figures, pipes in their own.",
)
_COPY_LIMITS = (
    "CPU time is that of the copying process with its threads, inside operations. Work that the "
    "kernel does later or elsewhere is not in it: writing dirty pages back, threads of the file "
    "system and of the disk's driver.",
    "A copy that ends in the page cache is not on the disk. Only workloads marked durable wait for "
    "it, and direct ones go past the page cache; compare those with each other.",
    "Cold means that the sources' pages were dropped, which is checked before each operation. What "
    "the disk, its controller or a hypervisor caches is out of our reach.",
)


def dig(document: Mapping[str, Any], *keys: str) -> Any:
    """The value under nested keys, None where one is missing."""
    value: Any = document
    for key in keys:
        if not isinstance(value, Mapping) or key not in value:
            return None
        value = value[key]
    return value


def started(run: Run) -> str:
    """When the run began; a resumed one lists its starts."""
    starts = dig(run.manifest, "starts")
    if not isinstance(starts, list) or not starts:
        return ""
    more = f", resumed {len(starts) - 1} times" if len(starts) > 1 else ""
    return f"{str(starts[0]).replace('T', ' ')}{more}"


def host(manifest: Mapping[str, Any]) -> tuple[Fact, ...]:
    """The host in a line."""
    memory_kib = dig(manifest, "host", "memory_kib")
    cpus = dig(manifest, "cpus", "server")
    usable = dig(manifest, "host", "cpu", "usable")
    found = {
        "CPU": dig(manifest, "host", "cpu", "model"),
        "kernel": dig(manifest, "host", "kernel"),
        "system": dig(manifest, "host", "os"),
        "CPUs": f"{usable}{', virtual machine' if dig(manifest, 'host', 'virtual') else ''}"
        if usable
        else None,
        "server on CPU": ", ".join(map(str, cpus)) if cpus else None,
        "client on CPU": dig(manifest, "cpus", "client"),
        "memory": f"{memory_kib / (1 << 20):.1f} GiB" if memory_kib else None,
        "compiler": dig(manifest, "compiler"),
        "commit": _commit(manifest),
    }
    return tuple(Fact(name, str(value)) for name, value in found.items() if value is not None)


def _commit(manifest: Mapping[str, Any]) -> str | None:
    commit = dig(manifest, "git", "commit")
    if not commit:
        return None
    return f"{str(commit)[:12]}{' (with changes)' if dig(manifest, 'git', 'dirty') else ''}"


def control_servers(manifest: Mapping[str, Any], plan: Plan) -> frozenset[str]:
    """Labels of servers that check the measuring: engines that send a constant, and twins."""
    engines = dig(manifest, "describe", "engines") or []
    constant = {e["name"] for e in engines if "constant" in e.get("sources", ())}
    return frozenset(
        plan.label(cell)
        for cell in plan.cells
        if cell.server.twin or (cell.server.kind == "engine" and cell.server.name in constant)
    )


# --- trust ---------------------------------------------------------------------------------------


def trust(run: Run, workloads: Sequence[WorkloadView], warmup_blocks: int) -> tuple[Fact, ...]:
    """What the reader's trust rests on, the bad news marked."""
    plan = run.plan
    return (
        _blocks(run, warmup_blocks),
        *_ties(workloads),
        _verified(run),
        Fact(
            "Order",
            f"servers interleaved, shuffled anew in every block; seed {plan.seed}",
            good=True,
        ),
        _stopped(run),
        _precision(workloads),
        _coverage(workloads),
        _efficiency(run),
        _overhead(run),
        Fact(
            "Warm-up",
            f"{plan.warmup_ms} ms before each window of {plan.slice_ms} ms; leading blocks in "
            f"which all cells deviate together are dropped ({warmup_blocks} here)",
        ),
        _quietness(run.manifest),
        *_bystanders(run),
        Fact(
            "Many comparisons",
            "ranks differ only where a paired Wilcoxon test says so after Holm's correction over "
            "all pairs of a workload; intervals are those of single cells",
        ),
        *_tree(run.manifest),
    )


def _blocks(run: Run, warmup_blocks: int) -> Fact:
    nr = run.nr_blocks
    text = f"{nr} finished, {nr - warmup_blocks} counted"
    if run.dropped:
        text += "; an unfinished last block was ignored"
    if nr - warmup_blocks < 6:
        text += ". Fewer than 6 cannot give a 95% interval: the intervals are the whole range"
        return Fact("Blocks", text, good=False)
    return Fact("Blocks", text)


def _ties(workloads: Sequence[WorkloadView]) -> tuple[Fact, ...]:
    """Where ties are for want of blocks, and say nothing."""
    found: dict[str, str] = {}
    for w in workloads:
        nr = sum(cell.place in ("ranked", "baseline") for cell in w.cells)
        if (why := stats.blind(w.blocks, nr)) is not None:
            found[w.name] = why
    if not found:
        return ()
    name, why = next(iter(found.items()))
    where = name if len(found) == 1 else f"{name} and {len(found) - 1} others"
    return (Fact("Ties", f"say nothing at {where}: {why}", good=False),)


def _verified(run: Run) -> Fact:
    found = dig(run.manifest, "verification")
    if not isinstance(found, list) or not found:
        return Fact("Bytes verified before timing", "not recorded", good=False)
    wrong = [str(v.get("server")) for v in found if v.get("failures")]
    if wrong:
        text = f"{fmt.listing(wrong)} sent wrong bytes (cells without a number below)"
        return Fact("Bytes verified before timing", text, good=False)
    if run.plan.role == "copy":
        text = f"{len(found)} techniques; the last operation's copies compared after each slice"
        return Fact("Bytes verified before timing", text, good=True)
    counts = "request and byte" if run.plan.role == "file" else "byte"
    text = f"{len(found)} servers, byte for byte; {counts} counts compared after each slice"
    return Fact("Bytes verified before timing", text, good=True)


def _stopped(run: Run) -> Fact:
    reason = dig(run.manifest, "outcome", "stop_reason")
    state = dig(run.manifest, "state")
    if reason:
        return Fact("Stopped because", str(reason))
    return Fact("Stopped because", str(state or "not recorded"), good=False)


def _precision(workloads: Sequence[WorkloadView]) -> Fact:
    """The widest interval of a ranked cell: the least certain number of the report."""
    widths = [
        (math.log(cell.ratio.high / cell.ratio.low) / 2, cell.cell)
        for workload in workloads
        for cell in workload.cells
        if cell.place == "ranked" and cell.ratio is not None and cell.ratio.low > 0
    ]
    if not widths:
        return Fact("Precision", "no ranked cell besides the baseline", good=False)
    middle = sorted(width for width, _ in widths)[len(widths) // 2]
    width, cell = max(widths)
    text = f"half-width of the intervals: typically {fmt.percent(middle, 1)}, "
    return Fact("Precision", text + f"at worst {fmt.percent(width, 1)} ({cell})")


def _coverage(workloads: Sequence[WorkloadView]) -> Fact:
    """How much evidence is left when the resemblance of neighbouring blocks is minded."""
    shares = [
        cell.effective_blocks / cell.blocks
        for workload in workloads
        for cell in workload.cells
        if cell.place == "ranked" and cell.blocks and cell.effective_blocks is not None
    ]
    if not shares:
        return Fact("Autocorrelation", "not assessed")
    middle = sorted(shares)[len(shares) // 2]
    return Fact(
        "Autocorrelation",
        f"blocks are worth {fmt.percent(middle)} of independent ones (median over cells; "
        f"{fmt.percent(min(shares))} at worst); intervals and tests mind it",
    )


def _efficiency(run: Run) -> Fact:
    loads = [s.load for s in run.samples if s.load is not None and s.status is Status.OK]
    window_s = sum(load["window"]["ns"] for load in loads) / 1e9
    parts = [f"{fmt.seconds(window_s)} of timed windows"]
    total_s = dig(run.manifest, "timing", "total_s")
    if total_s:
        share = dig(run.manifest, "timing", "measuring_share")
        parts.append(f"{fmt.percent(share)} of {fmt.seconds(total_s)} spent measuring")
    loop = dig(run.manifest, "outcome", "efficiency")
    if loop:
        parts.append(f"{fmt.percent(loop)} of the measuring loop")
    return Fact("Efficiency", "; ".join(parts))


def _overhead(run: Run) -> Fact:
    """What the harness took for itself; runs of earlier versions did not look."""
    found = overhead.of_run(run.samples, run.manifest)
    if found.inside is None:
        return Fact("The harness itself", "not recorded")
    return Fact("The harness itself", found.text, good=found.met)


def _quietness(manifest: Mapping[str, Any]) -> Fact:
    quiet = dig(manifest, "quietness")
    if not isinstance(quiet, Mapping) or quiet.get("busy") is None:
        return Fact("Quietness of the host", "not recorded", good=False)
    text = f"{fmt.percent(quiet['busy'], 1)} of CPU time in use before the first block"
    if quiet.get("steal") is not None:
        text += f", {fmt.percent(quiet['steal'], 1)} stolen by the hypervisor"
    if quiet.get("loadavg"):
        text += f", load average {quiet['loadavg'][0]:.2f}"
    return Fact("Quietness of the host", text, good=quiet["busy"] <= _QUIET)


def _bystanders(run: Run) -> tuple[Fact, ...]:
    """Servers that worked while others were measured, which costs these their slices."""
    text = bystanders.account(sample for sample in run.samples if sample.order >= 0)
    return (Fact("Other servers idle", text, good=False),) if text else ()


def _tree(manifest: Mapping[str, Any]) -> tuple[Fact, ...]:
    if not dig(manifest, "git", "dirty"):
        return ()
    text = "the tree had changes that are in no commit; this build cannot be had again from it"
    return (Fact("Source", text, good=False),)


def profiles(manifest: Mapping[str, Any]) -> tuple[ProfileView, ...]:
    """The profiles of a run as they were applied; steps of an ablation are in their own table."""
    return tuple(
        ProfileView(
            name=one["profile"],
            testbed=one["testbed"],
            scope=one["scope"],
            taken=sum(knob["outcome"] == "exact" for knob in one["knobs"]),
            not_set=tuple(
                (knob["knob"], knob["reason"] or knob["outcome"])
                for knob in one["knobs"]
                if knob["outcome"] != "exact"
            ),
        )
        for one in dig(manifest, "profiles") or ()
        if WITHOUT not in one["profile"]
    )


# --- controls ------------------------------------------------------------------------------------


def controls(run: Run, workloads: Sequence[WorkloadView]) -> tuple[Fact, ...]:
    """The baseline against itself, and engines that send no file.

    The baseline's twin is its A/A pair. A run of an earlier version has none: there, alternate
    blocks of the baseline are compared as if they were two servers: first against second, fourth
    against third, and so on, so that a steady drift cancels. Nothing differs, so about 19 in 20
    such intervals should hold 1. The pairs stand a block apart, farther than those of the real
    comparisons: the width is an upper bound of the noise left in them.
    """
    facts = [
        Fact(
            f"A/A pair at {found.twin.workload.name}",
            _reading(found, run.plan.threshold),
            good=_sound(found),
        )
        for found in control.read(run.plan, run.samples)
    ]
    if not facts:
        facts = [f for w in workloads if (f := _self_control(run, w.name)) is not None]
    twins = {run.plan.label(cell) for cell in run.plan.cells if cell.server.twin}
    for workload in workloads:
        for cell in workload.cells:
            if cell.server in twins:
                continue
            if cell.place == "control" and cell.ratio is not None:
                text = f"{fmt.ratio(cell.ratio.value)} of the baseline, sending a constant: this "
                text += "measures the skeleton and its client, and ranks nothing"
                facts.append(Fact(f"{cell.server} at {workload.name}", text))
    return tuple(facts)


def _reading(found: control.Control, threshold: float | None) -> str:
    if found.differs:
        return f"{found.text}: differs, as it should not"
    why = found.powerless(control.NOTABLE)
    if why is not None:
        return f"{found.text}: no A/A evidence: {why}"
    if threshold is not None and control.differs(
        found.estimate, found.adjusted_p, found.confidence
    ):
        return f"{found.text}: differs by too little to matter at {threshold:.0%}"
    return f"{found.text}: not told apart, as it should be"


def _sound(found: control.Control) -> bool:
    return not found.differs and found.powerless(control.NOTABLE) is None


def _self_control(run: Run, name: str) -> Fact | None:
    plan = run.plan
    cell = next(
        (c for c in plan.cells if plan.label(c) == plan.reference(c) and c.workload.name == name),
        None,
    )
    if cell is None:
        return None
    skipped = stats.warmup_blocks(run.samples, plan)
    counted = sorted({sample.block for sample in run.samples})[skipped:]
    rates = {
        s.block: stats.unit_rate(s.load, cell.workload.unit_bytes)
        for s in run.samples
        if s.cell == cell.id and s.load is not None and stats.usable(s)
    }
    blocks = [block for block in counted if block in rates]
    pairs = list(zip(blocks[::2], blocks[1::2], strict=False))
    first = {at: rates[pair[at % 2]] for at, pair in enumerate(pairs)}
    second = {at: rates[pair[1 - at % 2]] for at, pair in enumerate(pairs)}
    found = stats.estimate(stats.paired_logs(first, second), plan.seed)
    if found is None or found.blocks < 6:
        return None
    holds = found.low <= 1 <= found.high
    text = f"{fmt.ratio(found.ratio)} [{fmt.interval(found.low, found.high)}], "
    text += f"{found.blocks} pairs: " + ("holds 1, as it should" if holds else "does not hold 1")
    return Fact(f"{plan.baseline} against itself at {name}", text, good=holds)


# --- limits --------------------------------------------------------------------------------------


def limitations(run: Run, workloads: Sequence[WorkloadView]) -> tuple[str, ...]:
    """What this run cannot say, in sentences."""
    plan, cells = run.plan, [cell for workload in workloads for cell in workload.cells]
    out = []
    if plan.role == "copy":
        out += _copy_limits(run)
    elif plan.testbed in zerocopy.LOCAL_TESTBEDS:
        out.append(
            f"Testbed {plan.testbed}: client and server share one machine, its caches and its "
            "memory bandwidth, and no network card takes part. Results need not carry over to a "
            "network."
        )
    out += zerocopy.claims(plan, cells)
    out += {"file": _FILE_LIMITS, "copy": _COPY_LIMITS}.get(plan.role, _PAIR_LIMITS)
    if not any(workload.open_loop for workload in plan.workloads):
        out.append(
            "Closed loop at saturation: no statement about latency at a given request rate, nor "
            "about arrivals in bursts."
        )
    limited = [cell.cell for cell in cells if cell.client_limited]
    if limited:
        out.append(f"Limited by the load generator, hence without a rank: {fmt.listing(limited)}.")
    bases = [c.workload for c in cells if c.place == "baseline" and c.rank is None]
    if bases:
        out.append(
            f"The baseline itself was client-limited at {fmt.listing(bases)}: ratios there may "
            "overstate what is gained over it."
        )
    note = dig(run.manifest, "cpus", "note")
    if note:
        out.append(f"Placement: {note}.")
    left_out = dig(run.manifest, "left_out") or list(plan.left_out)
    out += [f"Left out: {text}." for text in left_out]
    return tuple(out)


def _copy_limits(run: Run) -> list[str]:
    """Where copies were clones, there was no copy."""
    if not any((sample.load or {}).get("may_clone") for sample in run.samples):
        return []
    return [
        "The file system can share blocks between files: copy_file_range may have copied nothing "
        "there, and its ratio then says what a clone costs, not a copy."
    ]
