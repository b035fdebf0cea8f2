"""Local ports that a side's connections to one address hold, and whether they are used up.

connect(2) takes a port of net.ipv4.ip_local_port_range that no other connection to the same address
and port has (__inet_hash_connect, net/ipv4/inet_hashtables.c). Who closes first keeps the
connection in TIME_WAIT, and with it the port, for 60 s (TCP_TIMEWAIT_LEN, include/net/tcp.h),
unless net.ipv4.tcp_tw_reuse lets a new one to the same place have it after a second
(tcp_twsk_unique, net/ipv4/tcp_ipv4.c); TWRecycled counts that. Ports are tried one by one, since
Linux 4.2 first those that are odd or even as the lowest of the range is. So with half of the range
held every connect() walks over that half, and with all of it held it fails with EADDRNOTAVAIL.

TIME_WAIT alone says nothing: a server that closes first keeps it for connections that it accepted,
on the port where it listens, and those to one address leave the ports to another one free. Hence
the table of connections is counted by where they lead. Reading that takes a while, 1 us or more a
connection, so it is read only behind slices whose counters leave room for a shortage.
"""

from __future__ import annotations

import re
import socket
import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from iolab.ports import local_port_range
from iolab.servers import RunningServer

Side = Literal["server", "client"]
SIDES: tuple[Side, ...] = ("client", "server")

USED_UP_SHARE = 0.98
"""Of the ports of a range, or of those tried first, from which on they count as used up."""

_WALK_SHARE = 0.2
_WALK_NS = 50
_HALF_SHARE, _ALL_SHARE = 0.45, 0.9  # in TIME_WAIT; some are in use besides
_TIME_WAIT = "06"  # enum in include/net/tcp_states.h, as net/ipv4/tcp_ipv4.c prints it
_FEWEST = 100


@dataclass(frozen=True)
class Connector:
    """A side that opens connections: its processes, and the address and port they lead to."""

    side: Side
    pids: tuple[int, ...]
    to: tuple[str, int]


def connectors(server: RunningServer, clients: tuple[int, ...]) -> list[Connector]:
    """The sides that open connections: the clients, and a server with an upstream."""
    found = [Connector("client", clients, (server.host, server.port))]
    if server.upstream is not None:
        resident = () if server.resident_pid is None else (server.resident_pid,)
        found.append(Connector("server", (*server.cpu_pids, *resident), server.upstream))
    return found


def may_be_short(kernel: Mapping[str, Any], load: Mapping[str, Any]) -> bool:
    """Whether connections were made in a slice, or failed: only then can ports be what lacked."""
    errors = load.get("errors")
    failed = isinstance(errors, dict) and any(errors.values())
    return failed or any(opened(kernel, side) for side in SIDES)


@dataclass(frozen=True)
class Shortage:
    """How often a side had used up its local ports when a slice ended.

    `slices` of `of` ended so. The other figures are those of the slice with most ports held: how
    many ports the range has, how many were held, and by how many connections in TIME_WAIT.
    """

    side: Side
    slices: int
    of: int
    ports: int
    held: int
    time_wait: int

    @property
    def mostly(self) -> bool:
        """Whether it was so in half of the slices at least, and thus for a median over them."""
        return 2 * self.slices >= self.of

    def __str__(self) -> str:
        all_held = self.held >= USED_UP_SHARE * self.ports
        what = "local ports" if all_held else "local ports that connect() tries first"
        when = f"in {self.slices} of {self.of} slices" if self.of > 1 else "when the slice ended"
        return (
            f"{what} of the {self.side} used up {when} ({self.held:,} of {self.ports:,} held, "
            f"{self.time_wait:,} of them in TIME_WAIT)"
        )


def shortages(kernels: Iterable[Mapping[str, Any]]) -> tuple[Shortage, ...]:
    """The sides whose ports were used up at the end of some slice; `kernel` objects of samples."""
    slices = list(kernels)
    found = []
    for side in SIDES:
        short = [one["ports"][side] for one in slices if used_up(one, side)]
        if short:
            worst = max(short, key=lambda ports: int(ports["held"]))
            figures = (int(worst[key]) for key in ("range", "held", "time_wait"))
            found.append(Shortage(side, len(short), len(slices), *figures))
    return tuple(found)


def explained(reason: str, kernel: Mapping[str, Any]) -> str:
    """Why a slice is no measurement, and that ports were used up where they were."""
    found = "; ".join(map(str, shortages([kernel])))
    return f"{reason}; {found} (docs/tuning.md, Local ports)" if found else reason


