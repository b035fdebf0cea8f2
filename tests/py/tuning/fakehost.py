"""A machine of files: two NUMA nodes of two CPUs, a virtio NIC with four queues.

The files answer as the kernel does: they normalise, clamp, ignore or refuse what is written, and
`ethtool -L` remakes queues and resets their masks and affinities. All state is in files, so that
it outlives a killed process and can be compared byte for byte.
"""

from __future__ import annotations

import errno
import os
import signal
import sys
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path

from faketools import KEY, build_queue, ethtool, load, put, rss_table, save, tc

from iolab.executor import Completed, HostExecutor
from iolab.topology import Topology, parse_topology
from iolab.tuning.cpus import format_list, format_mask
from iolab.tuning.host import Host, Tree
from iolab.tuning.profile import Loaded

PID = 4711
TOPOLOGY = Path(__file__).parents[1] / "topologies/guest.xml"
"""The machine's CPUs, nodes and devices: what hwloc found in the guest, which is alike."""

_PCI = "sys/devices/pci0000:00/0000:00:03.0"
_NIC = f"{_PCI}/virtio2/net/eth0"

WriteProfile = Callable[[str], Loaded]

Rule = Callable[[str, str], str]
"""From the old text and what is written to the new text; raises OSError as the kernel would."""

SYSCTLS = {
    "fs/nr_open": "1048576",
    "kernel/numa_balancing": "1",
    "kernel/random/boot_id": "11111111-2222-3333-4444-555555555555",
    "net/core/busy_poll": "0",
    "net/core/busy_read": "0",
    "net/core/default_qdisc": "pfifo_fast",
    "net/core/netdev_budget": "300",
    "net/core/netdev_budget_usecs": "2000",
    "net/core/netdev_max_backlog": "1000",
    "net/core/rmem_max": "212992",
    "net/core/rps_sock_flow_entries": "0",
    "net/core/somaxconn": "4096",
    "net/core/wmem_max": "212992",
    "net/ipv4/ip_local_port_range": "32768\t60999",
    "net/ipv4/tcp_autocorking": "1",
    "net/ipv4/tcp_congestion_control": "cubic",
    "net/ipv4/tcp_fastopen": "1",
    "net/ipv4/tcp_fin_timeout": "60",
    "net/ipv4/tcp_max_syn_backlog": "512",
    "net/ipv4/tcp_max_tw_buckets": "8192",
    "net/ipv4/tcp_notsent_lowat": "4294967295",
    "net/ipv4/tcp_rmem": "4096\t131072\t6291456",
    "net/ipv4/tcp_slow_start_after_idle": "1",
    "net/ipv4/tcp_tw_reuse": "2",
    "net/ipv4/tcp_wmem": "4096\t16384\t4194304",
}


def build(root: Path) -> None:
    """Makes the machine's files below `root`."""
    for name, value in SYSCTLS.items():
        put(root, f"proc/sys/{name}", value)
    cpus = "sys/devices/system/cpu"
    put(root, f"{cpus}/smt/control", "on")
    put(root, f"{cpus}/cpu0/cpuidle/state0/name", "POLL")
    put(root, f"{cpus}/intel_pstate/no_turbo", "0")
    for cpu in range(4):
        put(root, f"{cpus}/cpufreq/policy{cpu}/scaling_governor", "schedutil")
        put(root, f"{cpus}/cpufreq/policy{cpu}/energy_performance_preference", "balance_power")
    for node in range(2):
        place = f"sys/devices/system/node/node{node}"
        put(root, f"{place}/hugepages/hugepages-2048kB/nr_hugepages", "0")
    put(root, "sys/kernel/mm/transparent_hugepage/enabled", "always [madvise] never")
    defrag = "always defer defer+madvise [madvise] never"
    put(root, "sys/kernel/mm/transparent_hugepage/defrag", defrag)
    (root / "dev").mkdir()
    (root / "dev/cpu_dma_latency").symlink_to("/dev/null")
    _build_nic(root)
    _build_process(root)


