"""What single families know beyond reading and writing."""

from __future__ import annotations

import errno
import fcntl
import os
import re
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from fakehost import PID, FakeHost, WriteProfile, in_child, refuse, snapshot, was_killed
from faketools import load, put, save

from iolab.errors import IolabError
from iolab.executor import HostExecutor, ProcessError
from iolab.tuning import bench, hold
from iolab.tuning.families.sysctl import path_of
from iolab.tuning.host import Host, find_tool
from iolab.tuning.knob import Outcome
from iolab.tuning.nic import queue_of, read_nic
from iolab.tuning.placement import place
from iolab.tuning.profile import Coalesce, load_profile
from iolab.tuning.scene import Scene, calling_shell


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("net.core.somaxconn", "proc/sys/net/core/somaxconn"),
        ("net/core/somaxconn", "proc/sys/net/core/somaxconn"),
        ("net.ipv4.conf.eth0/100.rp_filter", "proc/sys/net/ipv4/conf/eth0.100/rp_filter"),
        ("net/ipv4/conf/eth0.100/rp_filter", "proc/sys/net/ipv4/conf/eth0.100/rp_filter"),
    ],
)
def test_sysctl_names(name: str, path: str) -> None:
    assert path_of(name) == path


def test_virtio_has_its_node_and_interrupts_one_level_up(host: FakeHost) -> None:
    nic = read_nic(host, host.topology(), "eth0")
    assert nic is not None
    assert nic.node == 1
    assert nic.rx == nic.tx == (0, 1, 2, 3)
    assert [irq.name for irq in nic.irqs[:3]] == [
        "virtio2-input.0",
        "virtio2-output.0",
        "virtio2-input.1",
    ]
    assert 40 not in {irq.number for irq in nic.irqs}  # its config interrupt serves no queue


@pytest.mark.parametrize(
    ("name", "queue"),
    [
        ("virtio2-output.3", 3),
        ("eth0-TxRx-12", 12),
        ("mlx5_comp7@pci:0000:81:00.0", 7),
        ("i40e-eth0-TxRx-1", 1),
        ("eth0-fp-2", 2),
        ("eth0-ntfy-block.5", 5),
        ("gve-ntfy-blk4@pci:0000:00:04.0", 4),
        ("eth0-0", 0),
        ("enp1s0f0-9", 9),
        ("mlx4-2@0000:81:00.0", 2),
        ("mlx4-async@pci:0000:81:00.0", None),
        ("mlx5_async0@pci:0000:81:00.0", None),
        ("virtio2-config", None),
        ("gve-mgmnt@pci:0000:00:04.0", None),
        ("ice-0000:18:00.0:misc", None),
    ],
)
def test_queues_are_known_by_the_names_that_drivers_give(name: str, queue: int | None) -> None:
    assert queue_of(name) == queue


