"""A snapshot as one flat mapping of knobs to values, and what of it may be compared.

Knobs are paths of kernel files (`/proc/sys/net/core/somaxconn`), or `ethtool/IF/GROUP/NAME`,
`tc/IF/root`, `tc/IF/PARENT`, `route/DESTINATION` (`route6` for IPv6), `module/NAME`,
`limit/NAME` for what only a program can tell.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from iolab.trial.recording import Snapshot

_RESTLESS = re.compile(
    r"""
    /proc/sys/fs/(dentry-state|inode-nr|inode-state|file-nr|aio-nr|quota/.*)
    |/proc/sys/fs/(binfmt_misc|mqueue)/.*
    |/proc/sys/kernel/(random/.*|ns_last_pid|pty/nr|tainted|firmware_config/.*|perf_event_max_sample_rate)
    |/proc/sys/kernel/(perf_cpu_time_max_percent|sched_domain/.*|seccomp/.*|bpf_stats_enabled)
    |/proc/sys/net/netfilter/nf_conntrack_count
    |/proc/sys/net/ipv[46]/route/gc_.*|/proc/sys/vm/stat_refresh
    |/proc/irq/.*(effective_affinity(_list)?|affinity_hint)|/proc/irq/.*/spurious
    |/proc/(interrupts|modules|self/.*)
    |/sys/devices/system/node/node\d+/(meminfo|numastat|vmstat)
    |/sys/devices/system/cpu/(vulnerabilities/.*|cpuidle/current_driver|cpufreq/.*cur_freq)
    |/sys/devices/system/cpu/cpu\d+/cpufreq/scaling_cur_freq
    |/sys/kernel/mm/transparent_hugepage/khugepaged/(full_scans|pages_collapsed)
    |/sys/class/net/[^/]+/(carrier.*|operstate|uevent|statistics/.*|ifindex|iflink|address|addr_.*|dev_.*)
    |/sys/class/net/[^/]+/(phys_.*|link_mode|name_assign_type|netdev_group|type|broadcast|testing|dormant)
    |/sys/class/net/[^/]+/queues/[^/]+/(tx_timeout|traffic_class)
    |/sys/class/net/[^/]+/queues/[^/]+/byte_queue_limits/(inflight|limit)
    |/sys/block/[^/]+/queue/(stat|.*_zone.*)
    |/sys/module/[^/]+/parameters/.*(count|seq)
    """,
    re.VERBOSE,
)
"""What the kernel changes by itself, and what describes instead of setting."""

_SECTION = re.compile(r"^(Current hardware settings|Pre-set maximums):")
_INTERRUPT = re.compile(r"^ *(\d+):(?: +\d+)+ +(.*)$")


def comparable(values: Mapping[str, str]) -> dict[str, str]:
    """`values` without what changes by itself."""
    return {knob: value for knob, value in values.items() if not _RESTLESS.fullmatch(knob)}


def flatten(snapshot: Snapshot) -> dict[str, str]:
    """Every value of a snapshot by its knob."""
    values = dict(snapshot.files)
    for command, output in snapshot.outputs.items():
        words = command.split()
        if words[0] == "tc":
            values.update((f"tc/{words[-1]}/{key}", value) for key, value in _tc(output))
        elif words[0] == "ip":
            values.update(_routes("route6" if "-6" in words else "route", output))
        elif "rx-flow-hash" in words:
            fields = "; ".join(line for line in output.splitlines()[1:] if line.strip())
            values[f"ethtool/{words[2]}/flow-hash/{words[-1]}"] = fields
        else:
            found = _ethtool(words[1], output)
            values.update((f"ethtool/{words[2]}/{key}", value) for key, value in found)
    modules = snapshot.files.get("/proc/modules", "").splitlines()
    values.update((f"module/{line.split()[0]}", "loaded") for line in modules if line.strip())
    values.update(_limits(snapshot.files.get("/proc/self/limits", "")))
    return values


def interfaces(values: Mapping[str, str]) -> list[str]:
    """Names of the machine's interfaces."""
    found = (re.fullmatch(r"/sys/class/net/([^/]+)/mtu", knob) for knob in values)
    return sorted(match[1] for match in found if match)


def queues(values: Mapping[str, str], interface: str, direction: str) -> int:
    """How many queues of `direction`, `rx` or `tx`, an interface has."""
    start = f"/sys/class/net/{interface}/queues/{direction}-"
    return len({knob[len(start) :].partition("/")[0] for knob in values if knob.startswith(start)})


def cpus(values: Mapping[str, str], name: str = "possible") -> set[int]:
    """CPUs of the machine: those of /sys/devices/system/cpu/NAME."""
    return cpu_list(values.get(f"/sys/devices/system/cpu/{name}", ""))


def local_cpus(values: Mapping[str, str], interface: str) -> set[int]:
    """CPUs of the NIC's own node; all where it has none.

    `device` of a virtio NIC is the virtio device; the node is said one level above, by PCI.
    """
    start = f"/sys/class/net/{interface}/device"
    node = values.get(f"{start}/numa_node", values.get(f"{start}/../numa_node", "-1"))
    return cpu_list(values.get(f"/sys/devices/system/node/node{node}/cpulist", "")) or cpus(values)


def interrupt_names(snapshot: Snapshot) -> dict[int, str]:
    """The numbered lines of /proc/interrupts: what each interrupt is called."""
    lines = snapshot.files.get("/proc/interrupts", "").splitlines()
    found = (_INTERRUPT.match(line) for line in lines)
    return {int(match[1]): match[2].split()[-1] for match in found if match and match[2].split()}


