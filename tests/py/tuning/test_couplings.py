"""Sysctls that move others come back with them; those that cannot come back are not touched."""

from __future__ import annotations

import errno
import os
import subprocess
from pathlib import Path

import pytest
from fakehost import FakeHost, Rule, WriteProfile, snapshot
from faketools import load, put, save

from iolab.errors import InputError
from iolab.tuning import bench
from iolab.tuning.couplings import moved_by
from iolab.tuning.families.sysctl import name_of, path_of
from iolab.tuning.host import Tree
from iolab.tuning.planning import make_plan
from iolab.tuning.scene import Scene
from iolab.tuning.shell import export

IPV4 = "proc/sys/net/ipv4"
VM = "proc/sys/vm"


@pytest.fixture
def router(machine: Path, host: FakeHost) -> Path:
    """The machine with forwarding as net/ipv4/devinet.c has it, eth0 a router already."""
    put(machine, f"{IPV4}/ip_forward", "0")
    put(machine, f"{IPV4}/conf/all/accept_redirects", "0")
    for name, value in (("all", "0"), ("default", "0"), ("eth0", "1"), ("eth1.5", "0")):
        put(machine, f"{IPV4}/conf/{name}/forwarding", value)

    def forward(old: str, new: str) -> str:
        if old != new:
            put(machine, f"{IPV4}/conf/all/accept_redirects", str(int(new == "0")))
            for name in ("all", "default", "eth0", "eth1.5"):
                put(machine, f"{IPV4}/conf/{name}/forwarding", new)
        return new

    host.rules[f"{IPV4}/ip_forward"] = forward
    return machine


def test_forwarding_takes_redirects_and_interfaces_back_with_it(
    router: Path, host: FakeHost, scene: Scene, write_profile: WriteProfile
) -> None:
    before = snapshot(router)
    assert bench.apply(write_profile('[sysctl]\n"net.ipv4.ip_forward" = 1'), scene).ok
    assert (router / f"{IPV4}/conf/eth1.5/forwarding").read_text() == "1\n"
    assert [one for one in bench.revert(host) if one.problem] == []
    assert snapshot(router) == before


@pytest.mark.parametrize("name", ["ip_forward", "conf.eth0.forwarding"])
def test_what_an_interface_merges_comes_back_when_it_forwards_no_more(
    machine: Path, host: FakeHost, scene: Scene, write_profile: WriteProfile, name: str
) -> None:
    """As dev_disable_lro (net/core/dev.c), which devinet.c calls and nobody takes back."""

    def lro(value: str) -> None:
        state = load(machine)
        save(machine, {**state, "features": {**state["features"], "lro": value}})

    def forward(old: str, new: str) -> str:
        if new == "1":
            lro("off")
        return new

    where = f"{IPV4}/{name.replace('.', '/')}"
    lro("on")
    put(machine, where, "0")
    host.rules[where] = forward
    before = snapshot(machine)
    assert bench.apply(write_profile(f'[sysctl]\n"net.ipv4.{name}" = 1'), scene).ok
    assert load(machine)["features"]["lro"] == "off"
    assert [one for one in bench.revert(host) if one.problem] == []
    assert snapshot(machine) == before


@pytest.mark.parametrize(("name", "said"), [("all", True), ("eth0", True), ("default", False)])
def test_it_is_said_that_a_router_forgets_the_routes_of_others(
    machine: Path, scene: Scene, write_profile: WriteProfile, name: str, said: bool
) -> None:
    put(machine, f"proc/sys/net/ipv6/conf/{name}/forwarding", "0")
    loaded = write_profile(f'[sysctl]\n"net.ipv6.conf.{name}.forwarding" = 1')
    (result,) = bench.apply(loaded, scene).results
    assert ("default routes" in result.reason) is said


def zeroing(machine: Path, partner: str, least: int) -> Rule:
    """A limit of mm/page-writeback.c: writing it zeroes its other form."""

    def rule(old: str, new: str) -> str:
        if int(new) < least:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        if new != old:
            put(machine, f"{VM}/{partner}", "0")
        return new

    return rule


@pytest.fixture
def writeback(machine: Path, host: FakeHost) -> Path:
    """The machine with dirty_bytes and dirty_ratio, the ratio in force."""
    put(machine, f"{VM}/dirty_bytes", "0")
    put(machine, f"{VM}/dirty_ratio", "20")
    host.rules[f"{VM}/dirty_bytes"] = zeroing(machine, "dirty_ratio", 8192)
    host.rules[f"{VM}/dirty_ratio"] = zeroing(machine, "dirty_bytes", 0)
    return machine


