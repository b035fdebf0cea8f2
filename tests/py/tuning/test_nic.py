"""The queues and interrupts of an interface, found by what its driver calls them."""

from __future__ import annotations

import pytest
from fakehost import FakeHost

from iolab.tuning.nic import queue_of, read_nic


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
