"""Writes runs that look real, for the report's tests: ten servers, five sizes, noise that wobbles.

The noise has a slow part that all servers of a block share, as on a virtual machine, and a fast
part of each slice, so that pairing matters in these runs as it does in real ones.
"""

from __future__ import annotations

import dataclasses
import math
import random
from pathlib import Path
from typing import Any

from iolab import store
from iolab.matrix import plan_to_json
from iolab.model import Cell, Plan, Sample, Server, Status, Workload, block_order

START_NS = 1_760_000_000_000_000_000
WINDOW_NS = 200_000_000
SUB_BITS = 5

SIZES = (("1KiB", 1 << 10), ("16KiB", 16 << 10), ("128KiB", 128 << 10), ("1MiB", 1 << 20),
         ("16MiB", 16 << 20))  # fmt: skip
BASE_RATE = {"1KiB": 62e3, "16KiB": 41e3, "128KiB": 9800.0, "1MiB": 1500.0, "16MiB": 95.0}
MEMORY = (("cache", "memory"),)

# Server -> true ratio to the baseline for each size.
SPEED: dict[Server, tuple[float, ...]] = {
    Server("peer", "nginx"): (1.0, 1.0, 1.0, 1.0, 1.0),
    Server("engine", "blocking"): (1.2, 1.1, 1.0, 0.97, 0.9),
    Server("engine", "epoll"): (1.35, 1.2, 0.95, 0.8, 0.7),
    Server("engine", "epoll", MEMORY): (1.87, 1.53, 1.0, 0.8, 0.7),
    Server("engine", "sendfile"): (1.3, 1.3, 1.44, 1.1, 0.95),
    Server("engine", "splice"): (1.1, 1.12, 1.3, 1.08, 0.93),
    Server("engine", "mmap"): (1.2, 1.15, 0.9, 0.75, 0.66),
    Server("engine", "msg_zerocopy"): (0.6, 0.65, 0.7, 0.6, 0.5),
    Server("engine", "io_uring"): (1.4, 1.25, 0.93, 0.78, 0.69),
    Server("engine", "io_uring", MEMORY): (1.86, 1.52, 0.98, 0.79, 0.69),
    Server("engine", "null"): (2.1, 1.6, 1.0, 0.8, 0.7),
}
UNSUPPORTED = Server(
    "engine", "io_uring_zc", (), "IORING_OP_SEND_ZC needs Linux 6.0, <b>this</b> kernel has 5.15"
)


def make_plan(nr_servers: int | None = None, nr_sizes: int = 5) -> Plan:
    """The plan of a synthetic run."""
    servers = [*SPEED, UNSUPPORTED][:nr_servers]
    cells = tuple(
        Cell(server, Workload(name, size, 50))
        for name, size in SIZES[:nr_sizes]
        for server in servers
    )
    return Plan(name="synthetic", summary="Ten servers, five sizes.", baseline="nginx", cells=cells,
                min_blocks=8, seed=7, wrk_check=True,
                left_out=("node: not installed <here>",))  # fmt: skip


def bucket_of(value: int) -> int:
    """Index of the log-linear histogram, as the load generator documents it."""
    if value < 2 << SUB_BITS:
        return value
    shift = value.bit_length() - 1 - SUB_BITS
    return (shift << SUB_BITS) + (value >> shift)


def histogram(values: list[int]) -> dict[str, Any]:
    """The `latency` object of a load document."""
    counts: dict[int, int] = {}
    for value in values:
        counts[bucket_of(value)] = counts.get(bucket_of(value), 0) + 1
    return {
        "unit": "ns", "kind": "closed loop, service time", "scheme": "log-linear",
        "sub_bucket_bits": SUB_BITS, "counts": [list(item) for item in sorted(counts.items())],
        "min": min(values), "p50": 0, "p90": 0, "p99": 0, "p999": 0, "max": max(values),
    }  # fmt: skip


def load_document(
    rate: float, size: int, server_busy: float, client_busy: float, rng: random.Random
) -> dict[str, Any]:
    """What iolab-load would say about one slice at `rate` requests per second."""
    body = round(rate * WINDOW_NS / 1e9 * size)
    requests = body // size
    typical = 50e9 / rate
    values = [round(typical * math.exp(rng.gauss(0, 0.35))) for _ in range(60)]
    total = requests + 50
    return {
        "schema_version": 1, "tool": "iolab-load", "connections": 50, "pipeline": 1,
        "closed_loop": True,
        "window": {"start_ns": 1, "ns": WINDOW_NS, "requests": requests,
                   "bytes": body + 200 * requests, "body_bytes": body},
        "total": {"ns": WINDOW_NS, "requests": total, "bytes": total * (size + 200),
                  "body_bytes": total * size, "drain_ns": 1000},
        "errors": dict.fromkeys(
            ("connect", "timeout", "reset", "short", "long", "status", "head", "mismatch"), 0),
        "non_2xx": 0, "reconnects": 0,
        "cpu": {"client_ns": round(client_busy * WINDOW_NS),
                "server_ns": round(server_busy * WINDOW_NS), "client_share": client_busy},
        "idle_ns": round((1 - client_busy) * WINDOW_NS),
        "latency": histogram(values),
        "verified": False,
    }  # fmt: skip


