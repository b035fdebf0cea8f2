"""Verb `doctor`: what this machine has and lacks for measuring, and what to do about it.

Every check is a pure function of a `Machine`; files, limits and clocks are read behind it, so that
the tests can hand in machines that do not exist.
"""

from __future__ import annotations

import os
import platform
import re
import resource
import shutil
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path

import click
from rich.markup import escape
from rich.table import Table

from iolab.cgroup import cpu_parents
from iolab.console import emit_json, print_table
from iolab.describe import Describe
from iolab.errors import IolabError
from iolab.executor import HostExecutor
from iolab.interfaces import Interface, interfaces
from iolab.paths import House, find_house
from iolab.servers.iolab_server import describe
from iolab.servers.peer import load_peers, peer_version

CAP_IPC_LOCK = 14
"""Bit in /proc/self/status CapEff; who has it is not bound by RLIMIT_MEMLOCK (capability.h)."""

MEMLOCK_BYTES = 8 << 20
"""What zero-copy sends and registered buffers of one server may pin; Debian's default limit."""

NOFILE = 10_500
"""Descriptors for 10,000 connections and the server's own files."""

BUSY_WINDOW_S = 0.3


class Level(StrEnum):
    """How bad a finding is: `fail` means that measuring cannot work or cannot be trusted."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True)
class Finding:
    """One line of the answer. `remedy` is a command or a sentence, empty when nothing is to do."""

    check: str
    level: Level
    found: str
    remedy: str = ""


@dataclass(frozen=True)
class CpuTimes:
    """Sums of /proc/stat over all CPUs, in clock ticks since boot."""

    total: int
    idle: int
    steal: int


@dataclass(frozen=True)
class Peer:
    """A server that others wrote. `lack` says what is missing for it, None when nothing is."""

    name: str
    version: str | None
    lack: str | None
    remedy: str


@dataclass(frozen=True)
class Machine:
    """What the checks look at. `root` is `/` or, in tests, a directory that imitates it."""

    root: Path
    house: House
    kernel: str
    affinity: frozenset[int]
    memlock_bytes: int
    """Soft RLIMIT_MEMLOCK; -1 is unlimited, as for `nofile_hard`."""
    nofile_hard: int
    free_disk_bytes: int
    which: Callable[[str], str | None]
    busy: tuple[CpuTimes, CpuTimes] | None = None
    """Processor times at the two ends of a window; None when /proc/stat says nothing."""
    describe: Describe | None = None
    describe_problem: str = ""
    peers: tuple[Peer, ...] = ()
    interfaces: tuple[Interface, ...] = ()

    def read(self, path: str) -> str | None:
        """The stripped text of a file such as `sys/class/net/lo/mtu`; None when unreadable."""
        try:
            return (self.root / path).read_text(encoding="utf-8", errors="replace").strip()
        except OSError:
            return None


def check_kernel(machine: Machine) -> Finding:
    """openat2 (file lookup) came with 5.6, the io_uring set-up flags used here with 6.1."""
    match = re.match(r"(\d+)\.(\d+)", machine.kernel)
    version = (int(match[1]), int(match[2])) if match else (0, 0)
    if version < (5, 6):
        return Finding("kernel", Level.FAIL, machine.kernel, "openat2 needs Linux 5.6 or later")
    if version < (6, 1):
        remedy = "Linux 6.1 or later runs every engine (Debian 12 has it)"
        return Finding("kernel", Level.WARN, machine.kernel, remedy)
    return Finding("kernel", Level.OK, machine.kernel)


def check_engines(machine: Machine) -> Finding:
    """What the built server says about itself; not built is no failure, a verb will build it."""
    if machine.describe is None:
        remedy = "./iolab setup"
        return Finding("engines", Level.WARN, machine.describe_problem or "not built", remedy)
    engines = machine.describe.engines
    lame = [f"{engine.name}: {engine.reason}" for engine in engines if not engine.usable]
    found = f"{len(engines) - len(lame)} of {len(engines)} usable"
    if not lame:
        return Finding("engines", Level.OK, found)
    level = Level.FAIL if len(lame) == len(engines) else Level.WARN
    return Finding("engines", level, f"{found}; {'; '.join(lame)}", "they will be left out")


def check_io_uring(machine: Machine) -> Finding:
    """The switch of Linux 6.6 (Documentation/admin-guide/sysctl/kernel.rst, io_uring_disabled)."""
    switch = machine.read("proc/sys/kernel/io_uring_disabled")
    remedy = "as root: sysctl kernel.io_uring_disabled=0"
    if switch == "2":
        return Finding("io_uring", Level.WARN, "switched off for everyone", remedy)
    if switch == "1":
        return Finding("io_uring", Level.WARN, "only for root and kernel.io_uring_group", remedy)
    return Finding("io_uring", Level.OK, "not switched off")


def check_tools(machine: Machine) -> Finding:
    """Programs from Debian packages, most of them of another name."""
    packages = {
        "wrk": "wrk", "gnuplot": "gnuplot-nox", "ip": "iproute2", "ethtool": "ethtool",
        "perf": "linux-perf",
    }  # fmt: skip
    missing = [tool for tool in packages if machine.which(tool) is None]
    if not missing:
        return Finding("tools", Level.OK, ", ".join(packages))
    names = " ".join(packages[tool] for tool in missing)
    remedy = f"as root: apt-get install --no-install-recommends {names}"
    return Finding("tools", Level.WARN, f"missing: {', '.join(missing)}", remedy)


def check_peer(peer: Peer) -> Finding:
    """A server of others; without it, the matrices that name it leave its cells out."""
    check = f"peer {peer.name}"
    if peer.lack is not None:
        return Finding(check, Level.WARN, peer.lack, peer.remedy)
    return Finding(check, Level.OK, peer.version or "of unknown version")


def check_zero_copy(interface: Interface) -> Finding:
    """What to expect of zero-copy sends there. Copying is no fault, only to be known."""
    check = f"zero copy {interface.name}"
    if not interface.up:
        return Finding(check, Level.OK, "down")
    if interface.copies is None:
        if interface.scatter_gather is None:
            return Finding(check, Level.OK, "unknown: it does not tell about scatter-gather")
        return Finding(check, Level.OK, "possible: scatter-gather is on, no AF_PACKET socket open")
    found = f"copied: {interface.copies}"
    if interface.loopback or interface.driver == "veth":
        return Finding(check, Level.OK, found)
    remedy = "close what captures packets (ss -0 -p shows it)"
    if interface.scatter_gather is False:
        remedy = f"as root: ethtool -K {interface.name} sg on"
    return Finding(check, Level.WARN, found, remedy)


def check_cpu_accounting(machine: Machine) -> Finding:
    """A peer that forks a process a connection is accounted by a control group."""
    parents = [place for place, _ in cpu_parents(machine.root) if os.access(place, os.W_OK)]
    if parents:
        return Finding("cpu accounting", Level.OK, f"control groups can be made in {parents[0]}")
    found = "no control group can be made: no CPU time of peers that fork (socat)"
    remedy = "run as root, or in: systemd-run --user --scope -p Delegate=yes ./iolab run ..."
    return Finding("cpu accounting", Level.WARN, found, remedy)


def check_cpus(machine: Machine) -> Finding:
    """Server and client need a core each; two hardware threads of one core are no substitute."""
    cpus = machine.affinity
    cores = {
        machine.read(f"sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list") or str(cpu)
        for cpu in cpus
    }
    found = f"{len(cpus)} usable ({_ranges(cpus)}), {len(cores)} cores"
    if len(cpus) < 2:
        remedy = "server and client share it: give this process two CPUs (taskset, cpuset)"
        return Finding("processors", Level.WARN, found, remedy)
    if len(cores) < 2:
        remedy = "hardware threads of one core disturb each other: allow CPUs of two cores"
        return Finding("processors", Level.WARN, found, remedy)
    return Finding("processors", Level.OK, found)


def check_frequency(machine: Machine) -> Finding:
    """A governor other than `performance`, and turbo, let the clock follow load and heat."""
    cpu = "sys/devices/system/cpu"
    governors = {machine.read(f"{cpu}/cpu{n}/cpufreq/scaling_governor") for n in machine.affinity}
    names = sorted(name for name in governors if name)
    if not names:
        return Finding("frequency", Level.OK, "not visible here (a virtual machine's host decides)")
    turbo = machine.read(f"{cpu}/intel_pstate/no_turbo") == "0"
    turbo = turbo or machine.read(f"{cpu}/cpufreq/boost") == "1"
    found = f"governor {', '.join(names)}; turbo {'on' if turbo else 'off'}"
    if names != ["performance"]:
        remedy = f"as root: echo performance | tee /{cpu}/cpu*/cpufreq/scaling_governor"
        return Finding("frequency", Level.WARN, found, remedy)
    if turbo:
        remedy = "the clock follows load and heat: switch turbo off to compare absolute numbers"
        return Finding("frequency", Level.WARN, found, remedy)
    return Finding("frequency", Level.OK, found)


def check_memlock(machine: Machine) -> Finding:
    """Pages under zero-copy sends and registered buffers count against RLIMIT_MEMLOCK."""
    match = re.search(r"^CapEff:\s*([0-9a-f]+)", machine.read("proc/self/status") or "", re.M)
    if match and int(match[1], 16) >> CAP_IPC_LOCK & 1:
        return Finding("locked memory", Level.OK, "unlimited (CAP_IPC_LOCK)")
    limit = machine.memlock_bytes
    found = "unlimited" if limit < 0 else f"{limit >> 10} KiB"
    if 0 <= limit < MEMLOCK_BYTES:
        remedy = f"ulimit -l {MEMLOCK_BYTES >> 10} (memlock in /etc/security/limits.conf)"
        return Finding("locked memory", Level.WARN, found, remedy)
    return Finding("locked memory", Level.OK, found)


def check_nofile(machine: Machine) -> Finding:
    """The hard limit: programs raise their soft limit themselves."""
    limit = machine.nofile_hard
    found = "unlimited" if limit < 0 else f"{limit} at most"
    if 0 <= limit < 256:
        return Finding("open files", Level.FAIL, found, "ulimit -Hn: 256 is the least")
    if 0 <= limit < NOFILE:
        remedy = f"workloads of 10,000 connections need {NOFILE} (nofile in limits.conf)"
        return Finding("open files", Level.WARN, found, remedy)
    return Finding("open files", Level.OK, found)


def check_loopback(machine: Machine) -> Finding:
    """Up (IFF_UP is bit 0 of the flags), and with the MTU results elsewhere were taken with."""
    flags = machine.read("sys/class/net/lo/flags")
    mtu = machine.read("sys/class/net/lo/mtu")
    if flags is None or not int(flags, 16) & 1:
        return Finding("loopback", Level.FAIL, "down", "as root: ip link set lo up")
    if mtu != "65536":
        return Finding("loopback", Level.WARN, f"MTU {mtu}", "as root: ip link set lo mtu 65536")
    return Finding("loopback", Level.OK, f"up, MTU {mtu}")


def check_clocksource(machine: Machine) -> Finding:
    """hpet and acpi_pm are read over a bus, with a system call: a microsecond each time."""
    source = machine.read("sys/devices/system/clocksource/clocksource0/current_clocksource")
    if source in ("hpet", "acpi_pm", "jiffies"):
        remedy = "slow to read: find out why the kernel gave up tsc (dmesg | grep -i tsc)"
        return Finding("clocksource", Level.WARN, source, remedy)
    return Finding("clocksource", Level.OK, source or "not visible")


def check_quiet(machine: Machine) -> Finding:
    """Load average, and what the processors did in a short window with nothing of ours running."""
    load = (machine.read("proc/loadavg") or "0").split()[0]
    found = f"load {load}"
    if machine.busy is None:
        return Finding("quiet", Level.OK, found)
    before, after = machine.busy
    ticks = max(after.total - before.total, 1)
    used = 1 - (after.idle - before.idle) / ticks
    steal = (after.steal - before.steal) / ticks
    found += f"; in {BUSY_WINDOW_S} s: {used:.0%} busy, {steal:.0%} stolen"
    if steal > 0.02:
        return Finding("quiet", Level.WARN, found, "other guests take processor time: wait")
    if used > 0.15 or float(load) > 0.5 * max(len(machine.affinity), 1):
        return Finding("quiet", Level.WARN, found, "something else runs here: see top")
    return Finding("quiet", Level.OK, found)


def check_cgroup(machine: Machine) -> Finding:
    """A CPU quota stops all threads for the rest of each period: rates become sawteeth."""
    for line in (machine.read("proc/self/cgroup") or "").splitlines():
        number, controllers, path = line.split(":", 2)
        quota = _quota_v2(machine, path) if number == "0" else None
        if "cpu" in controllers.split(","):
            quota = _quota_v1(machine, controllers, path)
        if quota is not None:
            found = f"CPU quota of {quota:.2f} CPUs on {path}"
            return Finding("cgroup", Level.WARN, found, "run outside of it, or lift the quota")
    return Finding("cgroup", Level.OK, "no CPU quota")


def _quota_v2(machine: Machine, path: str) -> float | None:
    """The tightest cpu.max from `path` up to the root, in CPUs."""
    tightest: float | None = None
    for group in (Path(path), *Path(path).parents):
        words = (machine.read(f"sys/fs/cgroup{group}/cpu.max") or "max").split()
        if words[0] != "max" and len(words) == 2:
            quota = int(words[0]) / int(words[1])
            tightest = quota if tightest is None else min(tightest, quota)
    return tightest


def _quota_v1(machine: Machine, controllers: str, path: str) -> float | None:
    """CFS quota of the group itself, in CPUs; -1 in the file means none."""
    base = f"sys/fs/cgroup/{controllers}{path.rstrip('/')}"
    quota = int(machine.read(f"{base}/cpu.cfs_quota_us") or -1)
    period = int(machine.read(f"{base}/cpu.cfs_period_us") or 100_000)
    return quota / period if quota > 0 else None


def check_tracefs(machine: Machine) -> Finding:
    """Wanted by passes that count system calls from outside; the servers count their own."""
    if machine.read("sys/kernel/tracing/trace_clock") is not None:
        return Finding("tracefs", Level.OK, "readable")
    remedy = "only for tracing passes, as root: mount -t tracefs tracefs /sys/kernel/tracing"
    return Finding("tracefs", Level.WARN, "not mounted or not readable", remedy)


def check_disk(machine: Machine) -> Finding:
    """Workload files and raw samples."""
    found = f"{machine.free_disk_bytes / (1 << 30):.1f} GiB free for results and workload files"
    if machine.free_disk_bytes < 1 << 30:
        return Finding("disk", Level.WARN, found, "make room: 1 GiB is wanted")
    return Finding("disk", Level.OK, found)


CHECKS: tuple[Callable[[Machine], Finding], ...] = (
    check_kernel,
    check_engines,
    check_io_uring,
    check_tools,
    check_cpus,
    check_frequency,
    check_memlock,
    check_nofile,
    check_loopback,
    check_clocksource,
    check_quiet,
    check_cgroup,
    check_cpu_accounting,
    check_tracefs,
    check_disk,
)


def examine(machine: Machine) -> list[Finding]:
    """All findings: those of `CHECKS` in their order, one for each interface, one for each peer."""
    findings = [check(machine) for check in CHECKS]
    findings += [check_zero_copy(interface) for interface in machine.interfaces]
    return findings + [check_peer(peer) for peer in machine.peers]


def worst(findings: Iterable[Finding]) -> Level:
    """The worst level among the findings; `ok` when there are none."""
    order = list(Level)
    return max((finding.level for finding in findings), key=order.index, default=Level.OK)


def _ranges(cpus: Iterable[int]) -> str:
    """CPU numbers as the kernel writes them: `0-3,8`."""
    runs: list[list[int]] = []
    for cpu in sorted(cpus):
        if runs and runs[-1][1] == cpu - 1:
            runs[-1][1] = cpu
        else:
            runs.append([cpu, cpu])
    return ",".join(str(low) if low == high else f"{low}-{high}" for low, high in runs)


def parse_cpu_times(stat: str | None) -> CpuTimes | None:
    """The sum line of /proc/stat (proc(5): user nice system idle iowait irq softirq steal)."""
    match = re.match(r"cpu +([\d ]+)", stat or "")
    ticks = [int(word) for word in match[1].split()][:8] if match else []
    if len(ticks) < 8:
        return None
    return CpuTimes(total=sum(ticks), idle=ticks[3] + ticks[4], steal=ticks[7])


def _look_at(house: House) -> Machine:
    """This machine, now. Takes `BUSY_WINDOW_S` to see what else runs."""
    root = Path("/")
    before = parse_cpu_times((root / "proc/stat").read_text())
    time.sleep(BUSY_WINDOW_S)
    after = parse_cpu_times((root / "proc/stat").read_text())
    described, problem = _describe(house)
    return Machine(
        root=root,
        house=house,
        kernel=platform.release(),
        affinity=frozenset(os.sched_getaffinity(0)),
        memlock_bytes=resource.getrlimit(resource.RLIMIT_MEMLOCK)[0],
        nofile_hard=resource.getrlimit(resource.RLIMIT_NOFILE)[1],
        free_disk_bytes=shutil.disk_usage(house.root).free,
        which=shutil.which,
        busy=(before, after) if before and after else None,
        describe=described,
        describe_problem=problem,
        peers=_peers(house),
        interfaces=interfaces(root),
    )


def _describe(house: House) -> tuple[Describe | None, str]:
    """The server's own account of its engines, or why there is none."""
    if not os.access(house.server_binary, os.X_OK):
        return None, "not built"
    try:
        with HostExecutor() as executor:
            return describe(executor, house.server_binary), ""
    except IolabError as error:
        return None, error.message