def test_a_ratio_that_bytes_zeroed_comes_back(
    writeback: Path, host: FakeHost, scene: Scene, write_profile: WriteProfile
) -> None:
    before = snapshot(writeback)
    loaded = write_profile('[sysctl]\n"vm.dirty_bytes" = 1048576')
    assert bench.apply(loaded, scene).ok
    assert (writeback / f"{VM}/dirty_ratio").read_text() == "0\n"
    assert [one for one in bench.revert(host) if one.problem] == []
    assert snapshot(writeback) == before


@pytest.mark.parametrize("line", ['"vm.dirty_bytes" = 1048576', '"vm.dirty_ratio" = 40'])
def test_the_undo_script_leaves_zero_bytes_to_the_ratio(
    writeback: Path, scene: Scene, write_profile: WriteProfile, line: str
) -> None:
    before = snapshot(writeback)
    plan = make_plan(write_profile(f'[sysctl]\n{line}\n"net.core.somaxconn" = 65535'), scene)
    forward, back = export(plan)
    assert "put 0 /proc/sys/vm/dirty_bytes" not in back
    environment = {"ROOT": str(writeback), "PATH": os.environ["PATH"]}
    for script in (forward, back):
        done = subprocess.run(
            ["sh", "-c", script], env=environment, capture_output=True, text=True, check=False
        )
        assert (done.returncode, done.stderr) == (0, "")
    after = snapshot(writeback)
    assert after[f"{VM}/dirty_ratio"] == b"20\n"
    assert after["proc/sys/net/core/somaxconn"] == before["proc/sys/net/core/somaxconn"]


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("kernel.unprivileged_bpf_disabled", "0", "1"),
        ("kernel.modules_disabled", "0", "1"),
        ("kernel.kexec_load_disabled", "0", "1"),
        ("kernel.yama.ptrace_scope", "1", "3"),
        ("vm.drop_caches", "0", "3"),
        ("fs.binfmt_misc.status", "enabled", "-1"),
    ],
)
def test_what_only_a_boot_undoes_is_refused(
    machine: Path,
    host: FakeHost,
    scene: Scene,
    write_profile: WriteProfile,
    name: str,
    old: str,
    new: str,
) -> None:
    put(machine, path_of(name), old)
    loaded = write_profile(f'[sysctl]\n"{name}" = {new}')
    with pytest.raises(InputError, match=rf"trial\.toml: sysctl\.{name}: .*before the next boot"):
        bench.apply(loaded, scene)
    assert host.changes == 0
    put(machine, path_of(name), new)  # there already: nothing has to be undone
    assert bench.apply(loaded, scene).ok


def test_what_can_be_undone_is_not_refused(
    machine: Path, scene: Scene, write_profile: WriteProfile
) -> None:
    put(machine, path_of("kernel.unprivileged_bpf_disabled"), "0")
    loaded = write_profile('[sysctl]\n"kernel.unprivileged_bpf_disabled" = 2')
    assert bench.apply(loaded, scene).ok


@pytest.mark.parametrize(
    ("name", "moved"),
    [
        ("net.ipv4.conf.default.rp_filter", {"net.ipv4.conf.eth1/5.rp_filter"}),
        ("net.ipv6.conf.all.disable_ipv6", {"net.ipv6.conf.eth0.disable_ipv6"}),
        ("net.ipv4.tcp_congestion_control", {"net.ipv4.tcp_allowed_congestion_control"}),
        ("net.ipv4.neigh.default.gc_stale_time", {"net.ipv4.neigh.eth0.gc_stale_time"}),
        ("vm.overcommit_kbytes", {"vm.overcommit_ratio"}),
        ("vm.dirty_background_ratio", {"vm.dirty_background_bytes"}),
        ("net.core.somaxconn", set()),
    ],
)
def test_what_moves_is_found_in_the_tree(tmp_path: Path, name: str, moved: set[str]) -> None:
    for one in (name, *moved):
        put(tmp_path, path_of(one), "0")
    found = {name_of(where) for where in moved_by(Tree(tmp_path), path_of(name))}
    assert found == moved
