from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from iolab import manifest_diff, nicfacts
from iolab.executor import Completed, ProcessError
from iolab.fake_executor import FakeExecutor
from iolab.manifest import host_facts

CARD = {
    "-i": "driver: ice\nversion: 6.1.0\nfirmware-version: 4.20 0x8001\nexpansion-rom-version: \n",
    "-k": "Features for eth0:\nrx-checksumming: on [fixed]\n\ttx-tcp-segmentation: on\n"
          "generic-receive-offload: off [requested on]\n",
    "-g": "Ring parameters for eth0:\nPre-set maximums:\nRX:\t\t8160\nTX:\t\t8160\n"
          "Current hardware settings:\nRX:\t\t2048\nRX Mini:\tn/a\nTX:\t\t256\n",
    "-l": "Channel parameters for eth0:\nPre-set maximums:\nCombined:\t16\n"
          "Current hardware settings:\nRX:\t\tn/a\nCombined:\t4\n",
    "-c": "Coalesce parameters for eth0:\nAdaptive RX: on  TX: off\nrx-usecs: 50\nrx-frames: n/a\n"
          "CQE mode RX: n/a  TX: n/a\n",
}  # fmt: skip
LOOPBACK = {"-k": "Features for lo:\ngeneric-receive-offload: on\n"}
PAIR = {"-i": "driver: veth\nversion: 1.0\n"}
INTERRUPTS = """           CPU0       CPU1
 40:          1          0  PCI-MSIX-0000:81:00.0   0-edge      ice-eth0-TxRx-0
 41:          0          1  PCI-MSIX-0000:81:00.0   1-edge      ice-eth0-TxRx-1
 42:          0          1  PCI-MSIX-0000:82:00.0   0-edge      nvme0q1
NMI:          0          0   Non-maskable interrupts
"""


def put(root: Path, where: str, text: str) -> None:
    path = root / where
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{text}\n")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A machine with a card, the loopback device, and the end of a container's veth pair."""
    function = tmp_path / "sys/devices/pci0000:80/0000:81:00.0"
    for number in (40, 41):
        (function / f"msi_irqs/{number}").mkdir(parents=True)
        put(tmp_path, f"proc/irq/{number}/smp_affinity_list", f"{number - 40}")
    put(tmp_path, "proc/irq/42/smp_affinity_list", "0-1")
    put(tmp_path, "proc/interrupts", INTERRUPTS)
    for name in ("eth0", "lo", "veth12"):
        put(tmp_path, f"sys/class/net/{name}/mtu", "1500")
    (tmp_path / "sys/class/net/eth0/device").symlink_to(function)
    put(tmp_path, "sys/class/net/eth0/queues/rx-0/rps_cpus", "3")
    put(tmp_path, "sys/class/net/eth0/queues/rx-1/rps_cpus", "0")
    put(tmp_path, "sys/class/net/eth0/queues/tx-0/xps_cpus", "00000000,00000001")
    return tmp_path


def machine(monkeypatch: pytest.MonkeyPatch, **changes: dict[str, str]) -> FakeExecutor:
    """A machine whose ethtool says this of each interface, and nothing of what it does not know."""
    said = {"eth0": CARD, "lo": LOOPBACK, "veth12": PAIR, **changes}
    monkeypatch.setattr(nicfacts, "find_tool", lambda name: f"/sbin/{name}")

    def run(argv: Sequence[str]) -> Completed:
        tool, flag, name = argv
        assert tool == "/sbin/ethtool"
        text = said[name].get(flag)
        return Completed(tuple(argv), 0 if text else 95, text or "", "Operation not supported")

    return FakeExecutor(run=run)


def facts(root: Path, executor: FakeExecutor | None) -> dict[str, Any]:
    found: dict[str, Any] = host_facts(root, executor=executor)["nic"]
    return found


