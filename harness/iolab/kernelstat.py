"""What the kernel counted during a slice: from files below /proc, read right before and after it.

Nothing is read while the slice runs, so reading disturbs no measurement; what is counted spans
warm-up, window and drain, and a few hundred microseconds on either side. A file that cannot be read
leaves its part out. Sources: proc(5); Documentation/accounting/psi.rst;
Documentation/scheduler/sched-stats.rst; net/core/net-procfs.c (softnet_seq_show, dev_seq_show);
include/uapi/linux/snmp.h and net/ipv4/proc.c (names of TCP counters).

TCP counts by network namespace. A window is closed by who receives: what the client's side did is
in `tcp_client` where that is a namespace of its own, and in `tcp` with all else where not. So are
sockets in TIME_WAIT.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from iolab import portuse
from iolab.portuse import Connector
from iolab.servers import counter_delta
from iolab.testbed.netns import inside

# Columns of /proc/stat, in ticks. Guest time is part of user time and left out.
_CPU_COLUMNS = ("user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal")
_SNMP = ("RetransSegs", "InErrs", "EstabResets", "ActiveOpens", "PassiveOpens", "AttemptFails")
_NETSTAT = (
    "TCPTimeouts", "TCPFromZeroWindowAdv", "TCPToZeroWindowAdv", "TCPWantZeroWindowAdv",
    "TCPZeroWindowDrop", "TCPWinProbe", "PruneCalled", "RcvPruned", "OfoPruned", "TCPRcvCollapsed",
    "TCPRcvQDrop", "TCPBacklogDrop", "TCPMemoryPressures", "ListenOverflows", "ListenDrops",
    "DelayedACKs", "TCPOFOQueue", "TCPFastRetrans", "TCPLossProbes", "TW", "TWRecycled",
)  # fmt: skip
_SWITCHES = {"voluntary_ctxt_switches:": "voluntary", "nonvoluntary_ctxt_switches:": "involuntary"}
# Columns of /proc/net/dev behind the name: what was received, then what was sent.
_DEVICE_COLUMNS = {0: "rx_bytes", 1: "rx_packets", 3: "rx_dropped", 8: "tx_bytes", 9: "tx_packets",
                   11: "tx_dropped"}  # fmt: skip
# Two small files a thread: beyond this many, reading would cost more than it tells.
MAX_THREADS = 64


@dataclass(frozen=True)
class Reading:
    """The counters at one time, and figures that say how much there is now (`gauges`)."""

    at_ns: int
    counters: dict[str, Any]
    gauges: dict[str, Any]


class Observer(Protocol):
    """Reads counters of the host and of two groups of processes, as tests may fake it."""

    def read(
        self, server: Sequence[int], client: Sequence[int], resident: int | None = None
    ) -> Reading:
        """The counters now; `server` and `client` are process ids.

        `resident` is a process of the server that is there throughout, for those whose others come
        and go; it says which network namespace is meant where `server` is empty.
        """

    def ports(
        self, kernel: Mapping[str, Any], connectors: Sequence[Connector]
    ) -> dict[str, dict[str, int]]:
        """Local ports that are held now, of the sides that may be short of them.

        `kernel` is the difference of the readings around a slice, the later of which was just now.
        What comes back is stored as its `ports`; see portuse.read.
        """


class KernelStat:
    """The observer of this host. `proc` and `sys` are where tests keep trees of their own."""

    def __init__(
        self,
        proc: Path = Path("/proc"),
        sys: Path = Path("/sys"),
        inside: Callable[[Path], AbstractContextManager[None]] = inside,
    ) -> None:
        """`inside` puts the calling thread into the network namespace of a file."""
        self._proc = proc
        self._inside = inside
        self._link_mbit = link_speeds(sys / "class/net")

    def read(
        self, server: Sequence[int], client: Sequence[int], resident: int | None = None
    ) -> Reading:
        """See Observer."""
        proc = self._proc
        place = self._process([*server, *([] if resident is None else [resident])])
        other = self._process(client)
        counters = {
            "cpus": cpu_times(_text(proc / "stat")),
            "softnet": softnet(_text(proc / "net/softnet_stat")),
            "tcp": tcp(place / "net"),
            "devices": devices(_text(place / "net/dev")),
            "pressure_us": {
                f"{what}_{kind}": nr
                for what in ("cpu", "memory", "io")
                for kind, nr in pressure(_text(proc / "pressure" / what)).items()
            },
            "server": self._threads(server),
            "client": self._threads(client),
        }
        waiting = {"server": time_wait(_text(place / "net/sockstat"))}
        if namespace(other) != namespace(place):
            counters["tcp_client"] = tcp(other / "net")
            waiting["client"] = time_wait(_text(other / "net/sockstat"))
        gauges: dict[str, Any] = {"server_resident_bytes": self._resident(server)}
        gauges["time_wait"] = {side: nr for side, nr in waiting.items() if nr is not None}
        # Names of devices are those of our own namespace: elsewhere they may mean another one.
        if self._link_mbit and namespace(place) == namespace(proc / "self"):
            gauges["link_mbit"] = self._link_mbit
        return Reading(time.monotonic_ns(), counters, gauges)

    def ports(
        self, kernel: Mapping[str, Any], connectors: Sequence[Connector]
    ) -> dict[str, dict[str, int]]:
        """See Observer."""
        places = [(one, self._process(one.pids)) for one in connectors]
        return portuse.read(kernel, places, self._at, self._proc)

    def _at(self, process: Path) -> AbstractContextManager[None]:
        """The calling thread in a process's network namespace; OSError where it may not."""
        if namespace(process) == namespace(self._proc / "self"):
            return contextlib.nullcontext()
        return self._inside(process / "ns/net")

    def _process(self, pids: Sequence[int]) -> Path:
        """The directory of the first of these processes that is there, our own without one."""
        paths = [self._proc / str(pid) for pid in pids]
        return next((path for path in paths if path.is_dir()), self._proc / "self")

    def _threads(self, pids: Iterable[int]) -> dict[str, Any]:
        """Switches and run-queue times of each thread; {} when there are too many to read."""
        found: dict[str, Any] = {}
        for pid in pids:
            tasks = self._proc / str(pid) / "task"
            with contextlib.suppress(OSError):
                paths = list(tasks.iterdir())
                if len(found) + len(paths) > MAX_THREADS:
                    return {}
                found |= {path.name: thread(path) for path in paths}
        return found

    def _resident(self, pids: Iterable[int]) -> int | None:
        """Resident memory of the processes, in bytes (statm, proc(5))."""
        pages = [_text(self._proc / str(pid) / "statm").split() for pid in pids]
        known = [int(words[1]) for words in pages if len(words) > 1]
        return sum(known) * os.sysconf("SC_PAGE_SIZE") if known else None


