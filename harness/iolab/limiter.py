"""What held a cell back: a name, and the figures it was judged by. Pure.

A cell is held back by what is used up while nothing else is. The thresholds say "used up" where
a faster server could hardly have shown; they are stated in docs/method.md.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from iolab import portuse
from iolab.portuse import Shortage

CLIENT_LIMITED_SHARE = 0.95
CLIENT_FULL_SHARE = 0.98
SERVER_BUSY_SHARE = 0.9
_SOFTIRQ_SHARE = 0.2
_WAIT_SHARE = 0.1
_STARVED_SHARE = 0.85
_PRESSURE_SHARE = 0.05
_PRUNES_PER_S = 10.0
_NOTABLE_STEAL = 0.02
_LINK_SHARE = 0.9
_SLEEPS_PER_S = 100.0
_FUTEX_SHARE = 1.0

CLIENT_LIMITED = ("client", "both", "client ports")
"""The names under which a faster server would not have shown: such a cell ranks nothing."""

_ZERO_WINDOWS = ("TCPToZeroWindowAdv", "TCPWantZeroWindowAdv")
_PRUNES = ("PruneCalled", "RcvPruned", "OfoPruned", "TCPRcvCollapsed", "TCPMemoryPressures")


@dataclass(frozen=True)
class Limiter:
    """`name` is one of those that `judge` explains."""

    name: str
    evidence: str


@dataclass(frozen=True)
class Pressure:
    """What the kernel counted over slices (kernelstat), as shares of their time and per second.

    Shares are of one CPU; `softirq` and `steal` those of the CPU that had most of it. `*_wait` is
    time that threads were ready to run and did not. `link` is the share of its speed at which the
    busiest card was used in one direction, `server_sleeps_per_s` how often a thread of the server
    gave up its CPU to wait, `server_threads` how many it had at most, `shortages` whose local ports
    were used up. None: not counted.
    """

    softirq: float | None = None
    steal: float | None = None
    server_wait: float | None = None
    client_wait: float | None = None
    memory: float | None = None
    link: float | None = None
    server_threads: int = 0
    server_sleeps_per_s: float | None = None
    server_switches_per_s: float | None = None
    client_switches_per_s: float | None = None
    retransmits_per_s: float | None = None
    zero_windows_per_s: float | None = None
    prunes_per_s: float | None = None
    delayed_acks_per_s: float | None = None
    out_of_order_per_s: float | None = None
    softnet_drops: int = 0
    softnet_squeezes: int = 0
    shortages: tuple[Shortage, ...] = ()


def pressure(slices: Iterable[Mapping[str, Any]]) -> Pressure:
    """The `kernel` objects of samples as one; sums over sums, for ticks are coarse for a slice."""
    found = [one for one in slices if one.get("ns")]
    span_ns = sum(int(one["ns"]) for one in found)
    if not span_ns:
        return Pressure()
    seconds = span_ns / 1e9

    def per_s(group: str, keys: Sequence[str]) -> float | None:
        values = [one[group][key] for one in found for key in keys if key in one.get(group, {})]
        return sum(values) / seconds if values else None

    def both_sides(keys: Sequence[str]) -> float | None:
        found_at = [per_s("tcp", keys), per_s("tcp_client", keys)]
        known = [rate for rate in found_at if rate is not None]
        return sum(known) if known else None

    def switches(side: str) -> float | None:
        return per_s(side, ("voluntary", "involuntary"))

    def share(group: str, key: str, unit_ns: int) -> float | None:
        rate = per_s(group, (key,))
        return None if rate is None else rate * unit_ns / 1e9

    return Pressure(
        softirq=_busiest(found, "softirq", span_ns),
        steal=_busiest(found, "steal", span_ns),
        server_wait=share("server", "wait_ns", 1),
        client_wait=share("client", "wait_ns", 1),
        memory=share("pressure_us", "memory_some", 1000),
        link=_link(found),
        server_threads=max(int(one.get("server", {}).get("threads", 0)) for one in found),
        server_sleeps_per_s=per_s("server", ("voluntary",)),
        server_switches_per_s=switches("server"),
        client_switches_per_s=switches("client"),
        retransmits_per_s=both_sides(("RetransSegs",)),
        zero_windows_per_s=both_sides(_ZERO_WINDOWS),
        prunes_per_s=both_sides(_PRUNES),
        delayed_acks_per_s=both_sides(("DelayedACKs",)),
        out_of_order_per_s=both_sides(("TCPOFOQueue",)),
        softnet_drops=_softnet(found, "dropped"),
        softnet_squeezes=_softnet(found, "squeezed"),
        shortages=portuse.shortages(found),
    )


def _busiest(slices: Sequence[Mapping[str, Any]], kind: str, span_ns: int) -> float | None:
    """The largest share of one CPU that went to `kind`."""
    ticks: dict[str, int] = {}
    for one in slices:
        for cpu, times in one.get("cpus", {}).items():
            ticks[cpu] = ticks.get(cpu, 0) + int(times.get(kind, 0)) * int(one["tick_ns"])
    return max(ticks.values()) / span_ns if ticks else None


def _link(slices: Sequence[Mapping[str, Any]]) -> float | None:
    """How much of its speed the busiest card carried, in the direction that carried more."""
    moved: dict[tuple[str, str], float] = {}
    able: dict[str, float] = {}
    for one in slices:
        for name, mbit in one.get("link_mbit", {}).items():
            able[name] = able.get(name, 0.0) + mbit * 1e6 / 8 * one["ns"] / 1e9
            for way in ("rx_bytes", "tx_bytes"):
                nr = one.get("devices", {}).get(name, {}).get(way, 0)
                moved[name, way] = moved.get((name, way), 0.0) + nr
    return max((nr / able[name] for (name, _), nr in moved.items()), default=None)


def _softnet(slices: Sequence[Mapping[str, Any]], key: str) -> int:
    return sum(int(cpu.get(key, 0)) for one in slices for cpu in one.get("softnet", {}).values())


def judge(
    client_share: float | None,
    server_share: float | None,
    kernel: Pressure | None = None,
    offered: bool = False,
    futexes_per_sleep: float | None = None,
) -> Limiter | None:
    """What set the rate; None when the client's CPU share is not known.

    Where the server's alone is not, as of a peer that forks, only `client` can be said, and None is
    whatever else it was.

    `client ports`, `ports`: the client, or the server, had used up its local ports when half of the
    slices ended (portuse.used_up). That comes first, for who searches for one is busy. `both`: the
    server is busy for 90% of a CPU or more, and the client's one thread for 98%, no less than the
    server: a faster server would hardly have shown. `server`: it is busy for 90% or more otherwise.
    `client`: its thread is busy for more than 95% while the server is not, or it waited for its CPU
    (10% at least), and running or waiting it took 85%, and more than the server did: who is late
    for every answer leaves the server idle, and waits for it in turn. `softirq`: what the server
    left of a CPU went to softirqs (20% at least). `memory`: tasks stood still for memory in 5% of
    the time, or TCP pruned or collapsed queues ten times a second. `run queue`: the server was
    ready to run and did not get the rest of a CPU (10% at least). `nic`: a card carried 90% of what
    its link can. `rate`: an open loop (`offered`) whose rate was achieved, whatever its ports.
    `locks`: none of them, and threads of the server slept for each other: see `_sleeps_for_locks`.
    Else `neither`.

    `futexes_per_sleep` is what the counting pass saw: futex calls of the server for each time that
    one of its threads went to sleep.
    """
    if client_share is None:
        return None
    kernel = kernel or Pressure()
    if server_share is None:
        name = "client" if client_share > CLIENT_LIMITED_SHARE else None
    else:
        name = _name(client_share, server_share, kernel, offered, futexes_per_sleep)
    found = evidence(client_share, server_share, kernel, futexes_per_sleep)
    return None if name is None else Limiter(name, found)


def _name(
    client: float, server: float, kernel: Pressure, offered: bool, futexes: float | None
) -> str:
    softirq, wait = kernel.softirq or 0.0, kernel.server_wait or 0.0
    short = [one.side for one in kernel.shortages if one.mostly and not offered]
    if short:
        return "client ports" if "client" in short else "ports"
    if server >= SERVER_BUSY_SHARE:
        return "both" if client >= max(CLIENT_FULL_SHARE, server) else "server"
    if client > CLIENT_LIMITED_SHARE:
        return "client"
    if offered:
        return "rate"
    if softirq >= _SOFTIRQ_SHARE and server + softirq >= SERVER_BUSY_SHARE:
        return "softirq"
    if (kernel.memory or 0.0) >= _PRESSURE_SHARE or (kernel.prunes_per_s or 0.0) >= _PRUNES_PER_S:
        return "memory"
    if wait >= _WAIT_SHARE and server + wait >= SERVER_BUSY_SHARE:
        return "run queue"
    starved = kernel.client_wait or 0.0
    if starved >= _WAIT_SHARE and client + starved >= max(_STARVED_SHARE, server + wait):
        return "client"
    if (kernel.link or 0.0) >= _LINK_SHARE:
        return "nic"
    return "locks" if _sleeps_for_locks(kernel, futexes) else "neither"


def _sleeps_for_locks(kernel: Pressure, futexes: float | None) -> bool:
    """Whether most sleeps of the server's threads may have been for one another.

    A lock that is free takes no system call; one that is not takes one to sleep and one to wake the
    sleeper (futex(2)). So with as many futex calls as sleeps, half the sleeps were in one. A queue
    between threads sleeps in the same call: from outside it cannot be told from a lock.
    """
    if futexes is None or kernel.server_threads < 2:
        return False
    return (kernel.server_sleeps_per_s or 0.0) >= _SLEEPS_PER_S and futexes >= _FUTEX_SHARE


def evidence(
    client: float, server: float | None, kernel: Pressure, futexes_per_sleep: float | None = None
) -> str:
    """The shares of one CPU, and of the rest what is worth a word."""
    used = "server not known" if server is None else f"server {server:.0%}"
    words = [used, f"client {client:.0%} of a CPU"]
    for name, value, from_value in (
        ("softirq", kernel.softirq, 0.05),
        ("steal", kernel.steal, _NOTABLE_STEAL),
        ("server waiting for a CPU", kernel.server_wait, 0.02),
        ("client waiting for a CPU", kernel.client_wait, 0.02),
        ("standing still for memory", kernel.memory, 0.01),
        ("of its link's speed", kernel.link, 0.1),
    ):
        if value is not None and value >= from_value:
            words.append(f"{name} {value:.0%}")
    for name, rate in (
        ("retransmits", kernel.retransmits_per_s),
        ("zero windows", kernel.zero_windows_per_s),
        ("pruned or collapsed queues", kernel.prunes_per_s),
        ("delayed acknowledgements", kernel.delayed_acks_per_s),
        ("segments out of order", kernel.out_of_order_per_s),
    ):
        if rate is not None and rate >= 0.5:
            words.append(f"{name} {rate:.0f}/s")
    for name, nr in (
        ("softnet drops", kernel.softnet_drops),
        ("softnet squeezes", kernel.softnet_squeezes),
    ):
        if nr:
            words.append(f"{nr} {name}")
    if futexes_per_sleep is not None and futexes_per_sleep >= 0.1:
        words.append(
            f"server asleep {kernel.server_sleeps_per_s or 0:.0f} times a second, "
            f"{futexes_per_sleep:.1f} futex calls each"
        )
    return ", ".join([*words, *map(str, kernel.shortages)])
