"""Counters around a slice, read from a /proc of our own."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Any

import pytest

from iolab.kernelstat import (
    MAX_THREADS,
    KernelStat,
    devices,
    difference,
    link_speeds,
    softnet,
    time_wait,
)
from iolab.portuse import Connector

SERVER, CLIENT = 100, 200


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def write_thread(proc: Path, pid: int, tid: int, run: int, wait: int, switches: int) -> None:
    task = proc / str(pid) / "task" / str(tid)
    write(
        task / "status",
        f"Name:\tx\nvoluntary_ctxt_switches:\t{switches}\nnonvoluntary_ctxt_switches:\t1\n",
    )
    write(task / "schedstat", f"{run} {wait} 17\n")


def write_net(net: Path, retransmits: int, pruned: int) -> None:
    write(
        net / "snmp",
        "Ip: Forwarding DefaultTTL\nIp: 1 64\n"
        f"Tcp: RtoAlgorithm RetransSegs InErrs\nTcp: 1 {retransmits} 0\n",
    )
    write(
        net / "sockstat",
        "sockets: used 324\n"
        f"TCP: inuse 304 orphan 0 tw {700 + pruned} alloc 304 mem 0\n"
        "UDP: inuse 0 mem 0\n",
    )
    write(
        net / "netstat",
        "TcpExt: DelayedACKs SyncookiesSent PruneCalled TCPToZeroWindowAdv\n"
        f"TcpExt: {pruned} 9 {pruned} 2\n"
        "IpExt: InNoRoutes\nIpExt: 0\n",
    )


def write_proc(proc: Path, at: int) -> None:
    """The tree at time `at`: all counters grow with it."""
    write(
        proc / "stat",
        f"cpu  1 1 1 1 1 1 1 1 1 1\ncpu0 {100 + at} 0 20 {500 - at} 0 1 {30 + 2 * at} 4 0 0\n"
        f"cpu1 7 0 7 7 7 7 7 {7 + at} 0 0\nintr 5\n",
    )
    columns = [0x10 + at, 0x2, 0xFF + at, *[0] * 9, 3, 0, 0]
    write(proc / "net/softnet_stat", " ".join(f"{value:08x}" for value in columns) + "\n")
    write(proc / "pressure/memory", f"some avg10=0.00 total={50 * at}\nfull avg10=0.0 total=0\n")
    write_net(proc / str(SERVER) / "net", retransmits=10 + at, pruned=3 * at)
    write_net(proc / "self/net", retransmits=0, pruned=0)
    write_net(proc / str(CLIENT) / "net", retransmits=100, pruned=2 * at)
    for tid in (SERVER, SERVER + 1):
        write_thread(proc, SERVER, tid, run=1000 + 10 * at, wait=5 * at, switches=100 + at)
    write_thread(proc, CLIENT, CLIENT, run=at, wait=0, switches=0)
    write(proc / str(SERVER) / "statm", "900 25 3 4 0 5 0\n")


def between(
    proc: Path, server: tuple[int, ...] = (SERVER,), resident: int | None = None
) -> dict[str, Any]:
    stat = KernelStat(proc, proc / "no-sys")
    write_proc(proc, 0)
    before = stat.read(server, (CLIENT,), resident)
    write_proc(proc, 8)
    return difference(before, stat.read(server, (CLIENT,), resident))


def put_into(proc: Path, process: str, namespace: str) -> None:
    (proc / process / "ns").mkdir(parents=True)
    (proc / process / "ns/net").symlink_to(f"net:[{namespace}]")


def test_counters_between_two_readings(tmp_path: Path) -> None:
    found = between(tmp_path)
    assert found["ns"] > 0
    assert found["tick_ns"] == 1_000_000_000 // os.sysconf("SC_CLK_TCK")
    assert found["cpus"]["0"] == {
        "user": 8, "nice": 0, "system": 0, "idle": -8, "iowait": 0, "irq": 0, "softirq": 16,
        "steal": 0,
    }  # fmt: skip
    assert found["cpus"]["1"]["steal"] == 8
    assert set(found["cpus"]) == {"0", "1"}  # the sum over CPUs is no CPU
    assert found["softnet"] == {"3": {"processed": 8, "dropped": 0, "squeezed": 8}}
    assert found["pressure_us"] == {"memory_some": 400, "memory_full": 0}
    assert found["server_resident_bytes"] == 25 * os.sysconf("SC_PAGE_SIZE")


def test_tcp_counters_are_those_of_the_servers_namespace(tmp_path: Path) -> None:
    found = between(tmp_path)
    assert found["tcp"] == {
        "RetransSegs": 8, "InErrs": 0, "PruneCalled": 24, "TCPToZeroWindowAdv": 0,
        "DelayedACKs": 24,
    }  # fmt: skip
    assert between(tmp_path, server=())["tcp"]["RetransSegs"] == 0


def test_a_server_whose_processes_come_and_go_is_found_by_the_one_that_stays(
    tmp_path: Path,
) -> None:
    found = between(tmp_path, server=(), resident=SERVER)
    assert found["tcp"]["RetransSegs"] == 8
    assert found["server"] == {}


def test_the_clients_namespace_is_read_where_it_is_another_one(tmp_path: Path) -> None:
    """Who receives closes the window: with two namespaces that is not where the server counts."""
    put_into(tmp_path, str(SERVER), "1")
    put_into(tmp_path, str(CLIENT), "2")
    found = between(tmp_path)
    assert found["tcp"]["PruneCalled"] == 24
    assert found["tcp_client"]["PruneCalled"] == 16


def test_what_both_share_is_counted_once(tmp_path: Path) -> None:
    assert "tcp_client" not in between(tmp_path)
    put_into(tmp_path, str(SERVER), "1")
    put_into(tmp_path, str(CLIENT), "1")
    assert "tcp_client" not in between(tmp_path)


def test_sockets_in_time_wait_are_counted_where_they_are(tmp_path: Path) -> None:
    assert between(tmp_path)["time_wait"] == {"server": {"before": 700, "after": 724}}
    put_into(tmp_path, str(SERVER), "1")
    put_into(tmp_path, str(CLIENT), "2")
    assert between(tmp_path)["time_wait"] == {
        "server": {"before": 700, "after": 724},
        "client": {"before": 700, "after": 716},
    }
    assert time_wait("TCP: inuse 1\n") is time_wait("") is None


def test_ports_are_looked_up_in_the_namespace_of_who_connects(tmp_path: Path) -> None:
    """500 in TIME_WAIT in a range of 500: the server's are listed, in a namespace of its own."""
    put_into(tmp_path, "self", "1")
    put_into(tmp_path, str(SERVER), "2")
    net = tmp_path / str(SERVER) / "net"
    row = "   1: 010200C0:{:04X} 020200C0:1F91 06 00000000:00000000 03:00001735 00000000 0 0\n"
    write(net / "tcp", "".join(row.format(port) for port in range(40000, 40500)))
    write(tmp_path / "sys/net/ipv4/ip_local_port_range", "40000\t40499\n")
    entered: list[Path] = []

    def inside(place: Path) -> contextlib.AbstractContextManager[None]:
        entered.append(place)
        return contextlib.nullcontext()

    stat = KernelStat(tmp_path, tmp_path / "no-sys", inside)
    kernel = {
        "tcp": {"ActiveOpens": 9},
        "time_wait": {"server": {"before": 0, "after": 500}, "client": {"before": 0, "after": 0}},
    }
    connectors = [
        Connector("client", (CLIENT,), ("192.0.2.1", 8080)),
        Connector("server", (SERVER,), ("192.0.2.2", 8081)),
    ]
    assert stat.ports(kernel, connectors) == {
        "server": {"range": 500, "held": 500, "held_first": 250, "time_wait": 500}
    }
    assert entered == [tmp_path / str(SERVER) / "ns/net"]
    kernel["tcp"]["TWRecycled"] = 9
    assert stat.ports(kernel, connectors) == {}