def test_tools_of_administrators_are_found_without_their_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after plain `su`, which keeps the PATH of the user."""
    tool = tmp_path / "iolab-sometool"
    tool.write_text("#!/bin/sh\necho here $1\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    monkeypatch.setattr("iolab.tuning.host._SBIN", (str(tmp_path),))
    with HostExecutor() as executor:
        host = Host(executor, state=tmp_path / "state")
        assert host.has_tool("iolab-sometool")
        assert not host.has_tool("iolab-nosuchtool")
        assert host.run(["iolab-sometool", "x"]).stdout == "here x\n"


def test_a_stale_effective_affinity_is_said_and_no_failure(
    host: FakeHost, scene: Scene, write_profile: WriteProfile
) -> None:
    applied = bench.apply(write_profile('[irq]\npolicy = "local-node"'), scene)
    assert applied.ok
    reasons = {one.knob: one.reason for one in applied.results}
    assert "still delivered to CPU 1 until the next" in reasons["affinity of 41 (virtio2-input.0)"]


@pytest.mark.parametrize("error", [errno.EIO, errno.EPERM])
def test_managed_interrupts_refuse_and_nothing_stays(
    machine: Path, host: FakeHost, scene: Scene, write_profile: WriteProfile, error: int
) -> None:
    before = snapshot(machine)
    host.rules["proc/irq/44/smp_affinity_list"] = refuse(error)
    applied = bench.apply(write_profile('[irq]\npolicy = "local-node"'), scene)
    assert not applied.kept
    assert "the kernel manages" in applied.results[-1].reason
    assert snapshot(machine) == before


def test_an_optional_policy_leaves_managed_interrupts_alone(
    machine: Path, host: FakeHost, scene: Scene, write_profile: WriteProfile
) -> None:
    before = snapshot(machine)
    host.rules["proc/irq/44/smp_affinity_list"] = refuse(errno.EIO)
    applied = bench.apply(write_profile('optional = ["irq.*"]\n[irq]\npolicy = "all"'), scene)
    assert applied.ok
    refused = [one for one in applied.results if one.outcome is Outcome.REFUSED]
    assert [one.knob for one in refused] == ["affinity of 44 (virtio2-output.1)"]
    assert all(one.good for one in bench.verify(host))
    bench.revert(host)
    assert snapshot(machine) == before


def test_a_managed_interrupt_is_known_by_its_file(
    machine: Path, host: FakeHost, scene: Scene, write_profile: WriteProfile
) -> None:
    (machine / "proc/irq/44/smp_affinity_list").chmod(0o444)
    with pytest.raises(IolabError, match=r"44 \(virtio2-output.1\): .*kernel manages") as caught:
        bench.apply(write_profile('[irq]\npolicy = "all"'), scene)
    assert "as root?" not in str(caught.value)
    assert host.changes == 0


def renumber(machine: Path, numbers: dict[int, int]) -> None:
    """The driver has asked for its vectors anew: their names keep, their numbers do not.

    Numbers that are not its own any more belong to a disk.
    """
    lines = (machine / "proc/interrupts").read_text().splitlines()
    msi = machine / "sys/devices/pci0000:00/0000:00:03.0/msi_irqs"
    for old, new in numbers.items():
        name = next(line.split()[-1] for line in lines if line.startswith(f" {old}:"))
        affinity = (machine / f"proc/irq/{old}/smp_affinity_list").read_text()
        put(machine, f"proc/irq/{new}/smp_affinity_list", affinity.strip())
        lines.append(f" {new}:  0 0 0 0 PCI-MSIX-0000:00:03.0 0-edge {name}")
        (msi / str(old)).rename(msi / str(new))
    gone = tuple(f" {old}:" for old in numbers)
    lines = [f"{line[:4]} 0 0 0 0 disk" if line.startswith(gone) else line for line in lines]
    put(machine, "proc/interrupts", "\n".join(lines))


def test_an_interrupt_is_found_again_by_device_and_name(
    machine: Path, host: FakeHost, scene: Scene, write_profile: WriteProfile
) -> None:
    assert bench.apply(write_profile('[irq]\npolicy = "local-node"'), scene).ok
    renumber(machine, {41: 61, 42: 62})
    put(machine, "proc/irq/41/smp_affinity_list", "0-3")
    assert all(one.good for one in bench.verify(host))
    assert [one for one in bench.revert(host) if one.problem] == []
    assert (machine / "proc/irq/61/smp_affinity_list").read_text() == "1\n"
    assert (machine / "proc/irq/62/smp_affinity_list").read_text() == "2\n"
    assert (machine / "proc/irq/41/smp_affinity_list").read_text() == "0-3\n"  # the disk's


def test_an_interrupt_that_a_rename_of_the_interface_renamed_is_the_same(
    machine: Path, host: FakeHost, scene: Scene, write_profile: WriteProfile
) -> None:
    before = snapshot(machine)
    assert bench.apply(write_profile('[irq]\npolicy = "local-node"'), scene).ok
    text = (machine / "proc/interrupts").read_text()
    (machine / "proc/interrupts").write_text(text.replace("virtio2-", "lan0-"))
    assert [one for one in bench.revert(host) if one.problem] == []
    (machine / "proc/interrupts").write_text(text)
    assert snapshot(machine) == before


def test_flow_counts_are_inert_without_the_global_table(
    machine: Path, host: FakeHost, scene: Scene, write_profile: WriteProfile
) -> None:
    applied = bench.apply(write_profile("[steering]\nrfs_entries = 4096"), scene)
    assert {one.effective for one in applied.results} == {"4096", "1024"}
    (machine / "proc/sys/net/core/rps_sock_flow_entries").write_text("0\n")
    found = bench.verify(host)
    assert found[0].outcome is Outcome.IGNORED
    assert all("inert" in one.reason for one in found[1:])


def test_fq_as_root_replaces_mq_and_mq_fq_keeps_it(
    machine: Path, host: FakeHost, scene: Scene, write_profile: WriteProfile
) -> None:
    before = snapshot(machine)
    bench.apply(write_profile('[nic]\nqdisc = "fq"'), scene)
    assert load(machine)["root"] == "fq"
    bench.revert(host)
    assert snapshot(machine) == before
    bench.apply(write_profile('[nic]\nqdisc = "mq/fq"'), scene)
    assert load(machine)["leaves"] == ["fq"] * 4
    bench.revert(host)
    assert snapshot(machine) == before


def test_a_root_made_by_hand_is_not_touched(
    machine: Path, host: FakeHost, scene: Scene, write_profile: WriteProfile
) -> None:
    save(machine, {**load(machine), "root": "htb", "handle": "1:"})
    with pytest.raises(IolabError, match="set by hand"):
        bench.apply(write_profile('[nic]\nqdisc = "fq"'), scene)


def test_a_hash_key_of_the_wrong_length_is_refused(
    machine: Path, scene: Scene, write_profile: WriteProfile
) -> None:
    before = snapshot(machine)
    applied = bench.apply(write_profile('[nic.rss]\nhash_key = "01:02"'), scene)
    assert applied.results[0].outcome is Outcome.REFUSED
    assert "Invalid hkey length" in applied.results[0].reason
    assert snapshot(machine) == before


def test_a_group_of_offloads_comes_back_member_by_member(
    machine: Path, host: FakeHost, scene: Scene, write_profile: WriteProfile
) -> None:
    before = snapshot(machine)
    assert bench.apply(write_profile("[nic.offloads]\ntso = false"), scene).ok
    features = load(machine)["features"]
    assert "on" not in {value for name, value in features.items() if name.startswith("tx-tcp")}
    bench.revert(host)
    assert snapshot(machine) == before


def test_a_group_that_is_on_in_part_is_switched_on_whole(
    machine: Path, scene: Scene, write_profile: WriteProfile
) -> None:
    state = load(machine)
    state["features"]["tx-tcp6-segmentation"] = "off"
    save(machine, state)
    applied = bench.apply(write_profile("[nic.offloads]\ntso = true"), scene)
    assert applied.ok
    features = load(machine)["features"]
    assert features["tx-tcp6-segmentation"] == "on"
    assert features["tx-tcp-mangleid-segmentation"] == "off"  # only its own name asks for it


def called_by(machine: Path, *processes: tuple[int, str, int, int]) -> None:
    """Processes above iolab: id, name, parent, session."""
    for pid, name, parent, session in processes:
        (machine / f"proc/{pid}").mkdir(exist_ok=True)
        text = f"{pid} ({name}) S {parent} {pid} {session} {' '.join(['1'] * 46)}\n"
        (machine / f"proc/{pid}/stat").write_text(text)


def test_every_parameter_of_coalescing_is_read_by_the_name_it_is_shown_under(
    machine: Path, host: FakeHost, scene: Scene, write_profile: WriteProfile
) -> None:
    before = snapshot(machine)
    wanted = {
        "adaptive_rx": "true", "cqe_mode_rx": "true", "rx_usecs_irq": "5", "rx_frames_low": "4",
        "pkt_rate_low": "5000", "sample_interval": "2",
    }  # fmt: skip
    lines = "\n".join(f"{name} = {value}" for name, value in wanted.items())
    applied = bench.apply(write_profile(f"[nic.coalesce]\n{lines}"), scene)
    assert applied.ok, [one for one in applied.results if not one.good]
    values = load(machine)["coalesce"]
    assert {name: values[name.replace("_", "-")] for name in wanted} == {
        name: value.replace("true", "on") for name, value in wanted.items()
    }
    bench.revert(host)
    assert snapshot(machine) == before


def test_profiles_have_all_parameters_that_ethtool_sets() -> None:
    if find_tool("ethtool") is None:
        pytest.skip("ethtool is not installed")
    with HostExecutor() as executor:
        text = executor.run([str(find_tool("ethtool")), "-h"], timeout_s=30.0).stdout
    section = text.partition("--coalesce")[2].partition("--show-ring")[0]
    names = re.findall(r"\[ *([\w-]+) +(?:on\|off|N) *\]", section)
    assert len(names) > 20
    assert {name.replace("-", "_") for name in names} <= set(Coalesce.model_fields)


def test_limits_go_past_sudo_to_the_shell(
    machine: Path, host: FakeHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    # sudo with use_pty runs its command in a session of its own.
    called_by(machine, (20, "sudo", 19, 20), (19, "sudo", PID, PID), (PID, "bash", 1, PID))
    monkeypatch.setattr("os.getppid", lambda: 20)
    monkeypatch.setattr("os.getsid", lambda pid: 20)
    assert calling_shell(host.tree()) == PID


@pytest.mark.parametrize("parent", [(0, "", 0, 0), (1, "systemd", 0, 1), (77, "cron", 1, 77)])
def test_limits_are_not_set_on_a_daemon(
    machine: Path,
    host: FakeHost,
    write_profile: WriteProfile,
    monkeypatch: pytest.MonkeyPatch,
    parent: tuple[int, str, int, int],
) -> None:
    if parent[0]:
        called_by(machine, parent)
    monkeypatch.setattr("os.getppid", lambda: parent[0])
    monkeypatch.setattr("os.getsid", lambda pid: 500)
    scene = Scene(host, limits_pid=calling_shell(host.tree()))
    with pytest.raises(IolabError, match=r"limits\.nofile: .*no process of this session"):
        bench.apply(write_profile("[limits]\nnofile = 1048576"), scene)
    assert host.changes == 0
    optional = write_profile('optional = ["limits.*"]\n[limits]\nnofile = 1048576')
    (result,) = bench.apply(optional, scene).results
    assert result.outcome is Outcome.UNAVAILABLE


def test_many_descriptors_take_where_systemd_raised_the_bound(
    machine: Path, host: FakeHost, scene: Scene
) -> None:
    """A hard limit above fs.nr_open is refused by prlimit(2), even one that was there before."""
    (machine / "proc/sys/fs/nr_open").write_text("1073741816\n")
    host.prlimit(PID, "nofile", 1024, 1073741816)
    room = Path(__file__).resolve().parents[3] / "tuning/profiles"
    applied = bench.apply(load_profile(room, "many-connections"), scene)
    assert applied.ok, [one for one in applied.results if not one.good]
    assert (machine / "proc/sys/fs/nr_open").read_text() == "1073741816\n"


def test_a_lower_limit_leaves_the_hard_one(
    machine: Path, host: FakeHost, scene: Scene, write_profile: WriteProfile
) -> None:
    (result,) = bench.apply(write_profile("[limits]\nnofile = 512"), scene).results
    assert result.effective == "512 4096"
    assert f"process {PID} (bash)" in result.knob


def test_a_process_holds_the_idle_latency_until_the_revert(
    host: FakeHost, scene: Scene, write_profile: WriteProfile
) -> None:
    applied = bench.apply(write_profile("[cpu]\nlatency_usec = 1"), scene)
    holder = hold.living(host.state)
    assert applied.ok
    assert holder is not None
    assert holder.usec == 1
    opened = {str(one.readlink()) for one in Path(f"/proc/{holder.pid}/fd").iterdir()}
    assert "/dev/null" in opened  # what stands for the device here
    assert all(one.good for one in bench.verify(host))
    bench.revert(host)
    assert hold.living(host.state) is None


@pytest.mark.parametrize(
    ("effective", "found", "words"),
    [(2_000_000_000, "2000000000", ""), (0, "5", "another process asks for 0")],
)
def test_the_latency_in_force_is_read_from_the_device(
    machine: Path,
    host: FakeHost,
    scene: Scene,
    write_profile: WriteProfile,
    effective: int,
    found: str,
    words: str,
) -> None:
    device = machine / "dev/cpu_dma_latency"
    device.unlink()
    device.write_bytes(struct.pack("=i", 2_000_000_000))
    assert bench.apply(write_profile("[cpu]\nlatency_usec = 5"), scene).ok
    assert device.read_bytes() == struct.pack("=i", 5)
    device.write_bytes(struct.pack("=i", effective))
    (result,) = bench.verify(host)
    assert result.effective == found
    assert result.good is (found == "5")
    assert words in result.reason


def test_a_holder_that_was_killed_is_drift(
    host: FakeHost, scene: Scene, write_profile: WriteProfile
) -> None:
    bench.apply(write_profile("[cpu]\nlatency_usec = 1"), scene)
    holder = hold.living(host.state)
    assert holder is not None
    os.kill(holder.pid, 9)
    with (host.state / hold.FILE).open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # free once it has ended
    (found,) = bench.verify(host)
    assert (found.outcome, found.effective) == (Outcome.IGNORED, "none")
    assert [one.problem for one in bench.revert(host)] == [""]


class Dying(HostExecutor):
    """Dies by SIGKILL with a process detached, before or after that is ready.

    The process's id goes to `note`.
    """

    ready = True
    note = Path()

    def detach(self, argv: Sequence[str], *, timeout_s: float = 10.0) -> int:
        if self.ready:
            pid = super().detach(argv)
        else:
            quiet = subprocess.DEVNULL
            pid = subprocess.Popen(argv, start_new_session=True, stdout=quiet, stderr=quiet).pid
        self.note.write_text(str(pid))
        os.kill(os.getpid(), signal.SIGKILL)
        return 0


def wait_for_end(pid: int) -> None:
    """Returns when there is no such process, or only what its new parent has to reap."""
    for _ in range(2000):
        try:
            text = Path(f"/proc/{pid}/stat").read_text()
        except OSError:
            return
        if text.rpartition(")")[2].split()[0] in "ZX":
            return
        time.sleep(0.01)
    pytest.fail(f"process {pid} lives on")


@pytest.mark.parametrize("ready", [True, False])
def test_a_holder_whose_starter_was_killed_is_ended(
    tmp_path: Path, host: FakeHost, scene: Scene, write_profile: WriteProfile, ready: bool
) -> None:
    note = tmp_path / "pid"
    loaded = write_profile("[cpu]\nlatency_usec = 1")

    def work() -> None:
        host.executor = executor = Dying()
        executor.ready, executor.note = ready, note
        bench.apply(loaded, scene)

    assert was_killed(in_child(work))
    assert ready is False or hold.living(host.state) is not None
    assert [one.problem for one in bench.revert(host) if one.problem] == []
    wait_for_end(int(note.read_text()))


def test_a_holder_without_a_journal_ends_at_once(tmp_path: Path) -> None:
    argv = [sys.executable, hold.__file__, "/dev/null", str(tmp_path), "1"]
    with HostExecutor() as executor, pytest.raises(ProcessError, match="reverted meanwhile"):
        executor.detach([*argv, str(tmp_path / "journal.jsonl")])


def test_a_device_that_refuses_leaves_no_holder(
    machine: Path, host: FakeHost, scene: Scene, write_profile: WriteProfile
) -> None:
    (machine / "dev/cpu_dma_latency").unlink()
    (machine / "dev/cpu_dma_latency").symlink_to("/dev/full")
    applied = bench.apply(write_profile("[cpu]\nlatency_usec = 1"), scene)
    assert not applied.kept
    assert "No space left on device" in applied.results[0].reason
    assert hold.living(host.state) is None


def test_placement_follows_the_interface(scene: Scene, write_profile: WriteProfile) -> None:
    loaded = write_profile('[placement]\nserver = "nic-node"\nclient = "other-node"')
    sides = place(loaded.profile, scene)
    assert sides["server"].command() == "numactl --physcpubind=2-3 --membind=1"
    assert sides["client"].command() == "numactl --physcpubind=0-1 --membind=0"


def test_single_files_of_a_queue_take_their_value_and_give_it_back(
    machine: Path, scene: Scene, write_profile: WriteProfile
) -> None:
    before = snapshot(machine)
    mask, queue = "queues/rx-1/rps_cpus", machine / "sys/class/net/eth0/queues/rx-1/rps_cpus"
    applied = bench.apply(write_profile(f'[nic.files]\n"{mask}" = "00000005"'), scene)
    assert [(one.knob, one.outcome) for one in applied.results] == [
        (f"{mask} of eth0", Outcome.EXACT)
    ]
    assert int(queue.read_text(), 16) == 5
    bench.revert(scene.host)
    assert snapshot(machine) == before


def test_a_file_of_a_queue_that_is_not_there_is_said(
    scene: Scene, write_profile: WriteProfile
) -> None:
    loaded = write_profile('[nic.files]\n"queues/rx-7/rps_cpus" = "1"')
    with pytest.raises(IolabError, match=r"rx-7/rps_cpus: this kernel or device has no such file"):
        bench.apply(loaded, scene)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('[nic.files]\n"mtu" = 9000', "expected a file such as"),
        ('[nic.files]\n"../eth1/tx_queue_len" = 1', "expected a file such as"),
        ('[nic.files]\n"tx_queue_len" = true', "expected a number"),
        (
            '[steering]\nxps = "all"\n[nic.files]\n"queues/tx-0/xps_rxqs" = "1"',
            "set by steering.xps as well",
        ),
    ],
)
def test_files_that_no_profile_may_set_are_refused(
    write_profile: WriteProfile, text: str, words: str
) -> None:
    with pytest.raises(IolabError, match=words):
        write_profile(text)
