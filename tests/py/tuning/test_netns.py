"""On the real kernel: a multi-queue veth pair in a network namespace of the test's own.

Everything that is changed belongs to that namespace, and goes with it. What a namespace shows of
itself (sysctls, queues, ethtool, tc) is compared before and after as a whole.
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fakehost import WriteProfile, in_child, was_killed
from realnet import inside, ip

from iolab.errors import IolabError
from iolab.executor import Completed, HostExecutor
from iolab.tuning import bench, journal
from iolab.tuning.host import Host, NamespaceTree, Tree
from iolab.tuning.knob import Gone
from iolab.tuning.leftovers import leftover
from iolab.tuning.nic import default_interface
from iolab.tuning.planning import make_plan
from iolab.tuning.profile import Loaded
from iolab.tuning.scene import Scene
from iolab.tuning.session import Session, session
from iolab.tuning.shell import export

PROFILE = """
[sysctl]
"net.core.somaxconn" = 65535
"net.ipv4.tcp_rmem" = "4096 131072 16777216"
"net.ipv4.tcp_fin_timeout" = 30
[nic]
interface = "v0"
channels = {channels}
qdisc = "{qdisc}"
[nic.offloads]
gro = true
[steering]
rps = "all"
xps = "one-per-queue"
"""
# pfifo is in every kernel with qdiscs at all; fq is a module that may be missing.
TWO_QUEUES = PROFILE.format(channels=2, qdisc="mq/pfifo")
ONE_QUEUE = PROFILE.format(channels=1, qdisc="pfifo").replace('xps = "one-per-queue"', "")


def scene_of(host: Host, netns: str) -> Scene:
    return Scene(host, netns=netns, only_netns=True)


def values(host: Host, netns: str) -> dict[str, str]:
    """What the namespace shows of itself."""
    script = (
        "for f in $(find /proc/sys/net -type f) /sys/class/net/v?/queues/*/?ps_*; do"
        ' printf "%s=" "$f"; cat "$f" 2>&1; echo; done; true'
    )
    found = {"files": host.run(["sh", "-c", script], netns).stdout}
    for device in ("v0", "v1"):
        for flag in ("-l", "-k"):
            found[f"{device} {flag}"] = host.run(["ethtool", flag, device], netns).stdout
        found[f"{device} tc"] = host.run(["tc", "qdisc", "show", "dev", device], netns).stdout
    return found


@pytest.mark.parametrize("profile", [TWO_QUEUES, ONE_QUEUE])
def test_a_namespace_is_tuned_and_restored(
    real: Host, netns: str, write_profile: WriteProfile, profile: str
) -> None:
    before, outside = values(real, netns), Tree(Path("/")).read("proc/sys/net/core/somaxconn")
    tuned = scene_of(real, netns)
    loaded = write_profile(f"{profile}\n[cpu]\nlatency_usec = 1")
    assert make_plan(loaded, tuned).left_out == ("cpu.latency_usec",)
    applied = bench.apply(loaded, tuned)
    try:
        assert applied.ok, [one for one in applied.results if not one.good]
        assert all(one.good for one in bench.verify(real))
        tree = real.tree(netns)
        assert tree.read("proc/sys/net/core/somaxconn") == "65535"
        assert Tree(Path("/")).read("proc/sys/net/core/somaxconn") == outside
        queues = [name for name in tree.names("sys/class/net/v0/queues") if name[0] == "r"]
        assert len(queues) == (2 if profile == TWO_QUEUES else 1)
        assert int(tree.read("sys/class/net/v0/queues/rx-0/rps_cpus").replace(",", ""), 16)
        assert "10fb:" in real.run(["tc", "qdisc", "show", "dev", "v0"], netns).stdout
    finally:
        restored = bench.revert(real)
    assert [one for one in restored if one.problem] == []
    assert values(real, netns) == before


@pytest.mark.parametrize(
    "line",
    [
        '"net.ipv4.ip_forward" = {other}',
        '"net.ipv4.conf.default.rp_filter" = {other}',
        '"net.ipv4.neigh.v0.unres_qlen" = 7',
        '"net.ipv6.conf.all.forwarding" = {other}',
    ],
)
def test_sysctls_that_the_kernel_moves_along_come_back(
    real: Host, netns: str, write_profile: WriteProfile, line: str
) -> None:
    name = line.split('"')[1].replace(".", "/")
    tree = real.tree(netns)
    if not tree.exists(f"proc/sys/{name}"):
        pytest.skip(f"this kernel has no /proc/sys/{name}")
    if name.endswith("ip_forward"):  # as a careful admin has it: no redirects before either
        tree.write("proc/sys/net/ipv4/conf/all/accept_redirects", "0")
        tree.write("proc/sys/net/ipv4/conf/v0/forwarding", "1")
    other = "1" if tree.read(f"proc/sys/{name}") == "0" else "0"
    before = sysctls(real, netns)
    applied = bench.apply(
        write_profile(f"[sysctl]\n{line.format(other=other)}"), scene_of(real, netns)
    )
    try:
        assert applied.ok, [one for one in applied.results if not one.good]
        moved = {one for one, value in sysctls(real, netns).items() if before[one] != value}
        assert len(moved) > 1
    finally:
        restored = bench.revert(real)
    assert [one for one in restored if one.problem] == []
    assert sysctls(real, netns) == before


def sysctls(host: Host, netns: str) -> dict[str, str]:
    """Every readable sysctl of the namespace by its file."""
    script = "find /proc/sys/net -type f -perm -400 -exec grep -HE '' {} + 2>&1 || true"
    lines = host.run(["sh", "-c", script], netns).stdout.splitlines()
    return dict(line.partition(":")[::2] for line in lines)


def test_an_mtu_is_set_and_restored_with_what_ipv6_made_of_it(
    real: Host, netns: str, write_profile: WriteProfile
) -> None:
    tree, ipv6 = real.tree(netns), "proc/sys/net/ipv6/conf/v0/mtu"
    if tree.exists(ipv6):
        tree.write(ipv6, "1300")
    before = sysctls(real, netns)
    loaded = write_profile('[nic]\ninterface = "v0"\n[nic.files]\nmtu = 9000')
    applied = bench.apply(loaded, scene_of(real, netns))
    try:
        assert applied.ok, [one for one in applied.results if not one.good]
        assert "the other end of the link" in applied.results[0].reason
        assert tree.read("sys/class/net/v0/mtu") == "9000"
        assert not tree.exists(ipv6) or tree.read(ipv6) == "9000"
    finally:
        restored = bench.revert(real)
    assert [one for one in restored if one.problem] == []
    assert tree.read("sys/class/net/v0/mtu") == "1500"
    assert sysctls(real, netns) == before


def test_offloads_that_were_off_inside_a_group_stay_off(
    real: Host, netns: str, write_profile: WriteProfile
) -> None:
    real.run(["ethtool", "-K", "v0", "tx-tcp-mangleid-segmentation", "off"], netns)
    before = values(real, netns)["v0 -k"]
    text = '[nic]\ninterface = "v0"\n[nic.offloads]\ntso = false\ntx = false'
    applied = bench.apply(write_profile(text), scene_of(real, netns))
    try:
        assert applied.ok, [one for one in applied.results if not one.good]
    finally:
        restored = bench.revert(real)
    assert [one for one in restored if one.problem] == []
    assert values(real, netns)["v0 -k"] == before


class KillingHost(Host):
    """Dies by SIGKILL with its n-th write, whether to a file or by a tool."""

    left = 0

    def count(self) -> None:
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    def run(self, argv: Sequence[str], netns: str = "") -> Completed:
        done = super().run(argv, netns)
        if argv[1] in ("-L", "-K", "qdisc"):
            self.count()
        return done

    def tree(self, netns: str = "") -> Tree:
        tree = super().tree(netns)
        if isinstance(tree, NamespaceTree) and not hasattr(tree, "counted"):
            write = tree.write

            def counted(where: str, text: str) -> None:
                write(where, text)
                self.count()

            tree.write, tree.counted = counted, True  # type: ignore[method-assign,attr-defined]
        return tree


def killed(loaded: Loaded, netns: str, state: Path, writes: int) -> bool:
    """Applies in a child; False when it came to its end before that many writes."""

    def work() -> None:
        host = KillingHost(HostExecutor(), state=state)
        host.left = writes
        bench.apply(loaded, scene_of(host, netns))

    return was_killed(in_child(work))


def test_a_kill_at_each_write_is_reverted(
    real: Host, netns: str, write_profile: WriteProfile, tmp_path: Path
) -> None:
    before = values(real, netns)
    real.close()  # the child must not inherit a thread's namespace
    loaded = write_profile(ONE_QUEUE)
    for writes in range(1, 50):
        cut_short = killed(loaded, netns, tmp_path / "state", writes)
        assert (leftover(real) is not None) == cut_short
        assert [one for one in bench.revert(real) if one.problem] == []
        assert values(real, netns) == before, f"killed at write {writes}"
        real.close()
        if not cut_short:
            assert writes > 5
            return
    pytest.fail("the profile was never applied whole")


def test_a_kill_at_each_write_of_a_revert_is_made_good(
    real: Host, netns: str, write_profile: WriteProfile
) -> None:
    before = values(real, netns)
    loaded = write_profile(ONE_QUEUE)
    for writes in range(1, 50):
        assert bench.apply(loaded, scene_of(real, netns)).ok
        real.close()  # the child must not inherit a thread's namespace

        def work(writes: int = writes) -> None:
            host = KillingHost(HostExecutor(), state=real.state)
            host.left = writes
            bench.revert(host)

        cut_short = was_killed(in_child(work))
        assert (journal.load(real.state) is not None) == cut_short
        assert [one for one in bench.revert(real) if one.problem] == []
        assert values(real, netns) == before, f"killed at write {writes} of the revert"
        if not cut_short:
            assert writes > 5
            return
    pytest.fail("the revert never ended")


def stumble(tuned: Session, tree: Tree) -> None:
    """Sees drift where there is some, and fails as a block may."""
    assert tuned.verify() == []
    tree.write("proc/sys/net/core/somaxconn", "17")
    assert [one.knob for one in tuned.verify()] == ["net.core.somaxconn"]
    raise ZeroDivisionError


def test_a_session_reverts_on_error(real: Host, netns: str, write_profile: WriteProfile) -> None:
    before = values(real, netns)
    with (
        pytest.raises(ZeroDivisionError),
        session(write_profile(TWO_QUEUES), scene_of(real, netns)) as tuned,
    ):
        stumble(tuned, real.tree(netns))
    assert values(real, netns) == before
    assert journal.load(real.state) is None


def test_the_exported_scripts_tune_and_restore(
    real: Host, netns: str, write_profile: WriteProfile
) -> None:
    before = values(real, netns)
    loaded = write_profile(TWO_QUEUES)
    forward, back = export(make_plan(loaded, scene_of(real, netns)))
    done = subprocess.run(["sh", "-c", forward], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert all(item.unchanged for item in make_plan(loaded, scene_of(real, netns)).items)
    done = subprocess.run(["sh", "-c", back], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert values(real, netns) == before


def test_a_namespace_that_is_gone_needs_no_restoring(
    real: Host, netns: str, write_profile: WriteProfile
) -> None:
    bench.apply(write_profile(TWO_QUEUES), scene_of(real, netns))
    real.close()
    assert ip("netns", "del", netns).returncode == 0
    with pytest.raises(Gone, match="not found"):
        real.tree(netns)
    assert [one for one in bench.revert(real) if one.problem] == []
    assert journal.load(real.state) is None


def test_a_new_namespace_of_the_same_name_is_left_alone(
    real: Host, netns: str, write_profile: WriteProfile
) -> None:
    bench.apply(write_profile('[sysctl]\n"net.core.somaxconn" = 65535'), scene_of(real, netns))
    if not real.cookie(netns):
        bench.revert(real)
        pytest.skip("this kernel gives namespaces no cookies (Linux 5.14)")
    real.close()
    assert ip("netns", "del", netns).returncode == 0
    assert ip("netns", "add", netns).returncode == 0
    real.tree(netns).write("proc/sys/net/core/somaxconn", "17")
    assert [one for one in bench.revert(real) if one.problem] == []
    assert real.tree(netns).read("proc/sys/net/core/somaxconn") == "17"
    assert journal.load(real.state) is None


def test_what_a_killed_session_leaves_is_announced_and_reverted(
    real: Host, netns: str, write_profile: WriteProfile, tmp_path: Path
) -> None:
    before = values(real, netns)
    real.close()  # the child must not inherit a thread's namespace
    loaded = write_profile(TWO_QUEUES)

    def work() -> None:
        host = Host(HostExecutor(), state=tmp_path / "state")
        with session(loaded, scene_of(host, netns)):
            assert leftover(host) is None  # its holder lives
            os.kill(os.getpid(), signal.SIGKILL)

    assert was_killed(in_child(work))
    said = leftover(real)
    assert said is not None
    assert "is left applied by a killed run: iolab tune revert" in said
    assert [one for one in bench.revert(real) if one.problem] == []
    assert values(real, netns) == before
    assert leftover(real) is None


def test_a_value_that_another_journal_holds_is_refused(
    real: Host, netns: str, write_profile: WriteProfile, tmp_path: Path
) -> None:
    """The namespace's own journal, the host's, and one of a process inside: one value."""
    before = values(real, netns)
    alone = replace(real, state=tmp_path / "state/netns" / netns)
    loaded = write_profile('[sysctl]\n"net.core.somaxconn" = 17')
    assert bench.apply(loaded, scene_of(alone, netns)).ok
    tuned = values(real, netns)
    with pytest.raises(IolabError, match=f"net.core.somaxconn in namespace {netns}: held") as told:
        bench.apply(write_profile('[sysctl]\n"net.core.somaxconn" = 18'), Scene(real, netns=netns))
    assert told.value.remedy == f"iolab tune revert --netns {netns}"
    for host in (real, alone):
        host.close()

    def apply_inside() -> None:
        with pytest.raises(IolabError, match=r"net\.core\.somaxconn: held by profile trial"):
            bench.apply(loaded, Scene(Host(HostExecutor(), state=tmp_path / "state")))

    inside(netns, apply_inside)
    assert journal.load(real.state) is None
    assert values(real, netns) == tuned
    real.close()
    other = write_profile('[sysctl]\n"net.ipv4.tcp_fin_timeout" = 33')
    assert bench.apply(other, Scene(real, netns=netns)).ok
    for host in (alone, real):
        assert [one for one in bench.revert(host) if one.problem] == []
        host.close()
    assert values(real, netns) == before


def test_of_two_that_begin_together_one_sees_the_other(
    real: Host,
    netns: str,
    write_profile: WriteProfile,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The other one comes between the reading of the old values and the first write."""
    before = values(real, netns)
    alone = replace(real, state=tmp_path / "state/netns" / netns)
    loaded = write_profile('[sysctl]\n"net.core.somaxconn" = 17')
    create = journal.Journal.create

    def late(*args: Any) -> journal.Journal:
        monkeypatch.setattr(journal.Journal, "create", create)
        assert bench.apply(loaded, scene_of(alone, netns)).ok
        return create(*args)

    monkeypatch.setattr(journal.Journal, "create", late)
    with pytest.raises(IolabError, match="held by profile trial"):
        bench.apply(loaded, Scene(real, netns=netns))
    assert journal.load(real.state) is None
    bench.revert(alone)
    alone.close()
    assert values(real, netns) == before


@pytest.mark.parametrize(
    ("family", "address", "gateway"),
    [("-4", "192.0.2.1/24", "192.0.2.9"), ("-6", "2001:db8::1/64", "2001:db8::9")],
)
def test_the_default_route_is_that_of_the_namespace(
    real: Host, netns: str, family: str, address: str, gateway: str
) -> None:
    assert default_interface(real.tree(netns)) is None
    for command in (
        ("address", "add", address, "dev", "v1", *(("nodad",) if family == "-6" else ())),
        ("route", "add", "default", "via", gateway, "metric", "300"),
        ("route", "add", "default", "dev", "v0", "metric", "200"),
        ("route", "add", "unreachable", "default", "metric", "100"),
    ):
        done = ip("-n", netns, family, *command)
        if done.returncode != 0:
            pytest.skip(f"ip {family} {' '.join(command)}: {done.stderr.strip()}")
    assert Scene(real, netns=netns).nic(None, "nic.channels").name == "v0"
