"""Adapter of the laboratory's own load generator: one process and one set of connections a cell."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from iolab.executor import Executor, Process, ProcessError
from iolab.model import Workload
from iolab.ports import format_address
from iolab.servers import RunningServer
from iolab.testbed import Testbed

_CONNECT_TIMEOUT_S = 20.0
_REQUEST_TIMEOUT_S = 5.0


@dataclass(frozen=True)
class Target:
    """What a session drives: the server's address, and where its CPU time stands.

    `cpu_pids`, `cpu_usage` and `upstream` are as of RunningServer.
    """

    host: str
    port: int
    cpu_pids: tuple[int, ...]
    cpu_usage: Path | None = None
    upstream: tuple[str, int] | None = None

    @classmethod
    def of(cls, server: RunningServer) -> Target:
        """A running server as a target."""
        return cls(server.host, server.port, server.cpu_pids, server.cpu_usage, server.upstream)


class IolabLoad:
    """A running `iolab-load --slices`; implements LoadSession."""

    def __init__(self, process: Process, paths: int = 1) -> None:
        """`paths` is how many it may choose from; a slice then names its own."""
        self._process = process
        self._paths = paths

    @classmethod
    def open(
        cls,
        executor: Executor,
        binary: Path,
        testbed: Testbed,
        target: Target,
        workloads: Sequence[Workload],
        cpu: int,
        seed: int,
    ) -> IolabLoad:
        """Connects all connections of `workloads` to `target` and waits until they stand.

        The workloads may differ in size and rate alone. ProcessError with the tool's own words when
        the connections do not stand.
        """
        argv = arguments(binary, target, workloads, cpu, seed)
        process = executor.start(testbed.on_client([*argv, "--slices"]))
        try:
            ready = _document(process.read_line(_CONNECT_TIMEOUT_S))
        except ProcessError:
            process.stop()
            raise
        if not ready.get("ready"):
            process.stop()
            raise ProcessError(f"iolab-load: expected a ready line, got {ready}")
        return cls(process, len({workload.path for workload in workloads}))

    @property
    def pids(self) -> tuple[int, ...]:
        """See LoadSession."""
        return (self._process.pid,)

    def slice(self, workload: Workload, warmup_ms: int, duration_ms: int) -> dict[str, Any]:
        """See LoadSession."""
        path = f" {workload.path}" if self._paths > 1 else ""
        rate = f" rate={workload.rate_per_s:.3f}" if workload.rate_per_s > 0 else ""
        self._process.write_line(f"slice {warmup_ms} {duration_ms}{path}{rate}")
        patience = (warmup_ms + 2 * duration_ms) / 1000 + _REQUEST_TIMEOUT_S * 2 + 5
        return _document(self._process.read_line(patience))

    def close(self) -> None:
        """See LoadSession."""
        with contextlib.suppress(ProcessError):
            self._process.write_line("quit")
        self._process.stop(timeout_s=2.0)


def count_pairs(
    executor: Executor,
    binary: Path,
    testbed: Testbed,
    target: Target,
    workload: Workload,
    check: Sequence[str],
) -> dict[str, Any]:
    """The document of `workload` with the further options `check`, which bound it by a count.

    ProcessError when the tool says nothing of use.
    """
    argv = arguments(binary, target, [workload], None, 1)
    done = executor.run(testbed.on_client([*argv, *check]), timeout_s=60)
    if done.code != 0:
        raise ProcessError(f"iolab-load: exit code {done.code}: {done.stderr.strip()[-400:]}")
    return _document(done.stdout.strip())


def arguments(
    binary: Path, target: Target, workloads: Sequence[Workload], cpu: int | None, seed: int
) -> list[str]:
    """The command line of `workloads` against `target`, without a mode."""
    first = workloads[0]
    argv = [
        str(binary),
        "--target", format_address((target.host, target.port)),
        "--timeout", f"{_REQUEST_TIMEOUT_S:g}",
        "--seed", str(seed),
        *(_pairs(target, first) if first.pairs else _gets(workloads)),
    ]  # fmt: skip
    if cpu is not None:
        argv += ["--cpu", str(cpu)]
    if target.cpu_pids:
        argv += ["--cpu-clock", _list(target.cpu_pids)]
    if target.cpu_usage:
        argv += ["--cpu-usage", str(target.cpu_usage)]
    return argv


def _gets(workloads: Sequence[Workload]) -> list[str]:
    paths = dict.fromkeys(workload.path for workload in workloads)
    return [
        *(word for path in paths for word in ("--path", path)),
        "--connections", str(workloads[0].connections),
        "--pipeline", str(workloads[0].pipeline),
        *(("--arrivals", "constant") if workloads[0].arrivals == "constant" else ()),
    ]  # fmt: skip


def _pairs(target: Target, workload: Workload) -> list[str]:
    """A target with an upstream is a forwarder, one without a relay."""
    argv = ["--pairs", str(workload.pairs)]
    if workload.size_bytes:
        argv += ["--size", str(workload.size_bytes)]
    if target.upstream is None:
        return ["--relay", *argv, *(["--chunked"] if workload.chunked else [])]
    upstream = format_address(target.upstream)
    return ["--forward", "--upstream", upstream, *argv, "--direction", workload.direction]


def _list(numbers: Sequence[int]) -> str:
    return ",".join(str(number) for number in numbers)


def _document(line: str) -> dict[str, Any]:
    """One line of the tool as JSON."""
    try:
        document = json.loads(line)
    except ValueError as error:
        raise ProcessError(f"iolab-load: not JSON: {line[:200]!r}") from error
    if not isinstance(document, dict):
        raise ProcessError(f"iolab-load: not an object: {line[:200]!r}")
    return document
