"""Short runs of the real programs, one for each kind of line that a run stores."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest

from iolab.campaign import run_plan
from iolab.lab import open_lab
from iolab.paths import find_house

MATRIX = """
schema_version = 1
name = "tiny"
summary = "For tests of what is stored."
[run]
baseline = "BASELINE"
budget_s = 1
min_blocks = 2
max_blocks = 2
slice_ms = 10
warmup_ms = 0
RUN
[servers]
list = ["SERVER"]
[[workload]]
name = "w"
LOAD
"""


@dataclass(frozen=True)
class Kind:
    """What sets a kind of run apart: lines of `[run]`, and of its workload."""

    run: str
    load: str
    server: str = "engine:epoll"
    binary: str = "iolab-load"
    tool: str | None = None
    root: bool = False


SMALL = 'size = "1KiB"\nconnections = 2'
KINDS = {
    "closed": Kind("syscall_check = true", SMALL),
    "wrk": Kind("wrk_check = true", SMALL + '\nadd = ["engine:splice"]', tool="wrk"),
    "open": Kind("", SMALL + "\nrate = 500"),
    "netns": Kind('testbed = "netns"', SMALL, root=True),
    "relay": Kind('role = "relay"', 'size = "64KiB"\npairs = 1'),
    "forward": Kind('role = "forward"', "pairs = 1"),
    "copy": Kind('role = "copy"', 'size = "64KiB"', "technique:read-write", "iolab-copy"),
}


def measure(name: str, place: Path) -> Path:
    """The directory of a run of that kind, made below `place`; skips where it cannot be made."""
    kind, house = KINDS[name], find_house()
    for binary in (house.server_binary, house.build / kind.binary):
        if not os.access(binary, os.X_OK):
            pytest.skip(f"{binary.name} is not built: cmake --build build")
    if kind.root and os.geteuid() != 0:
        pytest.skip("network namespaces need root")
    if kind.tool is not None and shutil.which(kind.tool) is None:
        pytest.skip(f"{kind.tool} is not installed: apt-get install {kind.tool}")
    text = MATRIX.replace("BASELINE", kind.server.partition(":")[2])
    for word, value in (("RUN", kind.run), ("SERVER", kind.server), ("LOAD", kind.load)):
        text = text.replace(word, value)
    matrix = place / "tiny.toml"
    matrix.write_text(text)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("IOLAB_RESULTS", str(place))
        with open_lab() as lab:
            return run_plan(lab, lab.plan(str(matrix))).run_dir
