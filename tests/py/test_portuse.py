"""Local ports: who holds how many, and when that is a shortage."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from iolab import kernelstat, portuse
from iolab.errors import IolabError
from iolab.kernelstat import KernelStat
from iolab.lab import Lab, open_lab
from iolab.limiter import CLIENT_LIMITED, Limiter, judge, pressure
from iolab.load import LoadSession
from iolab.model import Server, Workload
from iolab.ports import local_port_range
from iolab.portuse import (
    Connector,
    Side,
    held,
    in_table,
    may_be_short,
    read,
    shortages,
    suspect,
    used_up,
)
from iolab.servers import RunningServer
from iolab.testbed.netns import open_netns

UPSTREAM = ("192.0.2.2", 17496)
RANGE = (32768, 32775)
# As Linux 6.18 printed it, but for its last column: the server of a forwarder that was given eight
# local ports. It listens on one of them, and connections to its upstream have the others.
TABLE = """\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 010200C0:8003 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 49518278
   1: 010200C0:8000 020200C0:4458 06 00000000:00000000 03:00001759 00000000     0        0 0
   2: 010200C0:8001 020200C0:4458 06 00000000:00000000 03:0000175A 00000000     0        0 0
   3: 010200C0:8002 020200C0:4458 06 00000000:00000000 03:00001758 00000000     0        0 0
   4: 010200C0:8004 020200C0:4458 06 00000000:00000000 03:00001759 00000000     0        0 0
   5: 010200C0:8005 020200C0:4458 06 00000000:00000000 03:0000175A 00000000     0        0 0
   6: 010200C0:8006 020200C0:4458 06 00000000:00000000 03:00001759 00000000     0        0 0
   7: 010200C0:8007 020200C0:4458 06 00000000:00000000 03:0000175A 00000000     0        0 0