def cpu_list(text: str) -> set[int]:
    """`0-2,5` as CPUs; empty when it is no such list."""
    cpus: set[int] = set()
    for part in text.strip().split(","):
        first, dash, last = part.partition("-")
        if not first.isdigit() or (dash and not last.isdigit()):
            return set()
        cpus |= set(range(int(first), int(last if dash else first) + 1))
    return cpus


def cpu_mask(text: str) -> set[int]:
    """`3` or `00000000,0000000f` as CPUs; empty when it is no mask, or one of none."""
    bits = _bits(text) or 0
    return {cpu for cpu in range(bits.bit_length()) if bits >> cpu & 1}


def _bits(text: str) -> int | None:
    """A mask as a number, None when it is none."""
    try:
        return int(text.strip().removeprefix("0x").replace(",", ""), 16)
    except ValueError:
        return None


def same(knob: str, wanted: str, found: str) -> bool:
    """True when `found` is what `wanted` asked for: spelling, spaces and zeros do not count."""
    if wanted.split() == found.split():
        return True
    if re.search(r"affinity$|_cpus$|xps_rxqs$", knob):
        masks = [_bits(text) for text in (wanted, found)]
        return None not in masks and masks[0] == masks[1]
    if re.search(r"affinity_list$|cpulist$", knob):
        return cpu_list(wanted) == cpu_list(found) != set()
    if chosen := re.search(r"\[([^]]+)\]", found):  # the chosen one of several, as of THP
        return wanted.strip() == chosen[1]
    if re.match(r"route6?/", knob):
        return set(wanted.split()) <= set(found.split())
    if knob.startswith("tc/"):
        return wanted.split()[:1] == found.split()[:1]
    if knob.startswith("ethtool/") and knob.endswith("/rss/key"):
        return wanted.lower() == found.lower()
    numbers = [_number(text) for text in (wanted, found)]
    return None not in numbers and numbers[0] == numbers[1]


def _number(text: str) -> int | None:
    """A number as sysctl files take it: 0x for hexadecimal, 0 for octal (proc_get_long)."""
    plain = text.strip()
    octal = len(plain) > 1 and plain.isdigit() and plain.startswith("0")
    try:
        return int(plain, 8 if octal else 0)
    except ValueError:
        return None


def _routes(room: str, output: str) -> dict[str, str]:
    """Lines such as `default via 10.0.2.2 dev eth0 metric 100 initcwnd 10`; by destination."""
    routes: dict[str, list[str]] = {}
    for line in output.splitlines():
        words = re.sub(r"\bexpires \d+sec\b", "", line).split()
        if words and not line.startswith((" ", "\t")):  # the hops of a route are indented
            routes.setdefault(f"{room}/{words[0]}", []).append(" ".join(words[1:]))
    return {knob: "; ".join(lines) for knob, lines in routes.items()}


def _tc(output: str) -> Iterator[tuple[str, str]]:
    """Lines such as `qdisc mq 0: root` and `qdisc fq_codel 0: parent :4 limit 10240p ...`."""
    for line in output.splitlines():
        match = re.match(r"qdisc (\S+) \S+ (?:dev \S+ )?(root|parent (\S+))(.*)", line)
        if match:
            options = re.sub(r"\brefcnt \d+", "", match[4]).split()
            yield match[3] or "root", " ".join([match[1], *options])


_GROUPS = {"-l": "channels", "-g": "rings", "-c": "coalesce", "-k": "features"}


def _ethtool(option: str, output: str) -> Iterator[tuple[str, str]]:
    if option == "-x":
        yield from _rss(output)
        return
    section = group = _GROUPS[option]
    for line in output.splitlines()[1:]:
        if found := _SECTION.match(line):
            section = group if found[1].startswith("Current") else f"{group}-maximum"
            continue
        for name, value in _pairs(line):
            yield f"{section}/{name}", value.removesuffix("[fixed]").strip()


def _pairs(line: str) -> Iterator[tuple[str, str]]:
    """`rx-usecs:  3`; a line of coalescing holds two: `Adaptive RX: off  TX: off`."""
    if match := re.match(r"Adaptive RX: (\S+)\s+TX: (\S+)", line):
        yield "adaptive-rx", match[1]
        yield "adaptive-tx", match[2]
        return
    name, colon, value = line.strip().partition(":")
    if colon and value.strip() not in ("", "n/a"):
        yield name.strip().lower().replace(" ", "-"), value.strip()


def _rss(output: str) -> Iterator[tuple[str, str]]:
    table = re.findall(r"^ *\d+: +((?:\d+ *)+)$", output, re.MULTILINE)
    if table:
        yield "rss/indirection", " ".join(" ".join(table).split())
    if key := re.search(r"^((?:[0-9a-f]{2}:)+[0-9a-f]{2})$", output, re.MULTILINE):
        yield "rss/key", key[1]
    if function := re.search(r"^ +(\w+): on$", output, re.MULTILINE):
        yield "rss/function", function[1]


def _limits(text: str) -> Iterator[tuple[str, str]]:
    """Lines of proc_pid_limits(5): name of several words, soft limit, hard limit."""
    names = {"open files": "nofile", "locked memory": "memlock", "processes": "nproc"}
    for label, name in names.items():
        if match := re.search(rf"^Max {label} +(\S+) +(\S+)", text, re.MULTILINE):
            yield f"limit/{name}", f"{match[1]} {match[2]}"
