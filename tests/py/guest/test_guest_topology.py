"""What hwloc finds in the real guest: nodes, the NICs' nodes, and no CPU that is off line.

The documents are left in the directory named by IOLAB_KEEP_RECORDINGS, where that is set: two of
them are kept in tests/py/topologies.
"""

from __future__ import annotations

import os
import shlex
from pathlib import Path

from iolab.executor import HostExecutor
from iolab.guest.machine import NIC_NODE
from iolab.guest.parts import Parts
from iolab.guest.session import Job, run_job
from iolab.topology import parse_topology

ROOT = Path(__file__).resolve().parents[3]

SCRIPT = f"""
set -e
export PYTHONDONTWRITEBYTECODE=1 PYTHONPATH={shlex.quote(str(ROOT / "harness"))}
discover() {{ /usr/bin/python3 -c 'from iolab import hwloc; print(hwloc.discover())'; }}
discover >/run/iolab/guest.xml
echo 0 >/sys/devices/system/cpu/cpu3/online
discover >/run/iolab/offline.xml
"""


def test_hwloc_finds_the_nodes_and_the_nic_on_the_second(real_parts: Parts) -> None:
    with HostExecutor() as executor:
        outcome = run_job(executor, real_parts, Job(SCRIPT))
    assert outcome.status == 0, outcome.stderr.decode(errors="replace")
    documents = {name: outcome.files[f"{name}.xml"].decode() for name in ("guest", "offline")}
    if keep := os.environ.get("IOLAB_KEEP_RECORDINGS"):
        for name, text in documents.items():
            Path(keep, f"{name}.xml").write_text(text)
    whole, fewer = (parse_topology(text) for text in documents.values())
    assert whole.nodes == {0: {0, 1}, 1: {2, 3}}
    assert whole.node_of("eth0") == NIC_NODE, whole.devices
    assert whole.node_of("eth1") != NIC_NODE, whole.devices
    assert fewer.online == {0, 1, 2}
    assert fewer.nodes == {0: {0, 1}, 1: {2}}
    assert fewer.node_of("eth0") == NIC_NODE
