"""The checks of `doctor` on machines that do not exist: a directory imitates /proc and /sys."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from iolab.commands import doctor
from iolab.commands.doctor import CpuTimes, Finding, Level, Machine, Peer
from iolab.describe import Describe, Engine
from iolab.interfaces import Interface
from iolab.paths import House, find_house

LO = Interface("lo", True, True, None, True, 0)
ETH = Interface("eth0", True, False, "virtio_net", True, 0)
QUIET = (CpuTimes(1000, 500, 5), CpuTimes(1060, 560, 5))


def describe(*reasons: str | None) -> Describe:
    """A server with one engine for each reason; None stands for a usable one."""
    engines = tuple(
        Engine(name=f"e{number}", usable=reason is None, reason=reason)
        for number, reason in enumerate(reasons)
    )
    return Describe(schema_version=1, engines=engines)


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """A machine on which nothing is amiss; tests spoil one thing each."""
    made = Machine(
        root=tmp_path,
        house=House(root=tmp_path, build=tmp_path / "build"),
        kernel="6.1.0-13-amd64",
        affinity=frozenset({0, 1}),
        memlock_bytes=8 << 20,
        nofile_hard=1 << 20,
        free_disk_bytes=5 << 30,
        which=lambda tool: f"/usr/bin/{tool}",
        busy=QUIET,
        describe=describe(None, None),
        peers=(Peer("nginx", "nginx version: nginx/1.22.1", None, "fetch it"),),
        interfaces=(LO, ETH),
    )
    put(made, "sys/class/net/lo/flags", "0x9")
    put(made, "sys/class/net/lo/mtu", "65536")
    put(made, "proc/loadavg", "0.10 0.20 0.30 1/90 4242")
    put(made, "proc/self/cgroup", "0::/user.slice/one.scope")
    put(made, "sys/kernel/tracing/trace_clock", "[local] global")
    put(made, "proc/self/mountinfo", "30 29 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw")
    (tmp_path / "sys/fs/cgroup/user.slice/one.scope").mkdir(parents=True)
    for cpu in made.affinity:
        put(made, f"sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list", str(cpu))
    return made


def put(machine: Machine, path: str, text: str) -> Path:
    """Writes a file of the imitated machine."""
    file = machine.root / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text + "\n", encoding="utf-8")
    return file


def test_a_good_machine_has_nothing_amiss(machine: Machine) -> None:
    findings = doctor.examine(machine)
    assert [finding for finding in findings if finding.level is not Level.OK] == []
    assert len({finding.check for finding in findings}) == sum(
        map(len, (doctor.CHECKS, machine.interfaces, machine.peers))
    )


def test_every_finding_that_is_not_ok_has_a_remedy(tmp_path: Path) -> None:
    nothing = Machine(
        root=tmp_path,
        house=House(root=tmp_path, build=tmp_path),
        kernel="5.4.0",
        affinity=frozenset({3}),
        memlock_bytes=65536,
        nofile_hard=100,
        free_disk_bytes=0,
        which=lambda tool: None,
        peers=(Peer("nginx", None, "no binary found", "fetch it"),),
    )
    bad = [finding for finding in doctor.examine(nothing) if finding.level is not Level.OK]
    assert len(bad) >= 10
    assert all(finding.remedy for finding in bad)
    assert doctor.worst(bad) is Level.FAIL


@pytest.mark.parametrize(
    ("kernel", "level"),
    [("4.19.0", "fail"), ("5.5", "fail"), ("5.6", "warn"), ("6.0.9", "warn"), ("6.1", "ok")],
)
def test_kernel_versions(machine: Machine, kernel: str, level: str) -> None:
    assert doctor.check_kernel(replace(machine, kernel=kernel)).level == level


def test_engines_name_those_that_cannot_run(machine: Machine) -> None:
    finding = doctor.check_engines(replace(machine, describe=describe(None, "no SEND_ZC")))
    assert finding.level is Level.WARN
    assert "1 of 2 usable; e1: no SEND_ZC" in finding.found


def test_no_usable_engine_is_a_failure(machine: Machine) -> None:
    assert doctor.check_engines(replace(machine, describe=describe("no"))).level is Level.FAIL


def test_a_server_that_is_not_built_is_no_failure(machine: Machine) -> None:
    finding = doctor.check_engines(replace(machine, describe=None))
    assert (finding.level, finding.found) == (Level.WARN, "not built")


@pytest.mark.parametrize(("switch", "level"), [("0", "ok"), ("1", "warn"), ("2", "warn")])
def test_io_uring_switch(machine: Machine, switch: str, level: str) -> None:
    put(machine, "proc/sys/kernel/io_uring_disabled", switch)
    assert doctor.check_io_uring(machine).level == level


def test_missing_tools_are_named_with_their_packages(machine: Machine) -> None:
    absent = replace(machine, which=lambda tool: None if tool == "gnuplot" else "/bin/x")
    finding = doctor.check_tools(absent)
    assert finding.found == "missing: gnuplot"
    assert finding.remedy.endswith(" gnuplot-nox")


def test_a_peer_shows_its_version_or_what_it_lacks() -> None:
    finding = doctor.check_peer(Peer("haproxy", "HAProxy version 2.6.12", None, "fetch it"))
    assert finding == Finding("peer haproxy", Level.OK, "HAProxy version 2.6.12")
    finding = doctor.check_peer(Peer("piping-server", None, "it needs node, not found", "get it"))
    assert finding == Finding(
        "peer piping-server", Level.WARN, "it needs node, not found", "get it"
    )


@pytest.mark.parametrize(
    ("interface", "level", "found"),
    [
        (LO, "ok", "copied: loopback"),
        (ETH, "ok", "possible: scatter-gather is on"),
        (replace(ETH, driver="veth"), "ok", "copied: veth"),
        (replace(ETH, scatter_gather=False), "warn", "copied: scatter-gather is off"),
        (replace(ETH, packet_sockets=2), "warn", "copied: 2 AF_PACKET sockets"),
        (replace(ETH, scatter_gather=None), "ok", "unknown"),
        (replace(ETH, up=False, scatter_gather=False), "ok", "down"),
    ],
)
def test_zero_copy_is_possible_or_not_with_a_reason(
    interface: Interface, level: str, found: str
) -> None:
    finding = doctor.check_zero_copy(interface)
    assert (finding.level, bool(finding.remedy)) == (level, level == "warn")
    assert finding.found.startswith(found)


def test_cpu_accounting_without_a_group_to_write_to(machine: Machine) -> None:
    put(machine, "proc/self/mountinfo", "30 29 0:26 / /elsewhere rw - cgroup2 cgroup2 rw")
    finding = doctor.check_cpu_accounting(machine)
    assert (finding.level, "socat" in finding.found) == (Level.WARN, True)


def test_every_peer_of_the_tree_is_listed() -> None:
    house = find_house()
    names = [peer.name for peer in doctor._peers(house)]
    assert names == sorted(path.stem for path in house.peers.glob("*.toml"))


def test_one_processor_is_too_few(machine: Machine) -> None:
    assert doctor.check_cpus(replace(machine, affinity=frozenset({1}))).level is Level.WARN


def test_two_hardware_threads_of_one_core_are_too_few(machine: Machine) -> None:
    for cpu in machine.affinity:
        put(machine, f"sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list", "0-1")
    finding = doctor.check_cpus(machine)
    assert (finding.level, finding.found) == (Level.WARN, "2 usable (0-1), 1 cores")


@pytest.mark.parametrize(
    ("governor", "boost", "level", "found"),
    [
        ("performance", "0", "ok", "governor performance; turbo off"),
        ("performance", "1", "warn", "governor performance; turbo on"),
        ("powersave", "0", "warn", "governor powersave; turbo off"),
    ],
)
def test_governor_and_turbo(
    machine: Machine, governor: str, boost: str, level: str, found: str
) -> None:
    for cpu in machine.affinity:
        put(machine, f"sys/devices/system/cpu/cpu{cpu}/cpufreq/scaling_governor", governor)
    put(machine, "sys/devices/system/cpu/cpufreq/boost", boost)
    finding = doctor.check_frequency(machine)
    assert (finding.level, finding.found) == (level, found)


def test_small_memlock_matters_only_without_the_capability(machine: Machine) -> None:
    small = replace(machine, memlock_bytes=64 << 10)
    put(machine, "proc/self/status", "Name:\tx\nCapEff:\t0000000000000000")
    assert doctor.check_memlock(small).level is Level.WARN
    put(machine, "proc/self/status", f"Name:\tx\nCapEff:\t{1 << doctor.CAP_IPC_LOCK:016x}")
    assert doctor.check_memlock(small).level is Level.OK


@pytest.mark.parametrize(
    ("limit", "level"), [(-1, "ok"), (100, "fail"), (1024, "warn"), (10_500, "ok")]
)
def test_open_files(machine: Machine, limit: int, level: str) -> None:
    assert doctor.check_nofile(replace(machine, nofile_hard=limit)).level == level


def test_loopback_down_fails_and_a_small_mtu_warns(machine: Machine) -> None:
    put(machine, "sys/class/net/lo/mtu", "1500")
    assert doctor.check_loopback(machine).level is Level.WARN
    put(machine, "sys/class/net/lo/flags", "0x8")
    assert doctor.check_loopback(machine).level is Level.FAIL


def test_slow_clocksource_warns(machine: Machine) -> None:
    put(machine, "sys/devices/system/clocksource/clocksource0/current_clocksource", "hpet")
    assert doctor.check_clocksource(machine).level is Level.WARN


@pytest.mark.parametrize(
    ("after", "load", "level"),
    [
        (CpuTimes(1060, 560, 5), "0.10", "ok"),
        (CpuTimes(1060, 530, 5), "0.10", "warn"),
        (CpuTimes(1060, 555, 10), "0.10", "warn"),
        (CpuTimes(1060, 560, 5), "1.50", "warn"),
    ],
)
def test_quiet(machine: Machine, after: CpuTimes, load: str, level: str) -> None:
    put(machine, "proc/loadavg", f"{load} 0 0 1/90 1")
    assert doctor.check_quiet(replace(machine, busy=(QUIET[0], after))).level == level


def test_a_quota_of_a_parent_group_counts(machine: Machine) -> None:
    put(machine, "sys/fs/cgroup/user.slice/cpu.max", "150000 100000")
    put(machine, "sys/fs/cgroup/user.slice/one.scope/cpu.max", "max 100000")
    finding = doctor.check_cgroup(machine)
    assert finding.level is Level.WARN
    assert "1.50 CPUs" in finding.found


def test_a_quota_of_the_first_version(machine: Machine) -> None:
    put(machine, "proc/self/cgroup", "4:cpu,cpuacct:/box\n0::/")
    put(machine, "sys/fs/cgroup/cpu,cpuacct/box/cpu.cfs_quota_us", "-1")
    assert doctor.check_cgroup(machine).level is Level.OK
    put(machine, "sys/fs/cgroup/cpu,cpuacct/box/cpu.cfs_quota_us", "50000")
    assert doctor.check_cgroup(machine).level is Level.WARN


def test_cpu_times_of_proc_stat() -> None:
    text = "cpu  10 1 5 100 20 0 3 7 0 0\ncpu0 1 1 1 1 1 1 1 1 1 1"
    assert doctor.parse_cpu_times(text) == CpuTimes(total=146, idle=120, steal=7)
    assert doctor.parse_cpu_times("intr 5") is None
    assert doctor.parse_cpu_times(None) is None


@pytest.mark.parametrize(("nofile", "code"), [(1 << 20, 0), (100, 1)])
def test_the_verb_prints_json_and_ends_with_1_on_a_failure(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, nofile: int, code: int
) -> None:
    monkeypatch.setattr(doctor, "_look_at", lambda house: replace(machine, nofile_hard=nofile))
    result = CliRunner().invoke(doctor.doctor, ["--json"])
    document = json.loads(result.stdout)
    assert result.exit_code == code
    assert document["level"] == ("fail" if code else "ok")
    assert {"check", "level", "found", "remedy"} == set(document["findings"][0])


def test_the_verb_on_this_machine_prints_a_line_for_each_check() -> None:
    result = CliRunner().invoke(doctor.doctor, [])
    assert result.exit_code in (0, 1)
    assert all(word in result.stdout for word in ("kernel", "loopback", "clocksource", "disk"))