def _build_nic(root: Path) -> None:
    (root / "sys/class/net").mkdir(parents=True)
    (root / _NIC).mkdir(parents=True)
    (root / "sys/class/net/eth0").symlink_to(root / _NIC)
    (root / _PCI / "virtio2").mkdir(exist_ok=True)
    (root / _NIC / "device").symlink_to(root / _PCI / "virtio2")
    put(root, f"{_NIC}/ifindex", "2")
    put(root, f"{_NIC}/address", "52:54:00:12:34:56")
    route = "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\n"
    put(
        root,
        "proc/thread-self/net/route",
        f"{route}eth0\t00000000\t0100000A\t0003\t0\t0\t0\t00000000",
    )
    lines = ["           CPU0       CPU1       CPU2       CPU3"]
    names = ["config", *(f"{kind}.{q}" for q in range(4) for kind in ("input", "output"))]
    for number, name in enumerate(names, 40):
        lines.append(f" {number}:  1 2 3 4 PCI-MSIX-0000:00:03.0 {number - 40}-edge virtio2-{name}")
        put(root, f"{_PCI}/msi_irqs/{number}", "msix")
        # Somebody spread them by hand, which must come back.
        put(root, f"proc/irq/{number}/smp_affinity_list", str(number % 4))
        put(root, f"proc/irq/{number}/effective_affinity_list", str(number % 4))
    put(root, "proc/interrupts", "\n".join(lines))
    for queue in range(4):
        build_queue(root, queue)
    put(root, "sys/class/net/eth0/queues/rx-3/rps_cpus", "c")
    put(root, "sys/class/net/eth0/queues/tx-2/xps_cpus", "4")
    save(
        root,
        {
            "channels": 4,
            "rx_ring": 256,
            "tx_ring": 256,
            "coalesce": {
                "adaptive-rx": "off",
                "cqe-mode-rx": "off",
                "rx-usecs": "8",
                "rx-usecs-irq": "0",
                "tx-usecs": "8",
                "sample-interval": "1",
                "pkt-rate-low": "1000",
                "rx-frames-low": "1",
            },
            "features": {
                "tx-tcp-segmentation": "on",
                "tx-tcp-mangleid-segmentation": "off",
                "tx-tcp6-segmentation": "on",
                "tx-tcp-ecn-segmentation": "off [fixed]",
                "gso": "on",
                "gro": "off",
                "lro": "off [fixed]",
            },
            "ntuple": "off",
            "hkey": KEY,
            "indirection": [0, 1, 2, 3] * 4,
            "tcp4": "sd",
            "handle": "0:",
            "root": "mq",
            "leaves": ["pfifo_fast"] * 4,
        },
    )


def _build_process(root: Path) -> None:
    put(root, f"proc/{PID}/comm", "bash")
    put(root, f"proc/{PID}/stat", f"{PID} (ba) sh) S {' '.join(str(n) for n in range(4, 53))}")
    _put_limits(root, {"nofile": "1024 4096", "memlock": "8388608 8388608"})


def _put_limits(root: Path, limits: dict[str, str]) -> None:
    lines = ["Limit                     Soft Limit           Hard Limit           Units"]
    for name, words, unit in (
        ("nofile", "Max open files", "files"),
        ("memlock", "Max locked memory", "bytes"),
    ):
        soft, hard = limits[name].split()
        lines.append(f"{words:<26}{soft:<21}{hard:<21}{unit}")
    put(root, f"proc/{PID}/limits", "\n".join(lines))


def snapshot(root: Path) -> dict[str, bytes]:
    """Every file of the machine with its bytes."""
    return {
        str(path.relative_to(root)): path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_file() and not path.is_symlink()
    }