"""
ALL_BUT_ONE = {"range": 8, "held": 7, "held_first": 4, "time_wait": 7}


def row(local: str, remote: str, state: str = "06") -> str:
    """A further line of such a table."""
    return (
        f"   8: {local} {remote} {state} 00000000:00000000 03:00001759 00000000     0        0 0\n"
    )


def count(table: str) -> dict[str, int]:
    """What connections to the upstream hold."""
    file, remote = in_table(*UPSTREAM) or ("", "")
    assert file == "tcp"
    return held(table, remote, RANGE)


def test_a_kernels_table_is_counted() -> None:
    assert count(TABLE) == ALL_BUT_ONE


@pytest.mark.parametrize(
    ("line", "change"),
    [
        (row("010200C0:8003", "020200C0:4459"), {}),  # to another port of the upstream's host
        (row("010200C0:8003", "030200C0:4458"), {}),  # to another host
        (row("010200C0:0400", "020200C0:4458"), {}),  # outside of the range: it was bound
        (row("010200C0:4458", "020200C0:8003"), {}),  # accepted
        (row("030200C0:8000", "020200C0:4458"), {}),  # the same port once more
        (row("010200C0:8003", "020200C0:4458", "01"), {"held": 8}),  # established
        (row("010200C0:8003", "020200C0:4458"), {"held": 8, "time_wait": 8}),
    ],
)
def test_ports_are_counted_by_where_their_connections_lead(
    line: str, change: dict[str, int]
) -> None:
    assert count(TABLE + line) == ALL_BUT_ONE | change


def test_addresses_are_found_as_the_tables_have_them() -> None:
    assert in_table("::1", 8080) == ("tcp6", "00000000000000000000000001000000:1F90")
    assert in_table("127.0.0.1", 8080) == ("tcp", "0100007F:1F90")
    assert in_table("a-name", 8080) is in_table("", 0) is None


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_this_kernels_table_is_read(host: str) -> None:
    local = local_port_range()
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, 0), family=family)
    except OSError as error:
        pytest.skip(f"{host}: {error}")
    with listener:
        address = listener.getsockname()[:2]
        with socket.create_connection(address):
            file, remote = in_table(*address) or ("", "")
            table = Path("/proc/self/net", file).read_text()
    assert local is not None
    found = held(table, remote, local)
    assert (found["held"], found["time_wait"]) == (1, 0)
    assert found["range"] == local[1] - local[0] + 1


# --- when it is a shortage -----------------------------------------------------------------------


def kernel(**ports: int) -> dict[str, Any]:
    """What was read around a slice of a forwarder over a veth pair, half of its ports in TIME_WAIT.

    147 transfers of 64 KiB at 965 us of the server's CPU time each; it had been 47 before.
    """
    counters = {"ActiveOpens": 147, "PassiveOpens": 147, "TWRecycled": 0}
    found = {"range": 28232, "held": 14645, "held_first": 14116, "time_wait": 14645}
    return {
        "ns": 232_000_000,
        "tcp": counters,
        "tcp_client": dict(counters),
        "time_wait": {
            "server": {"before": 14498, "after": 14645},
            "client": {"before": 14498, "after": 14645},
        },
        "ports": {"server": found | ports},
    }


def test_a_walk_over_all_ports_of_one_parity_is_a_shortage() -> None:
    assert used_up(kernel(), "server")
    assert not used_up(kernel(held_first=13000), "server")  # soon one is free
    assert not used_up(kernel(), "client")  # nobody looked at its ports


def test_such_a_walk_counts_by_the_time_it_takes() -> None:
    """Two hundred ports are passed in no time, and so are many by few connections."""
    narrow = kernel(range=400, held=250, held_first=200, time_wait=250)
    assert not used_up(narrow, "server")
    seldom = kernel()
    seldom["tcp"]["ActiveOpens"] = 5
    assert not used_up(seldom, "server")


def test_no_port_at_all_is_a_shortage_however_few_there_are() -> None:
    assert used_up(kernel(range=400, held=395, held_first=198, time_wait=395), "server")
    assert not used_up(kernel(range=400, held=390, held_first=190, time_wait=390), "server")


def test_ports_that_are_taken_over_from_time_wait_are_not_short() -> None:
    """A forwarder over loopback, where the kernel lets new connections have them after a second."""
    reusing = {
        "ns": 239_000_000,
        "tcp": {"ActiveOpens": 6252, "PassiveOpens": 6252, "TWRecycled": 6252},
        "time_wait": {"server": {"before": 29134, "after": 29134}},
    }
    assert not suspect(reusing, "server", 28232)
    assert not suspect(reusing, "client", 28232)
    held_all = {"range": 28232, "held": 28232, "held_first": 14116, "time_wait": 28232}
    assert not used_up(reusing | {"ports": {"server": held_all}}, "server")


def test_a_server_that_waits_on_its_listening_port_is_not_short() -> None:
    """2,019 in TIME_WAIT, with a range of 512, and none of them of a connection that it opened."""
    listening = {
        "ns": 238_000_000,
        "tcp": {"ActiveOpens": 992, "PassiveOpens": 992, "TWRecycled": 0},
        "time_wait": {"server": {"before": 1027, "after": 2019}},
        "ports": {"server": {"range": 512, "held": 0, "held_first": 0, "time_wait": 0}},
    }
    assert suspect(listening, "server", 512)
    assert not used_up(listening, "server")


def test_only_what_connects_or_fails_may_be_short() -> None:
    quiet = kernel()
    quiet["tcp"]["ActiveOpens"] = quiet["tcp_client"]["ActiveOpens"] = 0
    assert not may_be_short(quiet, {"errors": {"connect": 0}})
    assert may_be_short(quiet, {"errors": {"connect": 3}})
    assert may_be_short(kernel(), {"errors": {}})
    assert not may_be_short({}, {})


def test_half_of_the_slices_make_it_the_limit() -> None:
    free = kernel(held=3, held_first=2, time_wait=0)
    (often,) = shortages([kernel(), free, kernel(held=21000, time_wait=20990)] * 2)
    assert (often.side, often.slices, often.of, often.mostly) == ("server", 4, 6, True)
    assert str(often) == (
        "local ports that connect() tries first of the server used up in 4 of 6 slices "
        "(21,000 of 28,232 held, 20,990 of them in TIME_WAIT)"
    )
    (seldom,) = shortages([kernel(held=28232, held_first=14116), free, free])
    assert not seldom.mostly
    assert str(seldom).startswith("local ports of the server used up in 1 of 3 slices (28,232 of")
    assert shortages([free, {}]) == ()


def test_a_slice_that_failed_for_it_says_so() -> None:
    said = portuse.explained("client saw 9 reset", kernel(held=28232, held_first=14116))
    assert said.startswith("client saw 9 reset; local ports of the server used up when the slice")
    assert portuse.explained("client saw 9 reset", {}) == "client saw 9 reset"


# --- what is read, and what is not ---------------------------------------------------------------


def write_net(proc: Path, pid: int, ports: str = "32768\t33767") -> Path:
    """The directory of a process whose namespace has a thousand connections to the upstream."""
    net = proc / str(pid) / "net"
    sysctl = proc / "sys/net/ipv4/ip_local_port_range"
    for place in (net, sysctl.parent):
        place.mkdir(parents=True)
    sysctl.write_text(ports + "\n")
    rows = (row(f"010200C0:{port:04X}", "020200C0:4458") for port in range(32768, 33768))
    (net / "tcp").write_text("".join(rows))
    return net.parent


def test_the_table_is_read_of_who_is_suspect_in_its_namespace(tmp_path: Path) -> None:
    process, entered = write_net(tmp_path, 7), []

    @contextmanager
    def inside(place: Path) -> Iterator[None]:
        entered.append(place)
        yield

    one = Connector("server", (7,), UPSTREAM)
    found = read(kernel(), [(one, process)], inside, tmp_path)
    assert found == {"server": {"range": 1000, "held": 1000, "held_first": 500, "time_wait": 1000}}
    assert entered == [process]
    few = kernel() | {"time_wait": {"server": {"before": 0, "after": 99}}}
    assert read(few, [(one, process)], inside, tmp_path) == {}
    assert entered == [process]  # the counters said enough


def test_too_few_in_time_wait_for_the_range_are_not_looked_up(tmp_path: Path) -> None:
    one = (Connector("server", (7,), UPSTREAM), write_net(tmp_path, 7, "1024\t65535"))
    few, many, idle = kernel(), kernel(), kernel()
    many["time_wait"]["server"]["after"] = idle["time_wait"]["server"]["after"] = 30000
    idle["tcp"]["ActiveOpens"] = 5
    assert read(few, [one], nullcontext, tmp_path) == {}
    assert read(idle, [one], nullcontext, tmp_path) == {}
    assert read(many, [one], nullcontext, tmp_path)["server"]["range"] == 64512


def test_a_table_that_both_sides_share_is_read_once(tmp_path: Path) -> None:
    """As over loopback; in namespaces of their own each has its table."""
    server, client = write_net(tmp_path / "a", 7), write_net(tmp_path / "b", 8)
    both = [
        (Connector("client", (8,), UPSTREAM), client),
        (Connector("server", (7,), UPSTREAM), server),
    ]
    proc = tmp_path / "a"
    (client / "net/tcp").write_text(TABLE)
    apart = read(kernel(), both, nullcontext, proc)
    assert (apart["client"]["held"], apart["server"]["held"]) == (7, 1000)
    shared = kernel()
    del shared["tcp_client"], shared["time_wait"]["client"]
    together = read(shared, both, nullcontext, proc)
    assert (together["client"]["held"], together["server"]["held"]) == (7, 7)


def test_where_nobody_may_enter_nothing_is_said(tmp_path: Path) -> None:
    process = write_net(tmp_path, 7)

    @contextmanager
    def refused(place: Path) -> Iterator[None]:
        raise PermissionError(1, "setns")
        yield

    one = Connector("server", (7,), UPSTREAM)
    assert read(kernel(), [(one, process)], refused, tmp_path) == {}


# --- on real namespaces --------------------------------------------------------------------------

_SLICES = 1000  # each makes a connection or fails to


@pytest.fixture
def lab() -> Iterator[Lab]:
    """This tree's lab on a real pair of namespaces."""
    if os.geteuid() != 0:
        pytest.skip("network namespaces take root")
    with ExitStack() as undo:
        made = undo.enter_context(open_lab())
        for binary in (made.house.server_binary, made.house.load_binary):
            if not os.access(binary, os.X_OK):
                pytest.skip(f"{binary.name} is not built: cmake --build build")
        try:
            bed = undo.enter_context(open_netns(made.executor, 1))
        except IolabError as error:
            pytest.skip(f"no testbed netns here: {error}")
        yield replace(made, testbed=bed)


