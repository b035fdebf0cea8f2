"""Adapter of wrk, the independent second generator: one short run, one JSON document."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from iolab.executor import Executor, ProcessError
from iolab.load.iolab_load import Target
from iolab.model import Workload
from iolab.testbed import Testbed

MARKER = "IOLAB-JSON "


def run_wrk(
    executor: Executor,
    script: Path,
    testbed: Testbed,
    target: Target,
    workload: Workload,
    cpu: int,
    duration_s: int = 1,
) -> dict[str, Any]:
    """What `script` printed about one wrk run with one thread; ProcessError when it failed."""
    url = f"http://{target.host}:{target.port}{workload.path}"
    argv = [
        "wrk", "-t1", f"-c{workload.connections}", f"-d{duration_s}s",
        "--timeout", "5s", "-s", str(script), url,
    ]  # fmt: skip
    done = executor.run(testbed.on_client(argv), timeout_s=duration_s + 30, cpus=[cpu])
    for line in done.stdout.splitlines():
        if line.startswith(MARKER):
            return parse_wrk(line)
    words = (done.stderr or done.stdout).strip()[-400:]
    raise ProcessError(f"wrk: no result (exit code {done.code}): {words}")


def parse_wrk(line: str) -> dict[str, Any]:
    """The document behind the marker; ProcessError when it is none."""
    try:
        document = json.loads(line.removeprefix(MARKER))
    except ValueError as error:
        raise ProcessError(f"wrk: not JSON: {line[:200]!r}") from error
    if not isinstance(document, dict):
        raise ProcessError(f"wrk: not an object: {line[:200]!r}")
    return document