def in_child(work: Callable[[], object]) -> int:
    """Runs `work` in a forked child, which may be killed; returns its wait status.

    Python 3.12 and later warn of forking beside threads. Those of a numerical library that another
    test has loaded are no danger: the child touches nothing of it.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        pid = os.fork()
    if pid == 0:
        code = 1
        try:
            work()
            code = 0
        finally:
            os._exit(code)
    return os.waitpid(pid, 0)[1]


def was_killed(status: int) -> bool:
    """True for SIGKILL; AssertionError for a child that failed."""
    if os.WIFSIGNALED(status):
        return os.WTERMSIG(status) == signal.SIGKILL
    assert os.WEXITSTATUS(status) == 0, "the child failed; its traceback is above"
    return False


def refuse(number: int) -> Rule:
    """A file that refuses every write."""

    def rule(old: str, new: str) -> str:
        raise OSError(number, os.strerror(number))

    return rule


def clamp(least: int, most: int) -> Rule:
    """A file that clamps without a word."""
    return lambda old, new: str(min(max(int(new), least), most))


def ignore(old: str, new: str) -> str:
    """A file that accepts and forgets."""
    return old


def _choice(old: str, new: str) -> str:
    words = old.replace("[", "").replace("]", "").split()
    if new not in words:
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
    return " ".join(f"[{word}]" if word == new else word for word in words)


def _mask(old: str, new: str) -> str:
    """As %*pb on a kernel with four CPUs."""
    bits = int(new.replace(",", ""), 16)
    if bits >> 4:
        raise OSError(errno.EOVERFLOW, os.strerror(errno.EOVERFLOW))
    return format_mask(cpu for cpu in range(4) if bits >> cpu & 1)


def _cpu_list(old: str, new: str) -> str:
    first, _, last = new.partition("-")
    cpus = range(int(first), int(last or first) + 1)
    if cpus[-1] > 3:
        raise OSError(errno.ERANGE, os.strerror(errno.ERANGE))
    return format_list(cpus)


def _words(old: str, new: str) -> str:
    return "\t".join(new.split())


KERNEL: dict[str, Rule] = {
    "sys/kernel/mm/transparent_hugepage/*": _choice,
    "sys/class/net/*/queues/*/?ps_*cpus": _mask,
    "sys/class/net/*/queues/*/xps_rxqs": _mask,
    "proc/irq/*/smp_affinity_list": _cpu_list,
    "proc/sys/*": _words,
}


@dataclass
class FakeTree(Tree):
    """Files that answer as the kernel's do. `rules` of a test come before those of the kernel."""

    root: Path
    rules: dict[str, Rule]
    changed: Callable[[], None]

    def write(self, where: str, text: str) -> None:
        """See Tree."""
        old = self.read(where)
        rule = next(
            (one for name, one in {**self.rules, **KERNEL}.items() if fnmatchcase(where, name)),
            lambda old, new: new,
        )
        (self.root / where).write_text(f"{rule(old, text)}\n")
        self.changed()


@dataclass
class FakeHost(Host):
    """The machine. `kill_after` changes, the process that makes them dies by SIGKILL."""

    rules: dict[str, Rule] = field(default_factory=dict)
    kill_after: int | None = None
    changes: int = 0
    commands: list[tuple[str, ...]] = field(default_factory=list)

    def _open_tree(self, netns: str) -> Tree:
        tree = super()._open_tree(netns)
        return FakeTree(tree.root, self.rules, self.change)

    def change(self) -> None:
        """Counts, and dies when it is time."""
        self.changes += 1
        if self.changes == self.kill_after:
            os.kill(os.getpid(), signal.SIGKILL)

    def topology(self) -> Topology:
        """See Host."""
        return parse_topology(TOPOLOGY.read_text())

    def has_tool(self, name: str) -> bool:
        """See Host."""
        return True

    def run(self, argv: Sequence[str], netns: str = "") -> Completed:
        """See Host: ethtool and tc of the machine, and the bench's own writer of RSS tables."""
        self.commands.append(tuple(argv))
        tool = {"tc": tc, sys.executable: rss_table}.get(argv[0], ethtool)
        before = load(self.root)
        out = tool(self.root, list(argv[1:]))
        if load(self.root) != before:
            self.change()
        return Completed(tuple(argv), 0, out, "")

    def prlimit(self, pid: int, name: str, soft: int, hard: int) -> None:
        """See Host."""
        assert pid == PID
        lines = (self.root / f"proc/{PID}/limits").read_text().splitlines()[1:]
        values = {"nofile": lines[0].split()[3:5], "memlock": lines[1].split()[3:5]}
        limits = {key: " ".join(pair) for key, pair in values.items()}
        bound = int((self.root / "proc/sys/fs/nr_open").read_text())
        if name == "nofile" and (hard < 0 or hard > bound):
            raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))
        limits[name] = f"{soft} {hard}".replace("-1", "unlimited")
        _put_limits(self.root, limits)
        self.change()


def make(root: Path, state: Path, rules: dict[str, Rule] | None = None) -> FakeHost:
    """A host on the files of `root`."""
    return FakeHost(HostExecutor(), root, state, rules=rules or {})