def _peers(house: House) -> tuple[Peer, ...]:
    """The peer files of the tree, and what of them is here."""
    with HostExecutor() as executor:
        return tuple(
            Peer(
                name, peer_version(executor, peer, house.root), peer.lacks(house.root), peer.remedy
            )
            for name, peer in load_peers(house.peers).items()
        )


def _table(findings: Iterable[Finding]) -> Table:
    colours = {Level.OK: "green", Level.WARN: "yellow", Level.FAIL: "red"}
    table = Table(box=None, pad_edge=False)
    for title in ("check", "level", "found", "remedy"):
        table.add_column(title, overflow="fold")
    for finding in findings:
        level = f"[{colours[finding.level]}]{finding.level}[/]"
        table.add_row(finding.check, level, escape(finding.found), escape(finding.remedy))
    return table


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print the findings as JSON.")
def doctor(as_json: bool) -> None:
    """Say what this machine has and lacks for measuring. Changes nothing; exit 1 on a `fail`."""
    findings = examine(_look_at(find_house()))
    level = worst(findings)
    if as_json:
        document = {
            "schema_version": 1,
            "level": level,
            "findings": [asdict(finding) for finding in findings],
        }
        emit_json(document)
    else:
        print_table(_table(findings))
    raise SystemExit(1 if level is Level.FAIL else 0)
