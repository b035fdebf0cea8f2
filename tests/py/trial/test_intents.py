from __future__ import annotations

import shlex

import pytest

from iolab.trial.intents import intents, named_interfaces, sysctl_path


@pytest.mark.parametrize(
    ("line", "knobs"),
    [
        ("ethtool -L eth0 combined 4 rx 2",
         {"ethtool/eth0/channels/combined": "4", "ethtool/eth0/channels/rx": "2"}),
        ("/usr/sbin/ethtool -K eth0 tso off gro on",
         {"ethtool/eth0/features/tcp-segmentation-offload": "off",
          "ethtool/eth0/features/generic-receive-offload": "on"}),
        ("ethtool --coalesce eth1 rx-usecs 50", {"ethtool/eth1/coalesce/rx-usecs": "50"}),
        ("ethtool -X eth0 equal 2 hkey aa:bb",
         {"ethtool/eth0/rss/indirection": None, "ethtool/eth0/rss/key": "aa:bb"}),
        ("ethtool -N eth0 rx-flow-hash udp4 sd", {"ethtool/eth0/flow-hash/udp4": "IP SA; IP DA"}),
        ("ethtool -l eth0", {}),
        ("ethtool eth0", {}),
        ("tc qdisc replace dev eth0 root fq maxrate 1gbit", {"tc/eth0/root": "fq maxrate 1gbit"}),
        ("tc qdisc add dev eth0 root handle 1: htb", {"tc/eth0/root": "htb"}),
        ("tc qdisc replace dev eth0 parent :1 fq", {"tc/eth0/:1": "fq"}),
        ("tc qdisc del dev eth0 root", {"tc/eth0/root": None}),
        ("tc qdisc show dev eth0", {}),
        ("ip link set dev eth0 mtu 9000", {"/sys/class/net/eth0/mtu": "9000"}),
        ("ip link set eth0 txqueuelen 5000", {"/sys/class/net/eth0/tx_queue_len": "5000"}),
        ("ip link set mtu 9000 dev eth0", {"/sys/class/net/eth0/mtu": "9000"}),
        ("ip link show eth0", {}),
        ("ifconfig eth0 txqueuelen 10000 mtu 9000",
         {"/sys/class/net/eth0/tx_queue_len": "10000", "/sys/class/net/eth0/mtu": "9000"}),
        ("/sbin/ifconfig -a", {}),
        ("ifconfig eth0", {}),
        ("ethtool -C eth0 rx-frames-low 2 rx-frames 8",
         {"ethtool/eth0/coalesce/rx-frame-low": "2", "ethtool/eth0/coalesce/rx-frames": "8"}),
        ("ip route change default via 10.0.2.2 dev eth0 initcwnd 10",
         {"route/default": "via 10.0.2.2 dev eth0 initcwnd 10"}),
        ("ip -6 ro replace default dev eth0", {"route6/default": "dev eth0"}),
        ("ip route del 10.1.0.0/16", {"route/10.1.0.0/16": None}),
        ("ip route add 0.0.0.0/0 nexthop via 10.0.2.2", {"route/default": None}),
        ("ip route add 10.9.0.1/32 dev eth0 table 7",
         {"route/table 7/10.9.0.1": "dev eth0 table 7"}),
        ("ip route show", {}),
        ("ip route get 10.1.0.1", {}),
        ("modprobe -q tcp-bbr", {"module/tcp_bbr": "loaded"}),
        ("modprobe -r tcp_bbr", {}),
        ("sysctl -w net.core.somaxconn=1 vm.swappiness=0",
         {"/proc/sys/net/core/somaxconn": "1", "/proc/sys/vm/swappiness": "0"}),
        ("sysctl -n net.core.somaxconn", {}),
        ("ls -l", {}),
    ],
)  # fmt: skip
def test_a_command_line_says_what_it_sets(line: str, knobs: dict[str, str | None]) -> None:
    assert {one.knob: one.wanted for one in intents(shlex.split(line))} == knobs


@pytest.mark.parametrize(
    ("line", "names"),
    [
        ("ethtool -l ens5", ["ens5"]),
        ("ethtool ens5", ["ens5"]),
        ("tc qdisc show dev ens5", ["ens5"]),
        ("ip link set ens5 up", ["ens5"]),
        ("ip link set txqueuelen 9 dev ens5", ["ens5"]),
        ("ifconfig ens5 up", ["ens5"]),
        ("ifconfig -a", []),
        ("ip address show", []),
        ("grep ens5 /proc/interrupts", []),
    ],
)
def test_interfaces_of_commands_that_only_look_count_too(line: str, names: list[str]) -> None:
    assert named_interfaces(shlex.split(line)) == names


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("net.ipv4.tcp_rmem", "/proc/sys/net/ipv4/tcp_rmem"),
        ("net/ipv4/tcp_rmem", "/proc/sys/net/ipv4/tcp_rmem"),
        ("net.ipv4.conf.eth0/5.rp_filter", "/proc/sys/net/ipv4/conf/eth0.5/rp_filter"),
        ("net/ipv4/conf/eth0.5/rp_filter", "/proc/sys/net/ipv4/conf/eth0.5/rp_filter"),
    ],
)
def test_the_first_separator_of_a_sysctl_decides_what_the_other_means(name: str, path: str) -> None:
    assert sysctl_path(name) == path
