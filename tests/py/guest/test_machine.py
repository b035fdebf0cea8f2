from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from iolab.guest.machine import Machine, command, qemu
from iolab.guest.parts import Parts


@pytest.fixture
def machine(parts: Parts) -> Machine:
    return Machine(parts, Path("/i.cpio"), Path("/s,hare"), Path("/log"))


def values(argv: list[str], option: str) -> list[str]:
    """What follows each occurrence of an option."""
    return [argv[i + 1] for i, word in enumerate(argv) if word == option]


def test_the_hosts_files_are_read_only_and_only_the_share_is_not(machine: Machine) -> None:
    host, share = values(qemu(machine), "-fsdev")
    assert "path=/," in host
    assert host.endswith(",readonly=on")
    assert "path=/s,,hare," in share
    assert "readonly" not in share


def test_the_nic_has_four_queue_pairs_on_the_second_node(machine: Machine) -> None:
    argv = qemu(machine)
    devices = values(argv, "-device")
    assert any(one.startswith("pxb-pcie,") and "numa_node=1" in one for one in devices)
    (nic,) = [one for one in devices if one.startswith("virtio-net-pci,")]
    assert "bus=downstream," in nic
    for part in ("mq=on", "vectors=10", "rss=on", "hash=on", "romfile="):
        assert part in nic.split(",")
    assert "vhost=off,queues=4" in values(argv, "-netdev")[0]
    assert values(argv, "-smp") == ["4,sockets=2,cores=2,threads=1"]


def test_taps_live_in_a_namespace_that_ends_with_qemu(machine: Machine) -> None:
    argv = command(machine)
    assert argv[:3] == ["unshare", "--net", "--"]
    assert "--pdeathsig" in argv
    assert "ip tuntap add dev tap0 mode tap multi_queue" in argv[-1]
    assert " && exec " in argv[-1]
    assert command(replace(machine, user_namespace=True))[1:4] == [
        "--net", "--user", "--map-root-user",
    ]  # fmt: skip


def test_kvm_is_used_only_when_told(machine: Machine) -> None:
    assert values(qemu(machine), "-accel") == ["tcg,thread=multi"]
    assert values(qemu(replace(machine, kvm=True)), "-accel") == ["kvm"]


def test_a_terminal_is_a_second_serial_port(machine: Machine) -> None:
    assert len(values(qemu(machine), "-serial")) == 1
    with_terminal = replace(machine, terminal=Path("/t"))
    assert values(qemu(with_terminal), "-serial") == ["chardev:log", "chardev:terminal"]
