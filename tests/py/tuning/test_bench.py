"""Apply, verify, revert on a machine of files: exact, all or nothing, and after any SIGKILL."""

from __future__ import annotations

import errno
from functools import partial
from pathlib import Path

import pytest
from fakehost import (
    PID,
    FakeHost,
    Rule,
    WriteProfile,
    clamp,
    ignore,
    in_child,
    make,
    refuse,
    snapshot,
    was_killed,
)
from faketools import load

from iolab.errors import IolabError
from iolab.tuning import bench, journal
from iolab.tuning.knob import Outcome
from iolab.tuning.leftovers import leftover
from iolab.tuning.lock import busy, locked
from iolab.tuning.profile import Loaded
from iolab.tuning.scene import Scene

EVERYTHING = """
[sysctl]
"net.core.default_qdisc" = "fq"
"net.core.somaxconn" = 65535
"net.ipv4.tcp_rmem" = "4096 131072 16777216"
[limits]
nofile = 1048576
memlock_bytes = "unlimited"
[nic]
channels = "per-core"
rx_ring = "max"
tx_ring = 512
ntuple = true
qdisc = "mq/fq"
[nic.coalesce]
adaptive_rx = true
rx_usecs = 0
[nic.offloads]
gro = true
tso = false
[nic.rss]
indirection = 1
hash_key = "01:02:03:04"
[nic.flow_hash]
tcp4 = "sdfn"
[steering]
rps = "local-node"
rfs_entries = 4096
xps = "one-per-queue"
[irq]
policy = "local-node"
[cpu]
governor = "performance"
energy_preference = "performance"
turbo = false
smt = false
[memory]
thp = "never"
thp_defrag = "defer"
hugepages_2m = 65
numa_balancing = false
"""
"""Every family but idle, which starts a process and has its own tests."""


def text(machine: Path, where: str) -> str:
    return (machine / where).read_text().strip()


def test_everything_takes_and_comes_back(
    machine: Path, host: FakeHost, scene: Scene, write_profile: WriteProfile
) -> None:
    before = snapshot(machine)
    applied = bench.apply(write_profile(EVERYTHING), scene)
    assert applied.ok, [one for one in applied.results if not one.good]
    assert text(machine, "proc/sys/net/ipv4/tcp_rmem") == "4096\t131072\t16777216"
    assert text(machine, "sys/kernel/mm/transparent_hugepage/enabled") == "always madvise [never]"
    pages = "hugepages/hugepages-2048kB/nr_hugepages"
    assert text(machine, f"sys/devices/system/node/node0/{pages}") == "33"
    assert text(machine, f"sys/devices/system/node/node1/{pages}") == "32"
    # The NIC's node has two cores, so two of the four queues remain, and its CPUs are 2 and 3.
    assert load(machine)["channels"] == 2
    assert load(machine)["leaves"] == ["fq", "fq"]
    queues = "sys/class/net/eth0/queues"
    assert text(machine, f"{queues}/rx-1/rps_cpus") == "c"
    assert text(machine, f"{queues}/rx-1/rps_flow_cnt") == "2048"
    assert text(machine, f"{queues}/tx-0/xps_cpus") == "5"  # CPU 2 of the node, then CPU 0
    assert text(machine, "proc/irq/41/smp_affinity_list") == "2"
    assert text(machine, "proc/irq/44/smp_affinity_list") == "3"
    assert all(result.good for result in bench.verify(host))
    assert all(not one.problem for one in bench.revert(host))
    assert snapshot(machine) == before
    assert journal.load(host.state) is None


def count_changes(machine: Path, state: Path, loaded: Loaded) -> int:
    host = make(machine, state)
    assert bench.apply(loaded, Scene(host, limits_pid=PID)).ok
    changes = host.changes
    bench.revert(host)
    return changes


def killed_at(machine: Path, state: Path, loaded: Loaded, change: int) -> None:
    """Applies in a child, which dies by SIGKILL as its n-th change is made."""

    def work() -> None:
        host = make(machine, state)
        host.kill_after = change
        bench.apply(loaded, Scene(host, limits_pid=PID))

    assert was_killed(in_child(work))