def counters(server: Server, requests: int, size: int) -> dict[str, Any] | None:
    """The server's counter differences over a slice; peers have none."""
    if server.kind == "peer":
        return None
    zero_copy = requests if server.name == "msg_zerocopy" else 0
    return {
        "requests": requests, "body_bytes": requests * size,
        "zc_sends": zero_copy, "zc_notified": zero_copy, "zc_copied": zero_copy,
        "zc_bytes": zero_copy * size, "zc_waived": 0, "zc_inflight_peak_bytes": 3 * size,
        "zc_delay_ns": zero_copy * 25_000, "zc_delay_max_ns": 4_000_000,
        "syscalls": {"recv": requests, "send": requests, "wait": requests // 4, "open": 0},
    }  # fmt: skip


def make_manifest(plan: Plan, run: str, **changes: Any) -> dict[str, Any]:
    """A manifest as the harness writes it."""
    engines = [
        {"name": s.name, "sources": ["constant"] if s.name == "null" else ["memory", "file"]}
        for s in plan.servers
        if s.kind == "engine" and not s.options
    ]
    return {
        "schema_version": 1, "run": run, "starts": ["2026-01-02T10:11:12+00:00"],
        "host": {"hostname": "lab", "os": "Debian GNU/Linux 12 (bookworm)", "kernel": "6.1.0",
                 "cpu": {"model": "Example CPU @ 2.50GHz <tm>", "usable": 2}, "virtual": True,
                 "mitigations": {"spectre_v2": "Mitigation: Retpolines"}, "governor": None,
                 "memory_kib": 8_000_000, "sysctls": {"net.core.somaxconn": "4096"}},
        "quietness": {"seconds": 0.2, "busy": 0.012, "steal": 0.0, "loadavg": [0.1, 0.2, 0.3]},
        "cpus": {"server": [0], "client": 1, "note": None},
        "testbed": "loopback", "compiler": "gcc 12.2.0", "cflags": "-O2",
        "tools": {"iolab": "0.1.0", "nginx": "nginx/1.22.1"},
        "git": {"commit": "0123456789abcdef0123", "dirty": False}, "seed": plan.seed,
        "plan": plan_to_json(plan), "left_out": list(plan.left_out),
        "describe": {"schema_version": 1, "engines": engines},
        "verification": [{"server": s.label, "checks": 20, "failures": [], "digest": "00"}
                         for s in plan.servers if s.unsupported is None],
        "state": "finished", "timing": {"total_s": 200.0, "measuring_share": 0.81},
        "outcome": {"stop_reason": "time budget of 200 s is used up", "blocks": 20,
                    "slices": 1000, "efficiency": 0.9},
        **changes,
    }  # fmt: skip


@dataclasses.dataclass
class Synthetic:
    """A run to write. `invalid` and `failed` name cells that go wrong in block 3 and stop there."""

    plan: Plan = dataclasses.field(default_factory=make_plan)
    nr_blocks: int = 20
    noise: float = 0.03
    invalid: tuple[str, ...] = ("mmap@16MiB",)
    failed: tuple[str, ...] = ("splice@1KiB",)
    client_limited: tuple[str, ...] = ("epoll,cache=memory@1KiB",)
    wrk: bool = True

    def write(self, results: Path, **manifest: Any) -> Path:
        """Writes the run under `results` and returns its directory."""
        run_dir = results / "20260102-101112-synthetic"
        run_dir.mkdir(parents=True)
        document = make_manifest(self.plan, run_dir.name, **manifest)
        store.write_json(run_dir / store.MANIFEST, document)
        rng, shared, now_ns = random.Random(5), 0.0, START_NS
        gone: set[str] = set()
        with store.SampleWriter(run_dir) as writer:
            for block in range(self.nr_blocks):
                shared = 0.8 * shared + rng.gauss(0, 0.08)
                for order, cell in enumerate(block_order(self.plan, block, frozenset(gone)).cells):
                    now_ns += 260_000_000
                    sample = self._sample(block, order, cell, now_ns, shared, rng)
                    if sample.status is not Status.OK:
                        gone.add(cell)
                    writer.append(sample)
                writer.end_block(block, wall_ns=1)
        if self.wrk:
            self._write_wrk(run_dir, rng)
        return run_dir

    def _sample(
        self, block: int, order: int, cell_id: str, now_ns: int, shared: float, rng: random.Random
    ) -> Sample:
        cell = self.plan.cell(cell_id)
        size = cell.workload.size_bytes
        speed = SPEED[cell.server][[name for name, _ in SIZES].index(cell.workload.name)]
        rate = BASE_RATE[cell.workload.name] * speed * math.exp(shared + rng.gauss(0, self.noise))
        limited = cell_id in self.client_limited
        server_busy = 0.7 if limited else 0.97
        client_busy = 0.99 if limited else min(0.85, 0.8 / speed)
        load = load_document(rate, size, server_busy, client_busy, rng)
        status, reason = Status.OK, None
        if block == 3 and cell_id in self.invalid:
            status, reason = Status.INVALID, "requests: client counted 1020, server 1019 & more"
            load["errors"]["short"] = 1
        if block == 3 and cell_id in self.failed:
            status, reason = Status.FAILED, "server ended: <script>alert(1)</script>"
        return Sample(block, order, cell_id, status, reason, now_ns, 240_000_000, load,
                      counters(cell.server, load["total"]["requests"], size))  # fmt: skip

    def _write_wrk(self, run_dir: Path, rng: random.Random) -> None:
        for workload in self.plan.workloads:
            for pair in range(2):
                for server in ("nginx", "sendfile"):
                    found = next(s for s in SPEED if s.label == server)
                    at = [name for name, _ in SIZES].index(workload.name)
                    speed = SPEED[found][at] ** 0.7
                    rate = BASE_RATE[workload.name] * 0.6 * speed * math.exp(rng.gauss(0, 0.01))
                    store.append_jsonl(run_dir / store.WRK, {
                        "schema_version": 1, "cell": f"{server}@{workload.name}",
                        "workload": workload.name, "server": server, "status": "ok",
                        "reason": None, "pair": pair, "requests_per_s": rate,
                    })  # fmt: skip