def test_a_card_tells_how_it_is_set(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = facts(root, machine(monkeypatch))
    card = found["eth0"]
    assert (card["mtu"], card["rx_queues"]) == ("1500", 2)
    assert (card["driver_version"], card["firmware"]) == ("6.1.0", "4.20 0x8001")
    assert card["offloads"] == {
        "rx-checksumming": "on", "tx-tcp-segmentation": "on", "generic-receive-offload": "off",
    }  # fmt: skip
    assert card["rings"] == {"RX": "2048", "TX": "256"}
    assert card["channels"] == {"Combined": "4"}
    assert card["coalescing"] == {"Adaptive RX": "on TX: off", "rx-usecs": "50"}
    assert card["irqs"] == {"ice-eth0-TxRx-0": "0", "ice-eth0-TxRx-1": "1"}
    assert card["steering"] == {"rx-0.rps_cpus": "3", "tx-0.xps_cpus": "00000000,00000001"}
    json.dumps(found)


def test_a_virtual_device_has_no_hardware_and_a_veth_end_is_none_of_ours(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    executor = machine(monkeypatch)
    found = facts(root, executor)
    assert list(found) == ["eth0", "lo"]
    assert found["lo"]["offloads"] == {"generic-receive-offload": "on"}
    asked = {argv[1] for argv in executor.ran if argv[2] == "lo"}
    assert asked == {"-i", "-k"}
    assert not found["lo"].keys() & {"rings", "channels", "coalescing", "irqs", "steering"}


def test_a_device_on_others_has_offloads_of_its_own(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = root / "sys/class/net"
    put(root, "sys/class/net/bond0/mtu", "1500")
    (place / "bond0/lower_eth0").symlink_to(place / "eth0")
    found = facts(root, machine(monkeypatch, bond0={"-k": "tx-checksumming: on\n"}))
    assert found["bond0"]["offloads"] == {"tx-checksumming": "on"}


def test_a_card_of_virtio_has_the_interrupts_of_its_function(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its `device` is virtioN, which stands below the PCI function."""
    function = (root / "sys/class/net/eth0/device").resolve()
    (function / "virtio2").mkdir()
    (root / "sys/class/net/eth0/device").unlink()
    (root / "sys/class/net/eth0/device").symlink_to(function / "virtio2")
    assert list(facts(root, machine(monkeypatch))["eth0"]["irqs"]) == [
        "ice-eth0-TxRx-0", "ice-eth0-TxRx-1",
    ]  # fmt: skip


def test_what_a_machine_lacks_is_absent(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without = facts(root, None)["eth0"]
    assert not without.keys() & {"offloads", "rings", "firmware"}
    assert without["irqs"]  # of files, not of ethtool
    monkeypatch.setattr(nicfacts, "find_tool", lambda name: None)
    assert facts(root, FakeExecutor())["eth0"] == without

    def refuse(argv: Sequence[str]) -> Completed:
        raise ProcessError(f"{argv[0]}: cannot be started")

    monkeypatch.setattr(nicfacts, "find_tool", lambda name: f"/sbin/{name}")
    assert facts(root, FakeExecutor(run=refuse))["eth0"] == without
    assert facts(root / "empty", None) == {}


@pytest.mark.parametrize(
    ("flag", "old", "new", "key"),
    [
        ("-k", "segmentation: on", "segmentation: off", "offloads.tx-tcp-segmentation"),
        ("-g", "TX:\t\t256", "TX:\t\t512", "rings.TX"),
        ("-l", "Combined:\t4", "Combined:\t2", "channels.Combined"),
        ("-c", "rx-usecs: 50", "rx-usecs: 0", "coalescing.rx-usecs"),
        ("-i", "4.20", "4.30", "firmware"),
        ("-i", "6.1.0", "6.12.0", "driver_version"),
    ],
)
def test_a_card_that_is_set_otherwise_is_a_difference(
    root: Path, monkeypatch: pytest.MonkeyPatch, flag: str, old: str, new: str, key: str
) -> None:
    before = {"host": {"nic": facts(root, machine(monkeypatch))}}
    other = {**CARD, flag: CARD[flag].replace(old, new)}
    after = {"host": {"nic": facts(root, machine(monkeypatch, eth0=other))}}
    (found,) = manifest_diff.differences(before, after)
    assert (found.group, found.key) == ("NIC", f"host.nic.eth0.{key}")
    assert manifest_diff.differences(before, before) == []


def test_where_interrupts_and_queues_are_served_is_a_difference(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    executor = machine(monkeypatch)
    before = {"host": {"nic": facts(root, executor)}}
    put(root, "proc/irq/41/smp_affinity_list", "0")
    put(root, "sys/class/net/eth0/queues/rx-0/rps_cpus", "0")
    put(root, "proc/irq/42/smp_affinity_list", "1")  # a disk's
    found = manifest_diff.differences(before, {"host": {"nic": facts(root, executor)}})
    assert [(one.key, one.base, one.new) for one in found] == [
        ("host.nic.eth0.irqs.ice-eth0-TxRx-1", "1", "0"),
        ("host.nic.eth0.steering.rx-0.rps_cpus", "3", None),
    ]


def profile(value: str, testbed: str = "loopback") -> dict[str, Any]:
    knob = {"knob": "net.core.somaxconn", "key": "sysctl", "effective": value, "original": "128"}
    return {"profile": "fast", "testbed": testbed, "knobs": [knob]}


def test_profiles_are_compared_by_what_was_in_force() -> None:
    base = {"profiles": [profile("4096"), profile("512", "netns")]}
    (found,) = manifest_diff.differences(
        base, {"profiles": [profile("512", "netns"), profile("1024")]}
    )
    assert (found.group, found.key, found.base, found.new) == (
        "tuning", "profiles.fast@loopback.net.core.somaxconn", "4096", "1024",
    )  # fmt: skip
    (lacking,) = manifest_diff.differences(base, {"profiles": [profile("4096")]})
    assert (lacking.key, lacking.new) == ("profiles.fast@netns", None)
    assert manifest_diff.differences({"profiles": []}, {}) == []
