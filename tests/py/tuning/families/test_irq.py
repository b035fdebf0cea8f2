"""Affinities of interrupts: those that the kernel manages, and those that change their numbers."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest
from fakehost import FakeHost, WriteProfile, refuse, snapshot
from faketools import put

from iolab.errors import IolabError
from iolab.tuning import bench
from iolab.tuning.knob import Outcome
from iolab.tuning.scene import Scene


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
