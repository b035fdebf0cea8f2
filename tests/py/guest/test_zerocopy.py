"""What the kernel copies of zero-copy sends: the four cases that a NIC decides differently.

In the guest a virtio NIC sends from the pages themselves. Loopback and an open AF_PACKET socket
turn the same sends into copies, and the notifications say so; a NIC without scatter-gather does,
too, but makes most of its copies where no notification counts them.
"""

from __future__ import annotations

import json

import pytest

from iolab.executor import HostExecutor
from iolab.guest.machine import OUTSIDE_HOST
from iolab.guest.parts import Parts
from iolab.guest.session import Job, run_job
from iolab.paths import find_house

SENDS = 7000
PORT = 7000

# The sink may come up after the guest does; a capture is open once /proc says so.
SCRIPT = """
check() {{ {binary} --json --sends={sends} --connect={sink} --interface=eth0 >"/run/iolab/$1"; }}
until {binary} --json --sends=1 --connect={sink} --interface=eth0 >/dev/null; do sleep 0.2; done
check wire
{binary} --json --sends={sends} >/run/iolab/loopback
ethtool -K eth0 sg off
check no-scatter-gather
ethtool -K eth0 sg on tx-scatter-gather on
python3 -c 'import socket, time
capture = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
time.sleep(600)' &
until [ "$(wc -l </proc/net/packet)" -gt 1 ]; do sleep 0.1; done
check captured
kill $!
exit 0
"""


def test_four_cases_four_verdicts(real_parts: Parts) -> None:
    binary = find_house().zerocopy_binary
    if not binary.is_file():
        pytest.skip(f"{binary.name} is not built")
    sink = f"{OUTSIDE_HOST}:{PORT}"
    job = Job(
        SCRIPT.format(binary=binary, sends=SENDS, sink=sink),
        outside=(str(binary), f"--sink={sink}"),
    )
    with HostExecutor() as executor:
        outcome = run_job(executor, real_parts, job)
    said = outcome.stderr.decode(errors="replace")
    assert outcome.status == 0, said
    cases = {}
    for case in ("wire", "loopback", "no-scatter-gather", "captured"):
        document = json.loads(outcome.files[case])
        methods = {one["method"]: one for one in document["methods"]}
        for one in methods.values():
            # Debian 12's kernel, 6.1, reports what became of SEND_ZC: unsupported is a finding.
            assert one["verdict"] != "unsupported", (case, one["method"], one["reason"])
            assert one["notified"] == SENDS, (case, methods, said)
        cases[case] = {(one["verdict"], one["copied"]) for one in methods.values()}
    unseen = cases.pop("no-scatter-gather")
    assert cases == {
        "wire": {("not copied", 0)},
        "loopback": {("copied", SENDS)},
        "captured": {("copied", SENDS)},
    }, (cases, said)
    assert {verdict for verdict, _ in unseen} == {"copied unseen"}