def write_links(sys: Path) -> None:
    for name, hardware, speed in (("eth0", True, "10000"), ("eth1", True, "-1"),
                                  ("veth0", False, "10000"), ("eth2", True, "")):  # fmt: skip
        write(sys / "class/net" / name / "speed", f"{speed}\n")
        if hardware:
            (sys / "class/net" / name / "device").mkdir()


def test_links_are_those_of_cards_that_tell(tmp_path: Path) -> None:
    write_links(tmp_path)
    assert link_speeds(tmp_path / "class/net") == {"eth0": 10_000}
    assert link_speeds(tmp_path / "none") == {}


def test_links_of_this_namespace_say_nothing_of_another_ones_devices(tmp_path: Path) -> None:
    write_links(tmp_path / "sys")
    proc = tmp_path / "proc"
    put_into(proc, "self", "1")
    put_into(proc, str(SERVER), "2")
    stat = KernelStat(proc, tmp_path / "sys")
    assert stat.read((), ()).gauges["link_mbit"] == {"eth0": 10_000}
    assert "link_mbit" not in stat.read((SERVER,), ()).gauges


def test_devices_by_name() -> None:
    text = (
        "Inter-|   Receive                                   |  Transmit\n"
        " face |bytes packets errs drop fifo frame compressed multicast|bytes packets errs drop\n"
        "    lo: 9 9 0 0 0 0 0 0 9 9 0 0 0 0 0 0\n"
        "  eth0:100 2 0 3 0 0 0 0 400 5 0 6 0 0 0 0\n"
    )
    assert devices(text) == {
        "eth0": {"rx_bytes": 100, "rx_packets": 2, "rx_dropped": 3, "tx_bytes": 400,
                 "tx_packets": 5, "tx_dropped": 6},
    }  # fmt: skip
    assert devices("") == {}