def difference(before: Reading, after: Reading) -> dict[str, Any]:
    """What was counted between two readings, as a sample stores it."""
    delta = counter_delta(before.counters, after.counters) or {}
    for side in ("server", "client"):
        delta[side] = _sum(delta.get(side, {}).values())
    return {
        "ns": after.at_ns - before.at_ns,
        "tick_ns": 1_000_000_000 // os.sysconf("SC_CLK_TCK"),
        **delta,
        **after.gauges,
        "time_wait": {
            side: {"before": before.gauges.get("time_wait", {}).get(side, 0), "after": nr}
            for side, nr in after.gauges.get("time_wait", {}).items()
        },
    }


def namespace(process: Path) -> str | None:
    """What tells network namespaces apart (namespaces(7)), None where it cannot be read."""
    with contextlib.suppress(OSError):
        return str((process / "ns/net").readlink())
    return None


def tcp(net: Path) -> dict[str, int]:
    """The counters of TCP in the namespace whose files are below `net`."""
    return {
        **named(_text(net / "snmp"), "Tcp:", _SNMP),
        **named(_text(net / "netstat"), "TcpExt:", _NETSTAT),
    }


def time_wait(sockstat: str) -> int | None:
    """Sockets in TIME_WAIT in the namespace, those of IPv6 and in FIN_WAIT2 without an owner, too.

    None where it is not said. See sockstat_seq_show, net/ipv4/proc.c.
    """
    words = next((line.split() for line in sockstat.splitlines() if line.startswith("TCP:")), [])
    found = dict(zip(words[1::2], words[2::2], strict=False))
    return int(found["tw"]) if "tw" in found else None


