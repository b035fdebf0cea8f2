"""The host as it was: what a reader needs to judge a run, or to compare it with another.

Collecting never fails: a fact that cannot be read is None. Paths below /proc and /sys are read
through `root`, so that tests can hand in a tree of their own.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import platform
import shutil
import sys
import time
from collections.abc import Iterable, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from iolab import __version__
from iolab.errors import IolabError
from iolab.executor import Executor, ProcessError
from iolab.nicfacts import asker, nics
from iolab.topology import Topology, this_machine

_SYSCTLS = (
    "kernel.io_uring_disabled", "kernel.numa_balancing", "kernel.perf_event_paranoid",
    "kernel.sched_autogroup_enabled", "net.core.busy_poll", "net.core.busy_read",
    "net.core.default_qdisc", "net.core.netdev_budget", "net.core.netdev_budget_usecs",
    "net.core.netdev_max_backlog",
    "net.core.optmem_max", "net.core.rmem_default", "net.core.rmem_max",
    "net.core.rps_sock_flow_entries", "net.core.somaxconn", "net.core.wmem_default",
    "net.core.wmem_max", "net.ipv4.ip_local_port_range", "net.ipv4.tcp_autocorking",
    "net.ipv4.tcp_congestion_control", "net.ipv4.tcp_fastopen", "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_limit_output_bytes", "net.ipv4.tcp_max_syn_backlog",
    "net.ipv4.tcp_max_tw_buckets", "net.ipv4.tcp_mem", "net.ipv4.tcp_moderate_rcvbuf",
    "net.ipv4.tcp_mtu_probing", "net.ipv4.tcp_notsent_lowat", "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_sack", "net.ipv4.tcp_slow_start_after_idle", "net.ipv4.tcp_timestamps",
    "net.ipv4.tcp_tw_reuse", "net.ipv4.tcp_window_scaling", "net.ipv4.tcp_wmem",
    "vm.nr_hugepages", "vm.overcommit_memory", "vm.swappiness",
)  # fmt: skip
_PACKAGES = ("click", "jinja2", "numpy", "pydantic", "rich", "scipy")
_TOOLS = {"wrk": ("wrk", "-v"), "gnuplot": ("gnuplot", "--version"), "gcc": ("gcc", "--version")}


def host_facts(
    root: Path = Path("/"), topology: Topology | None = None, executor: Executor | None = None
) -> dict[str, Any]:
    """Kernel, CPU, mitigations, governor, NUMA, NICs, sysctls and memory of this host.

    `topology` says which node a NIC belongs to; unless given, hwloc is asked on the real host.
    `executor` runs ethtool: without it, what only that knows is missing.
    """
    if topology is None and root == Path("/"):
        with contextlib.suppress(IolabError):
            topology = this_machine()
    return {
        "hostname": platform.node(),
        "os": _os_release(root),
        "kernel": platform.release(),
        "kernel_version": platform.version(),
        "kernel_cmdline": _read(root, "proc/cmdline"),
        "machine": platform.machine(),
        "cpu": _cpu(root),
        "mitigations": _directory(root, "sys/devices/system/cpu/vulnerabilities"),
        "governor": _governors(root),
        "boost": _boost(root),
        "frequency": _frequency(root),
        "clocksource": _read(
            root, "sys/devices/system/clocksource/clocksource0/current_clocksource"
        ),
        "numa": {
            path.name: _read_path(path / "cpulist")
            for path in sorted((root / "sys/devices/system/node").glob("node[0-9]*"))
        },
        "nic": nics(root, topology, None if executor is None else asker(executor)),
        "sysctls": {name: _read(root, f"proc/sys/{name.replace('.', '/')}") for name in _SYSCTLS},
        "transparent_hugepage": _read(root, "sys/kernel/mm/transparent_hugepage/enabled"),
        "memory_kib": _meminfo(root, "MemTotal"),
        "virtual": "hypervisor" in (_cpuinfo(root).get("flags") or "").split(),
        "privileged": os.geteuid() == 0,
    }


def quietness(root: Path = Path("/"), seconds: float = 0.2) -> dict[str, Any]:
    """How busy the host is without us: shares of all CPUs over a short time, load, memory.

    `busy` is everything but idle and I/O wait; `steal` is time the hypervisor gave to others.
    """
    before = _cpu_times(root)
    time.sleep(seconds)
    after = _cpu_times(root)
    spans = [b - a for a, b in zip(before, after, strict=False)]
    total = sum(spans[:8]) or 1
    idle = sum(spans[3:5])
    loadavg = (_read(root, "proc/loadavg") or "").split()
    return {
        "seconds": seconds,
        "busy": round((total - idle) / total, 4) if spans else None,
        "softirq": round(spans[6] / total, 4) if len(spans) > 6 else None,
        "steal": round(spans[7] / total, 4) if len(spans) > 7 else None,
        "loadavg": [float(value) for value in loadavg[:3]] or None,
        "running": loadavg[3] if len(loadavg) > 3 else None,
        "available_kib": _meminfo(root, "MemAvailable"),
    }


def tool_facts(executor: Executor, extra: Mapping[str, str | None]) -> dict[str, Any]:
    """Versions of the harness, Python, its libraries and the tools it calls."""
    facts: dict[str, Any] = {"iolab": __version__, "python": sys.version.split()[0]}
    for package in _PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            facts[package] = metadata.version(package)
    for name, argv in _TOOLS.items():
        facts[name] = _first_line(executor, argv)
    return {**facts, **extra}


def git_facts(executor: Executor, root: Path) -> dict[str, Any]:
    """Commit of the project's tree and whether files differ from it; None where git cannot say."""
    if shutil.which("git") is None:
        return {"commit": None, "dirty": None}
    commit = _first_line(executor, ("git", "-C", str(root), "rev-parse", "HEAD"))
    try:
        status = executor.run(["git", "-C", str(root), "status", "--porcelain"], timeout_s=20)
    except ProcessError:
        return {"commit": commit, "dirty": None}
    return {"commit": commit, "dirty": bool(status.stdout.strip()) if status.code == 0 else None}