def test_threads_are_added_up(tmp_path: Path) -> None:
    found = between(tmp_path)
    assert found["server"] == {
        "threads": 2, "voluntary": 16, "involuntary": 0, "run_ns": 160, "wait_ns": 80,
    }  # fmt: skip
    assert found["client"]["run_ns"] == 8


def test_a_thread_that_came_counts_whole_and_one_that_went_not_at_all(tmp_path: Path) -> None:
    stat = KernelStat(tmp_path)
    write_thread(tmp_path, SERVER, 1, run=100, wait=0, switches=9)
    write_thread(tmp_path, SERVER, 2, run=500, wait=0, switches=9)
    before = stat.read((SERVER,), ())
    for name in ("status", "schedstat"):
        (tmp_path / str(SERVER) / "task/2" / name).unlink()
    (tmp_path / str(SERVER) / "task/2").rmdir()
    write_thread(tmp_path, SERVER, 1, run=130, wait=0, switches=9)
    write_thread(tmp_path, SERVER, 3, run=7, wait=0, switches=2)
    found = difference(before, stat.read((SERVER,), ()))["server"]
    assert (found["threads"], found["run_ns"], found["voluntary"]) == (2, 37, 2)


def test_too_many_threads_are_left_out(tmp_path: Path) -> None:
    for tid in range(MAX_THREADS + 1):
        write_thread(tmp_path, SERVER, tid, 1, 1, 1)
    before = KernelStat(tmp_path).read((SERVER,), ())
    assert difference(before, before)["server"] == {}


def test_nothing_readable_is_nothing_counted(tmp_path: Path) -> None:
    before = KernelStat(tmp_path).read((SERVER,), (CLIENT,))
    found = difference(before, before)
    assert found["cpus"] == found["softnet"] == found["tcp"] == found["pressure_us"] == {}
    assert found["devices"] == found["time_wait"] == {}
    assert found["server"] == found["client"] == {}
    assert found["server_resident_bytes"] is None


def test_softnet_of_kernels_that_do_not_name_the_cpu() -> None:
    rows = softnet("0000000a 00000000 00000001\n0000000b 00000002 00000000\n")
    assert rows["1"] == {"processed": 11, "dropped": 2, "squeezed": 0}


def test_this_host_is_read() -> None:
    """The real files have the shape that is parsed; this process runs, so its counters do."""
    if not Path("/proc/self/schedstat").exists():
        pytest.skip("the kernel has no schedstat (CONFIG_SCHED_INFO)")
    pid = os.getpid()
    before = KernelStat().read((pid,), ())
    found = difference(before, before)
    while found["server"]["run_ns"] == 0:  # booked at ticks and switches
        found = difference(before, KernelStat().read((pid,), ()))
    assert found["cpus"]
    assert found["tcp"].keys() >= {"RetransSegs", "ActiveOpens", "TWRecycled"}
    assert found["time_wait"]["server"]["after"] >= 0
    assert found["server_resident_bytes"] > 0
