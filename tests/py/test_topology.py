from __future__ import annotations

import os
from pathlib import Path

import pytest

from iolab import hwloc
from iolab.errors import IolabError
from iolab.topology import (
    Topology,
    host_split,
    parse_cpu_list,
    parse_topology,
    split_cpus,
    this_machine,
)
from iolab.tuning.cpus import candidates

RECORDED = Path(__file__).with_name("topologies")
"""`guest` and `offline` were left by tests/py/guest/test_guest_topology.py, the others come from
hwloc's synthetic descriptions."""


@pytest.mark.parametrize(
    ("allowed", "siblings", "server", "client", "note"),
    [
        ({0, 1}, {}, 0, 1, None),
        ({3, 5, 9}, {}, 3, 5, None),
        ({0, 1, 2, 3}, {0: frozenset({0, 1})}, 0, 2, None),
        ({0, 1}, {0: frozenset({0, 1})}, 0, 1, "share one core"),
        ({4}, {}, 4, 4, "share the only CPU"),
    ],
)
def test_server_and_client_get_different_cores_where_there_are_some(
    allowed: set[int],
    siblings: dict[int, frozenset[int]],
    server: int,
    client: int,
    note: str | None,
) -> None:
    split = split_cpus(allowed, siblings)
    assert (split.server, split.client) == ((server,), client)
    assert (note is None) == (split.note is None)
    assert note is None or note in (split.note or "")


def test_cpu_lists() -> None:
    assert parse_cpu_list("0-2,5,8-9\n") == frozenset({0, 1, 2, 5, 8, 9})
    assert parse_cpu_list("") == frozenset()


def recorded(name: str) -> Topology:
    return parse_topology((RECORDED / f"{name}.xml").read_text())


def test_two_nodes_of_two_cpus_and_a_nic_on_the_second() -> None:
    guest = recorded("guest")
    assert guest.online == {0, 1, 2, 3}
    assert guest.nodes == {0: {0, 1}, 1: {2, 3}}
    assert guest.siblings == {cpu: {cpu} for cpu in range(4)}
    assert guest.node_of("eth0") == 1


def test_a_nic_in_another_namespace_is_known_by_its_pci_function() -> None:
    guest = recorded("guest")
    assert guest.node_of("nic0", "0000:81:00.0") == 1
    assert guest.node_of("nic0", "0000:00:02.0") is None  # behind the bridge that both nodes share
    assert guest.node_of("veth0", "") is None


def test_a_cpu_off_line_is_in_no_set() -> None:
    offline = recorded("offline")
    assert offline.online == {0, 1, 2}
    assert offline.nodes == {0: {0, 1}, 1: {2}}
    assert offline.siblings == {cpu: {cpu} for cpu in range(3)}
    assert offline.node_of("eth0") == 1


def test_hardware_threads_share_a_core() -> None:
    smt = recorded("smt")
    assert smt.nodes == {0: {0, 1, 2, 3}, 1: {4, 5, 6, 7}}
    assert smt.siblings[6] == smt.siblings[7] == {6, 7}
    assert candidates("local-node", smt, 1, ()) == [4, 6, 5, 7]


def test_a_machine_without_numa_is_one_node() -> None:
    plain = recorded("no-numa")
    assert plain.nodes == {0: {0, 1}}
    assert plain.on_node(None) == plain.on_node(0) == {0, 1}


def test_a_device_near_to_several_nodes_belongs_to_none() -> None:
    shared = parse_topology(
        """<topology version="2.0"><object type="Machine" cpuset="0x3" nodeset="0x3">
        <object type="NUMANode" os_index="0" cpuset="0x1" nodeset="0x1"/>
        <object type="NUMANode" os_index="1" cpuset="0x2" nodeset="0x2"/>
        <object type="Bridge"><object type="PCIDev" pci_busid="0000:00:03.0">
        <object type="OSDev" name="eth0"/></object></object></object></topology>"""
    )
    assert shared.devices == {"0000:00:03.0": None, "eth0": None}


def test_bitmaps_of_more_than_32_cpus() -> None:
    wide = parse_topology(
        """<topology version="2.0"><object type="Machine" cpuset="0x00000001,,0x80000000">
        </object></topology>"""
    )
    assert wide.online == {31, 64}


@pytest.mark.parametrize(
    "document", ["", "<topology/>", "<topology><object type='PU'/></topology>"]
)
def test_what_is_no_topology_is_refused(document: str) -> None:
    with pytest.raises(IolabError, match="not a topology of hwloc 2"):
        parse_topology(document)


def test_hwloc_builds_what_is_described() -> None:
    assert parse_topology(hwloc.synthetic("node:2 core:2 pu:2")) == recorded("smt")


def test_hwloc_says_what_it_does_not_understand() -> None:
    with pytest.raises(IolabError, match="no-such-object"):
        hwloc.synthetic("no-such-object:2")


def test_a_missing_library_is_said_with_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hwloc, "_LIBRARY", "libhwloc-of-nowhere.so")
    with pytest.raises(IolabError, match="libhwloc15"):
        hwloc.discover()


def test_this_host_has_its_cpus_and_a_split() -> None:
    here = this_machine()
    assert os.sched_getaffinity(0) <= here.online
    assert set().union(*here.nodes.values()) == here.online
    assert set(host_split().server) <= here.online
