"""One boot of the real guest: what it is made of, and what it leaves behind."""

from __future__ import annotations

import json
from pathlib import Path

from iolab.executor import HostExecutor
from iolab.guest.parts import Parts
from iolab.guest.session import Job, run_job

PROBE = """
echo said
echo complained >&2
touch /etc/iolab-was-here || exit 9
ln -s /etc/passwd /run/iolab/secret && ln -s /dev/zero /run/iolab/endless || exit 9
{
	nproc
	cat /sys/class/net/nic0/device/../numa_node
	cat /sys/devices/system/node/node1/cpulist
	ls -d /sys/class/net/nic0/queues/rx-* | wc -l
	cat /sys/class/net/eth1/device/uevent | grep -c e1000e
	modprobe tcp_bbr 2>/dev/null && echo loaded || echo refused
} >/run/iolab/facts
exit 7
"""


def interfaces() -> set[str]:
    return {path.name for path in Path("/sys/class/net").iterdir()}


def test_a_guest_is_what_it_says_and_leaves_nothing_on_the_host(real_parts: Parts) -> None:
    before = interfaces()
    heard: list[tuple[str, bytes]] = []
    job = Job(PROBE, interface="nic0", without=("tcp_bbr",))
    with HostExecutor() as executor:
        outcome = run_job(executor, real_parts, job, lambda *one: heard.append(one))
    facts = outcome.files["facts"].decode().split()
    assert facts == ["4", "1", "2-3", "4", "1", "refused"], json.dumps(heard, default=str)
    assert outcome.status == 7
    assert (outcome.stdout, outcome.stderr) == (b"said\n", b"complained\n")
    assert not {"secret", "endless"} & outcome.files.keys()
    assert not Path("/etc/iolab-was-here").exists()
    assert interfaces() == before