def slice_of(server: RunningServer, session: LoadSession, workload: Workload) -> dict[str, Any]:
    """What the kernel counted around one slice."""
    observer = KernelStat()

    def look() -> kernelstat.Reading:
        return observer.read(server.cpu_pids, session.pids, server.resident_pid)

    begin = look()
    load = session.slice(workload, 0, 50)
    found = kernelstat.difference(begin, look())
    if may_be_short(found, load):
        found["ports"] = observer.ports(found, portuse.connectors(server, session.pids))
    return found


@contextmanager
def forwarding(lab: Lab, workload: Workload) -> Iterator[Callable[[], dict[str, Any]]]:
    """A forwarder, and what drives a slice of it and returns what the kernel counted."""
    with ExitStack() as undo:
        server = lab.start_server(Server("engine", "epoll"), "forward")
        undo.callback(server.stop)
        session = lab.open_load(server, [workload], 1)
        undo.callback(session.close)
        yield lambda: slice_of(server, session, workload)


def named(found: dict[str, Any]) -> Limiter:
    """The limiter by that slice, of a server that was busy meanwhile."""
    limiter = judge(0.5, 0.95, pressure([found]))
    assert limiter is not None
    return limiter


def narrow(lab: Lab, *sides: Side) -> None:
    """Leaves these sides a range of 512 local ports, in their namespaces."""
    for side in sides:
        with lab.testbed.at_server() if side == "server" else lab.testbed.at_client():
            Path("/proc/sys/net/ipv4/ip_local_port_range").write_text("32768 33279")


