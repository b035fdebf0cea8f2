from __future__ import annotations

import pytest

from iolab.trial.recording import Snapshot
from iolab.trial.values import (
    comparable,
    cpu_list,
    cpu_mask,
    flatten,
    interrupt_names,
    local_cpus,
    same,
)

CHANNELS = """\
Channel parameters for eth0:
Pre-set maximums:
RX:\t\tn/a
Combined:\t4
Current hardware settings:
RX:\t\tn/a
Combined:\t2
"""
COALESCE = """\
Coalesce parameters for eth1:
Adaptive RX: off  TX: on
stats-block-usecs:\tn/a
rx-usecs:\t3
"""
RSS = """\
RX flow hash indirection table for eth0 with 4 RX ring(s):
    0:      0     1     2     3     0     1     2     3
    8:      0     1
RSS hash key:
a7:d1:e9
RSS hash function:
    toeplitz: on
    xor: off
"""
QDISCS = """\
qdisc mq 0: root refcnt 5
qdisc fq_codel 0: parent :2 limit 10240p flows 1024
"""
LIMITS = """\
Limit                     Soft Limit           Hard Limit           Units
Max open files            1024                 4096                 files
Max locked memory         8388608              unlimited            bytes
"""


def test_outputs_become_knobs_and_current_settings_are_told_from_maximums() -> None:
    snapshot = Snapshot(
        {"/proc/self/limits": LIMITS, "/proc/modules": "tcp_bbr 20480 1 - Live 0x0\n"},
        {
            "ethtool -l eth0": CHANNELS,
            "ethtool -c eth1": COALESCE,
            "ethtool -x eth0": RSS,
            "ethtool -k eth0": "Features for eth0:\nrx-checksumming: on [fixed]\n",
            "ethtool -n eth0 rx-flow-hash tcp4": "TCP over IPV4 flows use:\nIP SA\nIP DA\n\n",
            "tc qdisc show dev eth0": QDISCS,
            "ip -4 route show": "default via 10.0.2.2 dev eth0 \n10.9.0.0/24 dev eth0 \n",
            "ip -6 route show": "fe80::/64 dev eth0 expires 9sec pref medium\n",
        },
    )
    values = {key: value for key, value in flatten(snapshot).items() if not key.startswith("/")}
    assert values == {
        "ethtool/eth0/channels-maximum/combined": "4",
        "ethtool/eth0/channels/combined": "2",
        "ethtool/eth1/coalesce/adaptive-rx": "off",
        "ethtool/eth1/coalesce/adaptive-tx": "on",
        "ethtool/eth1/coalesce/rx-usecs": "3",
        "ethtool/eth0/rss/indirection": "0 1 2 3 0 1 2 3 0 1",
        "ethtool/eth0/rss/key": "a7:d1:e9",
        "ethtool/eth0/rss/function": "toeplitz",
        "ethtool/eth0/features/rx-checksumming": "on",
        "ethtool/eth0/flow-hash/tcp4": "IP SA; IP DA",
        "tc/eth0/root": "mq",
        "tc/eth0/:2": "fq_codel limit 10240p flows 1024",
        "route/default": "via 10.0.2.2 dev eth0",
        "route/10.9.0.0/24": "dev eth0",
        "route6/fe80::/64": "dev eth0 pref medium",
        "module/tcp_bbr": "loaded",
        "limit/nofile": "1024 4096",
        "limit/memlock": "8388608 unlimited",
    }


@pytest.mark.parametrize(
    "knob",
    [
        "/proc/sys/fs/dentry-state", "/proc/sys/fs/inode-state", "/proc/sys/kernel/random/uuid",
        "/proc/sys/kernel/ns_last_pid", "/proc/irq/24/effective_affinity",
        "/sys/devices/system/node/node0/meminfo", "/sys/devices/system/node/node1/numastat",
        "/sys/devices/system/node/node1/vmstat",
        "/sys/kernel/mm/transparent_hugepage/khugepaged/full_scans",
    ],
)  # fmt: skip
def test_what_changes_by_itself_is_not_compared(knob: str) -> None:
    assert comparable({knob: "1", "/proc/sys/net/core/somaxconn": "1"}) == {
        "/proc/sys/net/core/somaxconn": "1"
    }


@pytest.mark.parametrize(
    ("knob", "wanted", "found", "equal"),
    [
        ("/proc/sys/net/ipv4/tcp_rmem", "4096 1 2", "4096\t1\t2", True),
        ("/proc/sys/net/core/somaxconn", "0x10", "16", True),
        ("/proc/sys/net/core/somaxconn", "010", "8", True),
        ("/proc/sys/net/core/somaxconn", "17", "16", False),
        ("/proc/irq/9/smp_affinity", "f", "00000000,0000000f", True),
        ("/proc/irq/9/smp_affinity", "ff", "f", False),
        ("/proc/irq/9/smp_affinity_list", "0,1,2", "0-2", True),
        ("/sys/class/net/e/queues/rx-0/rps_cpus", "0x3", "3", True),
        ("/sys/kernel/mm/transparent_hugepage/enabled", "never", "always madvise [never]", True),
        ("/sys/kernel/mm/transparent_hugepage/enabled", "never", "[always] madvise never", False),
        ("/sys/class/net/e/queues/rx-0/rps_cpus", "00000000", "0", True),
        ("/sys/class/net/e/queues/rx-0/rps_cpus", "0-7", "0", False),
        ("/sys/class/net/e/queues/tx-0/xps_rxqs", "00000003", "3", True),
        ("route/default", "via 10.0.2.2 initcwnd 10", "via 10.0.2.2 dev e initcwnd 10", True),
        ("route/default", "via 10.0.2.2 initcwnd 10", "via 10.0.2.2 dev e", False),
        ("tc/eth0/root", "fq maxrate 1gbit", "fq limit 10000p", True),
        ("tc/eth0/root", "fq", "fq_codel", False),
        ("ethtool/eth0/rss/key", "AA:BB", "aa:bb", True),
    ],
)
def test_spelling_is_no_difference(knob: str, wanted: str, found: str, equal: bool) -> None:
    assert same(knob, wanted, found) is equal


def test_cpus_are_read_from_lists_and_masks() -> None:
    assert cpu_list("0-2,8") == {0, 1, 2, 8}
    assert cpu_list("0-") == cpu_list("") == set()
    assert cpu_mask("1,00000001") == {0, 32}
    assert cpu_mask("0-7") == set()


def test_the_node_of_a_virtio_nic_is_said_one_level_above_its_device() -> None:
    nodes = {
        "/sys/devices/system/node/node0/cpulist": "0-1",
        "/sys/devices/system/node/node1/cpulist": "2-3",
        "/sys/devices/system/cpu/possible": "0-3",
    }
    virtio = {**nodes, "/sys/class/net/eth0/device/../numa_node": "1"}
    assert local_cpus(virtio, "eth0") == {2, 3}
    above = {**virtio, "/sys/class/net/eth0/device/numa_node": "0"}
    assert local_cpus(above, "eth0") == {0, 1}
    assert local_cpus({**nodes, "/sys/class/net/eth0/device/numa_node": "-1"}, "eth0") == {
        0,
        1,
        2,
        3,
    }


def test_interrupts_have_names() -> None:
    text = """\
           CPU0       CPU1
  0:         79          0   IO-APIC   2-edge      timer
 31:          0          0   PCI-MSI 67633154-edge      virtio4-output.0
NMI:          0          0   Non-maskable interrupts
"""
    assert interrupt_names(Snapshot({"/proc/interrupts": text}, {})) == {
        0: "timer",
        31: "virtio4-output.0",
    }