def binary_facts(binaries: Iterable[Path]) -> dict[str, str]:
    """SHA-256 of each of these programs that is built, by its file name.

    A commit does not say what was measured where files differ from it, and two commits may build
    the same program.
    """
    found = {}
    for path in binaries:
        with contextlib.suppress(OSError), path.open("rb") as file:
            found[path.name] = hashlib.file_digest(file, "sha256").hexdigest()
    return found


def _first_line(executor: Executor, argv: tuple[str, ...]) -> str | None:
    """The first line a command prints; wrk prints its version and exits with 1."""
    if shutil.which(argv[0]) is None:
        return None
    try:
        done = executor.run(argv, timeout_s=20)
    except ProcessError:
        return None
    if done.code != 0 and argv[0] != "wrk":
        return None
    lines = (done.stdout or done.stderr).strip().splitlines()
    return lines[0] if lines else None


def _read(root: Path, name: str) -> str | None:
    return _read_path(root / name)


def _read_path(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return None


def _directory(root: Path, name: str) -> dict[str, str | None]:
    """The one-line files of a directory."""
    with contextlib.suppress(OSError):
        return {path.name: _read_path(path) for path in sorted((root / name).iterdir())}
    return {}


def _cpuinfo(root: Path) -> dict[str, str]:
    """The first processor's block of /proc/cpuinfo."""
    text = _read(root, "proc/cpuinfo") or ""
    pairs = (line.partition(":") for line in text.split("\n\n")[0].splitlines())
    return {key.strip(): value.strip() for key, _, value in pairs}


def _cpu(root: Path) -> dict[str, Any]:
    info = _cpuinfo(root)
    return {
        "model": info.get("model name") or info.get("CPU part"),
        "microcode": info.get("microcode"),
        "online": _read(root, "sys/devices/system/cpu/online"),
        "usable": len(os.sched_getaffinity(0)),
        "smt": _read(root, "sys/devices/system/cpu/smt/active"),
        "l3": _read(root, "sys/devices/system/cpu/cpu0/cache/index3/size"),
    }


def _boost(root: Path) -> dict[str, str]:
    """What lets a CPU exceed its nominal frequency, and its energy preference, where it has them.

    Documentation/admin-guide/pm/{cpufreq,intel_pstate}.rst of the kernel.
    """
    cpu = root / "sys/devices/system/cpu"
    places = [cpu / "intel_pstate/no_turbo", cpu / "cpufreq/boost"]
    found = {path.name: _read_path(path) for path in places if path.is_file()}
    preferences = {
        str(_read_path(path))
        for path in cpu.glob("cpu[0-9]*/cpufreq/energy_performance_preference")
    }
    if preferences:
        found["energy_performance_preference"] = ", ".join(sorted(preferences))
    return {name: value for name, value in found.items() if value is not None}


def _frequency(root: Path) -> dict[str, list[str]] | None:
    """The driver that sets frequencies and the limits it was given, in kHz; None without one.

    The distinct values over all CPUs (Documentation/admin-guide/pm/cpufreq.rst of the kernel).
    """
    cpu, found = root / "sys/devices/system/cpu", {}
    for name in ("scaling_driver", "scaling_min_freq", "scaling_max_freq"):
        values = {_read_path(path) for path in cpu.glob(f"cpu[0-9]*/cpufreq/{name}")}
        if values - {None}:
            found[name] = sorted(value for value in values if value)
    return found or None


def _governors(root: Path) -> list[str] | None:
    """The distinct governors in use, None on machines without frequency control."""
    found = {
        _read_path(path)
        for path in (root / "sys/devices/system/cpu").glob("cpu[0-9]*/cpufreq/scaling_governor")
    }
    return sorted(name for name in found if name) or None


def _os_release(root: Path) -> str | None:
    for line in (_read(root, "etc/os-release") or "").splitlines():
        if line.startswith("PRETTY_NAME="):
            return line.partition("=")[2].strip('"')
    return None


def _meminfo(root: Path, key: str) -> int | None:
    for line in (_read(root, "proc/meminfo") or "").splitlines():
        if line.startswith(f"{key}:"):
            return int(line.split()[1])
    return None


def _cpu_times(root: Path) -> list[int]:
    """The first line of /proc/stat: user nice system idle iowait irq softirq steal ..."""
    first = (_read(root, "proc/stat") or "").partition("\n")[0].split()
    return [int(value) for value in first[1:]]