def used_up(kernel: Mapping[str, Any], side: Side) -> bool:
    """Whether ports of a side were so scarce that it shows in the rate of its connections.

    Either next to none was free, or those tried first were all held and walking over them took a
    fifth of a CPU, by 50 ns a port: on Linux 6.18 it was measured to take 65 to 75. In a namespace
    that both sides share the connections of both are counted. Never while most connections took
    over ports that were in TIME_WAIT.
    """
    ports = kernel.get("ports", {}).get(side)
    if ports is None or _reuses(kernel, side):
        return False
    if ports["held"] >= USED_UP_SHARE * ports["range"]:
        return True
    all_first = bool(ports["held_first"] >= USED_UP_SHARE * ports["range"] / 2)
    return all_first and _walks(kernel, side, ports["range"])


def opened(kernel: Mapping[str, Any], side: Side) -> int:
    """Connections that were opened from a side's namespace; those without a port are not in it."""
    return int(_tcp(kernel, side).get("ActiveOpens", 0))


def suspect(kernel: Mapping[str, Any], side: Side, ports: int) -> bool:
    """Whether a side may be short of the `ports` of its range, by the cheap counters alone."""
    counts = kernel.get("time_wait", {})
    held = counts.get(side, counts.get("server", {})).get("after", 0)
    if held < max(_FEWEST, _HALF_SHARE * ports) or _reuses(kernel, side):
        return False
    return bool(held >= _ALL_SHARE * ports) or _walks(kernel, side, ports)


def _walks(kernel: Mapping[str, Any], side: Side, ports: int) -> bool:
    """Whether connect() was long at it if each time it walked over half of so many ports."""
    walked_ns = opened(kernel, side) * ports / 2 * _WALK_NS
    return bool(walked_ns >= _WALK_SHARE * int(kernel["ns"]))


def _reuses(kernel: Mapping[str, Any], side: Side) -> bool:
    """Whether most connections took a port over from one in TIME_WAIT."""
    return 2 * int(_tcp(kernel, side).get("TWRecycled", 0)) > opened(kernel, side)


def _tcp(kernel: Mapping[str, Any], side: Side) -> Mapping[str, Any]:
    """TCP's counters in the namespace of a side."""
    shared: Mapping[str, Any] = kernel.get("tcp", {})
    return kernel.get("tcp_client", shared) if side == "client" else shared


def read(
    kernel: Mapping[str, Any],
    connectors: Sequence[tuple[Connector, Path]],
    inside: Callable[[Path], AbstractContextManager[None]],
    proc: Path = Path("/proc"),
) -> dict[str, dict[str, int]]:
    """How many ports are held, of each side that may be short of them; as a sample stores it.

    Each connector comes with the directory of a process in its namespace; `inside` puts the calling
    thread there. Nothing of a side whose files or namespace cannot be read.
    """
    found = {}
    tables: dict[tuple[Side, str], str | None] = {}
    for one, process in connectors:
        address = in_table(*one.to)
        if address is None or not suspect(kernel, one.side, 0):
            continue
        local = _range_at(process, inside, proc)
        if local is None or not suspect(kernel, one.side, local[1] - local[0] + 1):
            continue
        file, remote = address
        key = (one.side if "tcp_client" in kernel else "server", file)
        if key not in tables:
            tables[key] = _text(process / "net" / file)
        if (table := tables[key]) is not None:
            found[str(one.side)] = held(table, remote, local)
    return found


def _range_at(
    process: Path, inside: Callable[[Path], AbstractContextManager[None]], proc: Path
) -> tuple[int, int] | None:
    """The range of ports in a process's namespace: /proc/sys/net is that of who opens it."""
    try:
        with inside(process):
            return local_port_range(proc)
    except OSError:
        return None


def held(table: str, remote: str, local: tuple[int, int]) -> dict[str, int]:
    """Ports of the range `local`, ends included, that connections to `remote` hold.

    In any state, those in TIME_WAIT counted apart; `held_first` are those that connect() tries
    first. `table` is /proc/net/tcp or tcp6, and `remote` as in there.
    """
    low, high = local
    rows = {
        port: state == _TIME_WAIT
        for word, state in re.findall(rf":([0-9A-F]{{4}}) {remote} ([0-9A-F]{{2}}) ", table)
        if low <= (port := int(word, 16)) <= high
    }
    return {
        "range": high - low + 1,
        "held": len(rows),
        "held_first": sum(port % 2 == low % 2 for port in rows),
        "time_wait": sum(rows.values()),
    }


def _text(path: Path) -> str | None:
    """What a file holds, None where it cannot be read."""
    try:
        return path.read_text()
    except OSError:
        return None


def in_table(host: str, port: int) -> tuple[str, str] | None:
    """The table's file and an address as it stands there; None for a name.

    Words of 32 bits in the host's byte order (get_tcp4_sock, net/ipv4/tcp_ipv4.c).
    """
    for file, family in (("tcp", socket.AF_INET), ("tcp6", socket.AF_INET6)):
        try:
            packed = socket.inet_pton(family, host)
        except OSError:
            continue
        words = struct.unpack(f"={len(packed) // 4}I", packed)
        return file, "".join(f"{word:08X}" for word in words) + f":{port:04X}"
    return None