@pytest.mark.parametrize(("side", "name"), [("server", "ports"), ("client", "client ports")])
def test_a_narrow_range_is_used_up_and_named(lab: Lab, side: Side, name: str) -> None:
    """Each transfer takes a port of either side; who has few of them is named once they are gone.

    The sender closes first, and so does the forwarder towards its upstream.
    """
    narrow(lab, side)
    with forwarding(lab, Workload("w", 64 << 10, pairs=4)) as drive:
        for _ in range(_SLICES):
            found = drive()
            if used_up(found, side):
                break
            assert named(found).name == "server"
    assert named(found).name == name
    assert (name in CLIENT_LIMITED) == (side == "client")
    assert f"local ports of the {side} used up" in named(found).evidence
    assert found["ports"][side]["range"] == 512
    assert found["ports"][side]["time_wait"] > 256


def test_time_wait_of_accepted_connections_is_not_taken_for_a_shortage(lab: Lab) -> None:
    """The upstream closes first, and the forwarder towards its clients: both where they listen."""
    narrow(lab, "server")
    with forwarding(lab, Workload("w", 64 << 10, pairs=4, direction="down")) as drive:
        for _ in range(_SLICES):
            found = drive()
            assert named(found).name == "server"
            if found["time_wait"]["server"]["after"] > 512:
                break
    assert found["ports"]["server"]["range"] == 512
    assert found["ports"]["server"]["time_wait"] < 256 < found["time_wait"]["server"]["after"]
