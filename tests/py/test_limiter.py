"""Limiters: which is named, and the figures beside the name."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from iolab.limiter import CLIENT_LIMITED, Pressure, judge, pressure
from iolab.portuse import Shortage, Side


def kernel(ns: int = 10**9, **changes: Any) -> dict[str, Any]:
    document: dict[str, Any] = {
        "ns": ns, "tick_ns": 10_000_000,
        "cpus": {"0": {"softirq": 5, "steal": 0}, "1": {"softirq": 1, "steal": 2}},
        "softnet": {"0": {"processed": 9, "dropped": 0, "squeezed": 0}},
        "tcp": {"RetransSegs": 0, "TCPToZeroWindowAdv": 0, "PruneCalled": 0},
        "pressure_us": {"memory_some": 0},
        "server": {"threads": 1, "voluntary": 10, "involuntary": 5, "run_ns": 1, "wait_ns": 0},
        "client": {"threads": 1, "voluntary": 1, "involuntary": 0, "run_ns": 1, "wait_ns": 0},
    }  # fmt: skip
    return document | changes


@pytest.mark.parametrize(
    ("client", "server", "found", "offered", "name"),
    [
        (0.5, 0.95, Pressure(), False, "server"),
        (0.97, 0.95, Pressure(), False, "server"),
        (0.99, 1.0, Pressure(), False, "server"),
        (0.99, 0.99, Pressure(), False, "both"),
        (0.99, 0.95, Pressure(), False, "both"),
        (0.65, 0.5, Pressure(client_wait=0.35), False, "client"),
        (0.65, 0.5, Pressure(client_wait=0.25), False, "client"),
        (0.65, 0.5, Pressure(client_wait=0.19), False, "neither"),
        (0.8, 0.5, Pressure(client_wait=0.09), False, "neither"),
        # As measured with a competitor on the client's CPU: half of the requests of before.
        (0.46, 0.49, Pressure(client_wait=0.43, server_wait=0.07), False, "client"),
        (0.7, 0.75, Pressure(client_wait=0.15, server_wait=0.12), False, "neither"),
        (0.65, 0.5, Pressure(client_wait=0.35, server_wait=0.45), False, "run queue"),
        (0.65, 0.5, Pressure(client_wait=0.35), True, "rate"),
        (0.96, 0.5, Pressure(softirq=0.5), False, "client"),
        (0.95, 0.5, Pressure(), False, "neither"),
        (0.5, 0.65, Pressure(softirq=0.3), False, "softirq"),
        (0.5, 0.65, Pressure(softirq=0.19, server_wait=0.05), False, "neither"),
        (0.5, 0.3, Pressure(softirq=0.3), False, "neither"),
        (0.5, 0.3, Pressure(memory=0.05), False, "memory"),
        (0.5, 0.3, Pressure(prunes_per_s=10), False, "memory"),
        (0.5, 0.3, Pressure(prunes_per_s=9), False, "neither"),
        (0.5, 0.6, Pressure(server_wait=0.35), False, "run queue"),
        (0.5, 0.1, Pressure(server_wait=0.35), False, "neither"),
        (0.5, 0.1, Pressure(), True, "rate"),
        (0.5, 0.95, Pressure(), True, "server"),
        (0.97, 0.5, Pressure(), True, "client"),
    ],
)
def test_who_is_named(
    client: float, server: float, found: Pressure, offered: bool, name: str
) -> None:
    limiter = judge(client, server, found, offered)
    assert limiter is not None
    assert limiter.name == name


@pytest.mark.parametrize(
    ("changes", "futexes", "name"),
    [
        ({}, 1.0, "locks"),
        ({}, 0.9, "neither"),
        ({}, None, "neither"),  # nobody counted: nothing is guessed
        ({"server_threads": 1}, 2.0, "neither"),  # one thread waits for no other
        ({"server_sleeps_per_s": 99.0}, 2.0, "neither"),
        ({"memory": 0.05}, 2.0, "memory"),
        ({"link": 0.9}, 2.0, "nic"),
    ],
)
def test_locks_are_named_when_nothing_else_is(
    changes: dict[str, Any], futexes: float | None, name: str
) -> None:
    asleep = replace(Pressure(server_threads=4, server_sleeps_per_s=5000.0), **changes)
    limiter = judge(0.5, 0.4, asleep, False, futexes)
    assert limiter is not None
    assert limiter.name == name
    busy = judge(0.5, 0.95, asleep, False, futexes)
    assert busy is not None
    assert busy.name == "server"


def short(side: Side, slices: int = 10) -> Shortage:
    return Shortage(side, slices, of=20, ports=28232, held=28232, time_wait=28216)


@pytest.mark.parametrize(
    ("found", "offered", "name"),
    [
        ((short("server"),), False, "ports"),
        ((short("client"),), False, "client ports"),
        ((short("server"), short("client")), False, "client ports"),
        ((short("server"), short("client", 9)), False, "ports"),
        ((short("server", 9),), False, "server"),  # in most slices it was not so
        ((short("server"),), True, "server"),  # the rate was reached: see test_who_is_named
    ],
)
def test_used_up_ports_come_before_the_cpu_that_searches_for_one(
    found: tuple[Shortage, ...], offered: bool, name: str
) -> None:
    limiter = judge(0.5, 0.98, Pressure(shortages=found), offered)
    assert limiter is not None
    assert limiter.name == name
    assert (name in CLIENT_LIMITED) == (name == "client ports")
    for one in found:
        assert str(one) in limiter.evidence


def test_ports_are_judged_by_all_slices_of_a_cell() -> None:
    held = {"range": 500, "held": 500, "held_first": 250, "time_wait": 490}
    counters = {"ActiveOpens": 9, "TWRecycled": 0}
    used = kernel(tcp=counters, ports={"server": held})
    (found,) = pressure([used, kernel(tcp=counters), used]).shortages
    assert (found.side, found.slices, found.of) == ("server", 2, 3)
    assert pressure([kernel()]).shortages == ()


def test_a_card_is_used_up_in_one_direction() -> None:
    """10 Gbit/s are 1.25 GB a second; a device without a speed limits nothing."""
    one = kernel(
        link_mbit={"eth0": 10_000},
        devices={
            "eth0": {"rx_bytes": 100_000_000, "tx_bytes": 1_000_000_000},
            "veth0": {"rx_bytes": 9_000_000_000, "tx_bytes": 0},
        },
    )
    assert pressure([one]).link == pytest.approx(0.8)
    assert pressure([one, one]).link == pytest.approx(0.8)
    assert pressure([kernel()]).link is None
    limiter = judge(0.5, 0.4, pressure([one]))
    assert limiter is not None
    assert "of its link's speed 80%" in limiter.evidence


def test_without_cpu_times_nobody_is_named() -> None:
    assert judge(None, 0.9) is None
    assert judge(0.9, None) is None


def test_a_client_that_is_used_up_is_named_without_the_servers_cpu_time() -> None:
    """As of a peer that forks: a faster one would not have shown, so it must not rank."""
    found = judge(0.97, None)
    assert found is not None
    assert (found.name, found.evidence) == ("client", "server not known, client 97% of a CPU")


def test_shares_are_those_of_all_slices_together() -> None:
    """20 ms of softirq and 3 slices: the busiest CPU over all of them, not the mean of maxima."""
    slices = [
        kernel(cpus={"0": {"softirq": 60, "steal": 0}, "1": {"softirq": 0, "steal": 1}}),
        kernel(cpus={"0": {"softirq": 0, "steal": 0}, "1": {"softirq": 90, "steal": 1}}),
        kernel(ns=2 * 10**9, cpus={"0": {"softirq": 30, "steal": 0}}),
    ]
    found = pressure(slices)
    assert found.softirq == pytest.approx(0.9 / 4)
    assert found.steal == pytest.approx(0.02 / 4)
    assert found.server_switches_per_s == pytest.approx(3 * 15 / 4)
    assert found.server_sleeps_per_s == pytest.approx(3 * 10 / 4)
    assert found.server_threads == 1


def test_rates_and_sums() -> None:
    found = pressure(
        [
            kernel(
                server={"wait_ns": 250_000_000},
                pressure_us={"memory_some": 100_000},
                softnet={"0": {"dropped": 1, "squeezed": 2}, "1": {"dropped": 3, "squeezed": 4}},
                tcp={"RetransSegs": 6, "TCPToZeroWindowAdv": 2, "TCPWantZeroWindowAdv": 3},
            )
        ]
    )
    assert found.server_wait == pytest.approx(0.25)
    assert found.memory == pytest.approx(0.1)
    assert (found.softnet_drops, found.softnet_squeezes) == (4, 6)
    assert found.retransmits_per_s == 6
    assert found.zero_windows_per_s == 5
    assert found.prunes_per_s is None  # not counted is not none
    assert found.server_switches_per_s is None


def test_windows_that_the_client_closed_in_its_own_namespace_count() -> None:
    both = kernel(
        tcp={"RetransSegs": 1, "TCPToZeroWindowAdv": 2, "PruneCalled": 0, "DelayedACKs": 3},
        tcp_client={
            "RetransSegs": 4, "TCPToZeroWindowAdv": 8, "TCPWantZeroWindowAdv": 16,
            "DelayedACKs": 32, "TCPOFOQueue": 7,
        },
    )  # fmt: skip
    found = pressure([both])
    assert (found.delayed_acks_per_s, found.out_of_order_per_s) == (35, 7)
    assert (found.zero_windows_per_s, found.retransmits_per_s, found.prunes_per_s) == (26, 5, 0)


def test_no_slices_no_figures() -> None:
    assert pressure([]) == Pressure()
    assert pressure([{"ns": 0}, {}]) == Pressure()


def test_evidence_names_what_is_worth_a_word() -> None:
    limiter = judge(0.5, 0.65, Pressure(softirq=0.31, steal=0.01, softnet_squeezes=7))
    assert limiter is not None
    assert limiter.evidence == "server 65%, client 50% of a CPU, softirq 31%, 7 softnet squeezes"
