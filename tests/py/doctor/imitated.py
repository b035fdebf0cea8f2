"""A machine that does not exist: what `doctor` reads of one, in a directory."""

from __future__ import annotations

from pathlib import Path

from iolab.describe import Describe, Engine
from iolab.doctor.machine import CpuTimes, Machine
from iolab.interfaces import Interface

LO = Interface("lo", True, True, None, True, 0)
ETH = Interface("eth0", True, False, "virtio_net", True, 0)
QUIET = (CpuTimes(1000, 500, 5), CpuTimes(1060, 560, 5))


def describe(*reasons: str | None) -> Describe:
    """A server with one engine for each reason; None stands for a usable one."""
    engines = tuple(
        Engine(name=f"e{number}", usable=reason is None, reason=reason)
        for number, reason in enumerate(reasons)
    )
    return Describe(schema_version=1, engines=engines)


def put(machine: Machine, path: str, text: str) -> Path:
    """Writes a file of the imitated machine."""
    file = machine.root / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text + "\n", encoding="utf-8")
    return file
