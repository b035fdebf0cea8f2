"""Counters around a slice, read from a /proc of our own."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from iolab.kernelstat import MAX_THREADS, KernelStat, difference, softnet

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
        net / "netstat",
        f"TcpExt: SyncookiesSent PruneCalled TCPToZeroWindowAdv\nTcpExt: 9 {pruned} 2\n"
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
    write_net(proc / "net", retransmits=0, pruned=0)
    for tid in (SERVER, SERVER + 1):
        write_thread(proc, SERVER, tid, run=1000 + 10 * at, wait=5 * at, switches=100 + at)
    write_thread(proc, CLIENT, CLIENT, run=at, wait=0, switches=0)
    write(proc / str(SERVER) / "statm", "900 25 3 4 0 5 0\n")


def between(proc: Path, server: tuple[int, ...] = (SERVER,)) -> dict[str, Any]:
    stat = KernelStat(proc)
    write_proc(proc, 0)
    before = stat.read(server, (CLIENT,))
    write_proc(proc, 8)
    return difference(before, stat.read(server, (CLIENT,)))


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
    }  # fmt: skip
    assert between(tmp_path, server=())["tcp"]["RetransSegs"] == 0


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
    assert "RetransSegs" in found["tcp"]
    assert found["server_resident_bytes"] > 0
