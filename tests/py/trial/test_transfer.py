from __future__ import annotations

from dataclasses import replace

import pytest

from iolab.trial.transfer import Machine, Part, Transfer, guest_machine, transfer
from iolab.trial.values import flatten
from iolab.trial.verdict import KnobVerdict, Outcome, Verdict

from .conftest import recording

GUEST = Machine(frozenset(range(4)), 4, 4)
ROOM = "/sys/class/net/eth0/"


def knob(name: str, value: str | None, outcome: Outcome = Outcome.CHANGED) -> KnobVerdict:
    return KnobVerdict(name, outcome, "old", value, value)


def moved(*knobs: KnobVerdict, here: Machine = GUEST) -> Transfer:
    return transfer(Verdict(0, knobs, ()), "eth0", GUEST, here, "ioserver")


def one(name: str, value: str | None, here: Machine = GUEST) -> Part:
    (part,) = moved(knob(name, value), here=here).parts
    return part


def test_every_kind_of_knob_becomes_its_key() -> None:
    found = moved(
        knob("/proc/sys/net/ipv4/tcp_rmem", "4096\t131072  16777216"),
        knob("/proc/sys/net/ipv4/conf/eth0/rp_filter", "2"),
        knob("/proc/sys/net/ipv4/conf/all/rp_filter", "2"),
        knob("/proc/sys/net/ipv4/neigh/eth0/gc_stale_time", "90"),
        knob("ethtool/eth0/features/generic-receive-offload", "off"),
        knob("tc/eth0/root", "fq"),
        knob(f"{ROOM}tx_queue_len", "2000"),
        knob(f"{ROOM}mtu", "9000"),
        knob(f"{ROOM}queues/rx-3/rps_cpus", "c"),
    )
    profile = found.loaded("script", "s").profile
    assert profile.sysctl == {
        "net.ipv4.tcp_rmem": "4096 131072 16777216",
        "net.ipv4.conf.ioserver.rp_filter": "2",
        "net.ipv4.conf.all.rp_filter": "2",
        "net.ipv4.neigh.ioserver.gc_stale_time": "90",
    }
    assert profile.nic.offloads == {"generic-receive-offload": False}
    assert profile.nic.qdisc == "fq"
    files = {"tx_queue_len": "2000", "mtu": "9000", "queues/rx-3/rps_cpus": "c"}
    assert profile.nic.files == files
    assert all(part.key in found.keys for part in found.parts)
    assert found.parts[4].value == "off"


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("/proc/sys/vm/swappiness", "1", "belongs to the whole host"),
        ("/sys/kernel/mm/transparent_hugepage/enabled", "never", "belongs to the whole host"),
        ("/proc/irq/30/smp_affinity_list", "2", "has no interrupts"),
        ("module/tcp_bbr", "loaded", "a module is the whole host's"),
        ("limit/nofile", "1024", "a limit is a process's own"),
        ("ethtool/eth0/rings/rx", "4096", "no rings"),
        ("ethtool/eth0/channels/combined", "2", "a queue for each CPU"),
        ("ethtool/eth0/rss/key", "6d:5a", "hashes nothing"),
        ("ethtool/eth0/coalesce/rx-usecs", "50", "no interrupts to coalesce"),
        ("ethtool/eth0/wake", "g", "no such setting of ethtool"),
        ("ethtool/eth1/features/tso", "off", "interface eth1, which the testbed has not"),
        ("tc/eth1/root", "fq", "interface eth1"),
        ("tc/eth0/root", "fq maxrate 1gbit", "fq with options"),
        ("tc/eth0/root", None, "no discipline is set"),
        ("tc/eth0/root", "mq", "not one discipline for all"),
        (f"{ROOM}mtu", "576", "takes IPv6 off the interface"),
        (f"{ROOM}ifalias", "x", "no such file of an interface"),
        ("/sys/class/net/eth1/tx_queue_len", "10", "interface eth1"),
        ("/proc/sys/net/ipv4/conf/eth1/rp_filter", "1", "interface eth1"),
        ("/proc/sys/net/ipv4/conf/eth0/a b", "1", "no profile can say it"),
        ("/weird", "1", "knows no such knob"),
    ],
)
def test_what_has_no_part_says_why(name: str, value: str | None, reason: str) -> None:
    part = one(name, value)
    assert part.key is None
    assert reason in part.reason


def test_masks_are_taken_over_only_where_the_cpus_are_the_guests() -> None:
    fewer = Machine(frozenset({0, 1}), 4, 4)
    part = one(f"{ROOM}queues/tx-0/xps_cpus", "f", fewer)
    assert part.reason == "a mask made for CPUs 0-3 of the guest; this host has 0-1"
    assert one(f"{ROOM}queues/tx-0/xps_cpus", "f").key == "nic.files.queues/tx-0/xps_cpus"


def test_values_of_queues_are_taken_over_only_where_there_are_as_many() -> None:
    fewer = replace(GUEST, rx=2, tx=2)
    assert "4 receive and 4 transmit queues; the testbed's has 2 and 2" in (
        one(f"{ROOM}queues/rx-0/rps_flow_cnt", "4096", fewer).reason
    )
    assert one(f"{ROOM}tx_queue_len", "10", fewer).key is not None


def test_one_discipline_for_each_queue_below_mq_is_one_key() -> None:
    leaves = [knob(f"tc/eth0/1:{queue}", "fq") for queue in range(1, 5)]
    found = moved(knob("tc/eth0/root", "mq"), *leaves)
    assert {part.key for part in found.parts} == {"nic.qdisc"}
    assert found.loaded("s", "").profile.nic.qdisc == "mq/fq"
    for broken in (leaves[:3], [*leaves[:3], knob("tc/eth0/1:4", "pfifo")]):
        assert not moved(knob("tc/eth0/root", "mq"), *broken).keys


@pytest.mark.parametrize("outcome", sorted(set(Outcome)))
def test_only_what_the_script_left_with_its_own_value_takes_part(outcome: Outcome) -> None:
    parts = moved(knob("/proc/sys/net/core/somaxconn", "7", outcome)).parts
    if outcome is Outcome.SIDE_EFFECT:
        assert parts == ()
    elif outcome in (Outcome.CHANGED, Outcome.NOTHING, Outcome.CLAMPED, Outcome.INERT):
        assert parts[0].key == "sysctl.net.core.somaxconn"
    else:
        assert parts == (Part("net.core.somaxconn", "7", None, f"{outcome} in the trial"),)


def test_a_clamped_value_is_asked_for_anew() -> None:
    clamped = KnobVerdict("/proc/sys/net/core/somaxconn", Outcome.CLAMPED, "1", "99", "50")
    assert moved(clamped).parts[0].value == "99"


def test_keys_are_left_out_with_their_reason() -> None:
    found = moved(knob("/proc/sys/net/core/somaxconn", "7"), knob("tc/eth0/root", "fq"))
    less = found.without({"nic.qdisc": "because"})
    assert list(less.keys) == ["sysctl.net.core.somaxconn"]
    assert [(part.key is None, part.reason) for part in less.parts] == [
        (False, ""),
        (True, "because"),
    ]


def test_the_guest_is_known_from_its_recording() -> None:
    after = flatten(recording("rps-all-queues").first.after)
    assert guest_machine(after, "eth0") == GUEST