def test_the_journal_is_on_disk_before_the_first_write(
    host: FakeHost,
    scene: Scene,
    write_profile: WriteProfile,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    order: list[str] = []

    def sync(handle: int) -> None:
        order.append(Path(f"/proc/self/fd/{handle}").readlink().name)

    def rule(old: str, new: str) -> str:
        order.append("write")
        return new

    monkeypatch.setattr("os.fsync", sync)
    host.rules["proc/sys/net/core/somaxconn"] = rule
    bench.apply(write_profile('[sysctl]\n"net.core.somaxconn" = 65535'), scene)
    # The whole under its temporary name, its new name, the announcement; then the write.
    assert order[:4] == ["journal.tmp", "state", "journal.jsonl", "write"]


@pytest.fixture
def unsynced(monkeypatch: pytest.MonkeyPatch) -> None:
    """SIGKILL loses nothing that was written; syncing is for a loss of power, and is slow."""
    monkeypatch.setattr("os.fsync", lambda handle: None)


@pytest.mark.usefixtures("unsynced")
def test_a_kill_after_each_write_leaves_nothing_behind(
    machine: Path, tmp_path: Path, write_profile: WriteProfile
) -> None:
    loaded, state = write_profile(EVERYTHING), tmp_path / "state"
    before = snapshot(machine)
    changes = count_changes(machine, state, loaded)
    assert changes > 40
    assert snapshot(machine) == before
    for change in range(1, changes + 1):
        killed_at(machine, state, loaded, change)
        assert snapshot(machine) != before
        left = leftover(make(machine, state))
        assert left is not None
        assert "trial" in left
        host = make(machine, state)
        assert [one for one in bench.revert(host) if one.problem] == []
        assert snapshot(machine) == before, f"killed at change {change}"
        assert leftover(make(machine, state)) is None


@pytest.mark.usefixtures("unsynced")
def test_a_kill_during_revert_is_made_good_by_the_next(
    machine: Path, tmp_path: Path, write_profile: WriteProfile
) -> None:
    loaded, state = write_profile(EVERYTHING), tmp_path / "state"
    before = snapshot(machine)
    for change in range(1, 200):
        host = make(machine, state)
        assert bench.apply(loaded, Scene(host, limits_pid=PID)).ok
        host.kill_after, host.changes = change, 0
        cut_short = was_killed(in_child(partial(bench.revert, host)))
        bench.revert(make(machine, state))
        assert snapshot(machine) == before, f"killed at change {change} of the revert"
        if not cut_short:
            return
    pytest.fail("the revert never ended")


def test_a_torn_event_is_ignored(
    machine: Path, host: FakeHost, scene: Scene, write_profile: WriteProfile
) -> None:
    before = snapshot(machine)
    bench.apply(write_profile(EVERYTHING), scene)
    with (host.state / "journal.jsonl").open("a") as file:
        file.write('{"event": "beg')
    bench.revert(host)
    assert snapshot(machine) == before


@pytest.mark.parametrize(
    ("rule", "outcome", "effective"),
    [
        (refuse(errno.EINVAL), Outcome.REFUSED, None),
        (refuse(errno.EPERM), Outcome.REFUSED, None),
        (refuse(errno.EOVERFLOW), Outcome.REFUSED, None),
        (clamp(128, 50_000), Outcome.CLAMPED, "50000"),
        (ignore, Outcome.IGNORED, "4096"),
    ],
)
@pytest.mark.parametrize("keep", [False, True])
def test_a_knob_that_does_not_take_undoes_all_unless_partial(
    machine: Path,
    host: FakeHost,
    scene: Scene,
    write_profile: WriteProfile,
    rule: Rule,
    outcome: Outcome,
    effective: str | None,
    keep: bool,
) -> None:
    before = snapshot(machine)
    host.rules["proc/sys/net/core/somaxconn"] = rule
    loaded = write_profile(
        '[sysctl]\n"net.core.busy_poll" = 50\n"net.core.somaxconn" = 65535\n'
        '"net.core.busy_read" = 50'
    )
    applied = bench.apply(loaded, scene, partial=keep)
    bad = {one.knob: one for one in applied.results if not one.good}
    assert set(bad) == {"net.core.somaxconn"}
    found = bad["net.core.somaxconn"]
    assert (found.outcome, found.effective, found.requested) == (outcome, effective, "65535")
    assert "trial.toml: sysctl.net.core.somaxconn" in found.place
    assert applied.kept is keep
    assert not applied.ok
    if keep:
        assert text(machine, "proc/sys/net/core/busy_read") == "50"
        assert [one.knob for one in bench.verify(host) if not one.good] == ["net.core.somaxconn"]
        bench.revert(host)
    assert snapshot(machine) == before
    assert journal.load(host.state) is None


def test_a_tool_that_rounds_is_reported_with_both_values(
    machine: Path, host: FakeHost, scene: Scene, write_profile: WriteProfile
) -> None:
    before = snapshot(machine)
    applied = bench.apply(write_profile("[nic]\nrx_ring = 500"), scene)
    (result,) = applied.results
    assert (result.outcome, result.requested, result.effective) == (Outcome.CLAMPED, "500", "512")
    assert not applied.kept
    assert snapshot(machine) == before


@pytest.mark.parametrize(
    ("profile", "words"),
    [
        ('[sysctl]\n"net.core.nonsense" = 1', ("sysctl.net.core.nonsense", "no such file")),
        ("[nic.offloads]\nlro = true", ("nic.offloads.lro", "fixed by the driver")),
        ("[nic.offloads]\nwarp = true", ("nic.offloads.warp", "no feature")),
        ("[nic.coalesce]\nrx_frames = 1", ("nic.coalesce.rx_frames", "has no rx-frames")),
        ("[nic.flow_hash]\nudp4 = 'sd'", ("nic.flow_hash.udp4", "not supported")),
    ],
)
def test_what_the_host_lacks_is_said_and_nothing_is_written(
    machine: Path,
    host: FakeHost,
    scene: Scene,
    write_profile: WriteProfile,
    profile: str,
    words: tuple[str, ...],
) -> None:
    before = snapshot(machine)
    loaded = write_profile(profile + '\n[memory]\nthp = "never"')
    with pytest.raises(IolabError) as caught:
        bench.apply(loaded, scene)
    for word in ("trial.toml", "nothing was written", *words):
        assert word in str(caught.value)
    assert host.changes == 0
    assert snapshot(machine) == before
    assert journal.load(host.state) is None


def test_without_privilege_nothing_is_written(
    machine: Path,
    host: FakeHost,
    scene: Scene,
    write_profile: WriteProfile,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = snapshot(machine)
    monkeypatch.setattr("os.access", lambda path, mode: False)
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    with pytest.raises(IolabError, match=r"sysctl.net.core.somaxconn: .*not writable; as root\?"):
        bench.apply(write_profile('[sysctl]\n"net.core.somaxconn" = 65535'), scene)
    assert snapshot(machine) == before


def test_what_is_optional_may_be_missing(
    machine: Path, host: FakeHost, scene: Scene, write_profile: WriteProfile
) -> None:
    loaded = write_profile('optional = ["nic.offloads.*"]\n[nic.offloads]\nlro = true\ngro = true')
    applied = bench.apply(loaded, scene)
    assert applied.ok
    assert [one.outcome for one in applied.results] == [Outcome.UNAVAILABLE, Outcome.EXACT]
    assert all(one.good for one in bench.verify(host))


def test_drift_is_found_and_a_meddler_is_named(
    machine: Path, host: FakeHost, scene: Scene, write_profile: WriteProfile
) -> None:
    before = snapshot(machine)
    bench.apply(write_profile('[sysctl]\n"net.core.somaxconn" = 65535'), scene)
    (machine / "proc/sys/net/core/somaxconn").write_text("1000\n")
    (found,) = bench.verify(host)
    assert (found.outcome, found.effective) == (Outcome.CLAMPED, "1000")
    assert "was 65535" in found.reason
    (restored,) = bench.revert(host)
    assert "somebody else had changed it to 1000" in restored.note
    assert snapshot(machine) == before


def test_what_cannot_be_restored_keeps_the_journal(
    machine: Path, host: FakeHost, scene: Scene, write_profile: WriteProfile
) -> None:
    before = snapshot(machine)
    bench.apply(write_profile('[sysctl]\n"net.core.somaxconn" = 65535'), scene)
    host.rules["proc/sys/net/core/somaxconn"] = refuse(errno.EPERM)
    (restored,) = bench.revert(host)
    assert "EPERM" in restored.problem
    assert journal.load(host.state) is not None
    host.rules.clear()
    bench.revert(host)
    assert snapshot(machine) == before


def test_one_profile_at_a_time_and_one_iolab(
    host: FakeHost, scene: Scene, write_profile: WriteProfile
) -> None:
    loaded = write_profile('[sysctl]\n"net.core.somaxconn" = 65535')
    with locked(host.state):
        assert busy(host.state)
        with pytest.raises(IolabError, match="another iolab"):
            bench.apply(loaded, scene)
    bench.apply(loaded, scene)
    with pytest.raises(IolabError, match="profile trial is applied"):
        bench.apply(loaded, scene)
    bench.revert(host)
    assert bench.revert(host) == []


def reboot(machine: Path) -> None:
    (machine / "proc/sys/kernel/random/boot_id").write_text("another\n")


def test_after_a_reboot_there_is_nothing_to_restore(
    machine: Path, host: FakeHost, scene: Scene, write_profile: WriteProfile
) -> None:
    bench.apply(write_profile('[sysctl]\n"net.core.somaxconn" = 65535'), scene)
    assert [one.original for one in bench.preview(host)] == ["4096"]
    reboot(machine)
    assert bench.preview(host) == []
    with pytest.raises(IolabError, match=r"trial is not applied any more: .* with an earlier boot"):
        bench.verify(host)
    assert bench.revert(host) == []
    assert text(machine, "proc/sys/net/core/somaxconn") == "65535"
    assert journal.load(host.state) is None


def test_after_a_reboot_another_profile_can_be_applied(
    machine: Path, host: FakeHost, scene: Scene, write_profile: WriteProfile
) -> None:
    loaded = write_profile('[sysctl]\n"net.core.somaxconn" = 65535')
    bench.apply(loaded, scene)
    # A reboot takes the values with it, and a journal cut short is no leftover then.
    (machine / "proc/sys/net/core/somaxconn").write_text("128\n")
    reboot(machine)
    assert leftover(host) is None
    assert bench.apply(loaded, scene).ok
    bench.revert(host)
    assert text(machine, "proc/sys/net/core/somaxconn") == "128"


def test_a_process_that_ended_took_its_limits_along(
    machine: Path, host: FakeHost, scene: Scene, write_profile: WriteProfile
) -> None:
    bench.apply(write_profile("[limits]\nnofile = 1048576"), scene)
    assert "1048576" in text(machine, f"proc/{PID}/limits")
    (machine / f"proc/{PID}/stat").write_text(f"{PID} (other) S {' '.join(['9'] * 49)}\n")
    assert [one.problem for one in bench.revert(host)] == [""]
    assert journal.load(host.state) is None


def test_revert_goes_backwards(host: FakeHost, scene: Scene, write_profile: WriteProfile) -> None:
    order: list[str] = []

    def noting(name: str) -> Rule:
        return lambda old, new: order.append(name) or new  # type: ignore[func-returns-value]

    names = ("busy_poll", "busy_read", "somaxconn")
    for name in names:
        host.rules[f"proc/sys/net/core/{name}"] = noting(name)
    lines = "\n".join(f'"net.core.{name}" = 50' for name in names)
    bench.apply(write_profile(f"[sysctl]\n{lines}"), scene)
    assert order == [*names]
    bench.revert(host)
    assert order == [*names, *reversed(names)]