def devices(text: str) -> dict[str, dict[str, int]]:
    """Bytes, packets and drops of each network device but the loopback device."""
    found = {}
    for line in text.splitlines():
        name, colon, rest = line.partition(":")
        values = rest.split()
        if colon and name.strip() != "lo" and len(values) > max(_DEVICE_COLUMNS):
            found[name.strip()] = {key: int(values[at]) for at, key in _DEVICE_COLUMNS.items()}
    return found


def link_speeds(directory: Path) -> dict[str, int]:
    """Speed of each card's link in Mbit/s.

    A device without hardware behind it has none: veth reports 10 Gbit/s that limit nothing. Neither
    has a card that does not tell (-1, as of virtio).
    """
    found = {}
    with contextlib.suppress(OSError):
        for path in sorted(directory.iterdir()):
            with contextlib.suppress(ValueError):
                if (path / "device").exists() and (speed := int(_text(path / "speed"))) > 0:
                    found[path.name] = speed
    return found


def cpu_times(text: str) -> dict[str, dict[str, int]]:
    """Ticks by CPU number and kind."""
    found = {}
    for line in text.splitlines():
        name, *values = line.split()
        if name.startswith("cpu") and name[3:].isdigit():
            found[name[3:]] = dict(zip(_CPU_COLUMNS, map(int, values), strict=False))
    return found


def softnet(text: str) -> dict[str, dict[str, int]]:
    """Packets that each CPU took from its backlog, dropped, and polls ended for want of budget.

    Columns are hexadecimal; the thirteenth names the CPU (Linux 5.10), before that the line does.
    """
    found = {}
    for number, line in enumerate(text.splitlines()):
        columns = [int(word, 16) for word in line.split()]
        if len(columns) >= 3:
            cpu = columns[12] if len(columns) > 12 else number
            found[str(cpu)] = dict(zip(("processed", "dropped", "squeezed"), columns, strict=False))
    return found


def named(text: str, group: str, keys: Iterable[str]) -> dict[str, int]:
    """The values of `keys` in a pair of lines that begin with `group`: names, then values."""
    lines = [line.split()[1:] for line in text.splitlines() if line.startswith(group)]
    if len(lines) < 2:
        return {}
    table = dict(zip(lines[0], lines[1], strict=False))
    return {key: int(table[key]) for key in keys if key in table}


def pressure(text: str) -> dict[str, int]:
    """Microseconds in which some, and in which all, tasks stood still for want of a resource."""
    found = {}
    for line in text.splitlines():
        kind, *pairs = line.split()
        for pair in pairs:
            key, _, value = pair.partition("=")
            if key == "total":
                found[kind] = int(value)
    return found


def thread(task: Path) -> dict[str, int]:
    """One thread: its context switches, its time on a CPU and waiting for one, in ns."""
    found: dict[str, int] = {}
    status = _text(task / "status")
    # They are the last of some sixty lines.
    for line in status[max(0, status.find("\nvoluntary_ctxt_switches:")) :].splitlines():
        key, _, value = line.partition("\t")
        if key in _SWITCHES:
            found[_SWITCHES[key]] = int(value)
    schedstat = _text(task / "schedstat").split()
    if len(schedstat) >= 2:
        found |= {"run_ns": int(schedstat[0]), "wait_ns": int(schedstat[1])}
    return found


def _sum(threads: Iterable[Mapping[str, int]]) -> dict[str, int]:
    """The threads' figures added up, and their number."""
    total: dict[str, int] = {}
    nr = 0
    for one in threads:
        nr += 1
        for key, value in one.items():
            total[key] = total.get(key, 0) + value
    return {"threads": nr, **total} if nr else {}


def _text(path: Path) -> str:
    """The file's text, empty when it cannot be read."""
    # Without the layers of open(): there are dozens of such files, read between any two slices.
    try:
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return ""
    parts = []
    try:
        while part := os.read(file, 1 << 16):
            parts.append(part)
    except OSError:
        return ""
    finally:
        os.close(file)
    return b"".join(parts).decode(errors="replace")
