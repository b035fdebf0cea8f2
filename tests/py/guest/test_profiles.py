"""Every shipped profile in the real guest: applied, verified, reverted, and cut short by kill -9.

The machine is not as the kernel left it: somebody set affinities, masks, queues and sysctls by
hand, and all that must come back. One boot for all profiles, and for both of the guest's NICs.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import shlex
import sys
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from iolab.executor import HostExecutor
from iolab.guest.parts import GuestMissing, find_parts
from iolab.guest.session import Job, run_job
from iolab.paths import find_house
from iolab.trial.recording import Snapshot
from iolab.trial.values import interrupt_names, same

ROOT = Path(__file__).resolve().parents[3]
PROFILES = sorted(path.stem for path in (ROOT / "tuning/profiles").glob("*.toml"))

# What loads by a value stays loaded, as docs/tuning.md says: so it is there before.
BY_HAND = """
modprobe -a tcp_bbr sch_fq
ethtool -L eth0 combined 3
echo 3 >/sys/class/net/eth0/queues/rx-1/rps_cpus
echo 512 >/sys/class/net/eth0/queues/rx-0/rps_flow_cnt
echo 8 >/sys/class/net/eth0/queues/tx-0/xps_cpus
echo 2 >/sys/class/net/eth0/queues/tx-2/xps_rxqs
for number in $(ls /sys/class/net/eth0/device/../msi_irqs); do
	echo 0-1 >/proc/irq/$number/smp_affinity_list
done
ethtool -C eth1 rx-usecs 20
ethtool -G eth1 rx 512
ethtool -K eth0 gro off
sysctl -q net.core.somaxconn=300 net.ipv4.tcp_fin_timeout=17 'net.ipv4.tcp_rmem=4096 70000 900000'
sysctl -q net.core.default_qdisc=fq_codel net.ipv4.tcp_congestion_control=reno
echo always >/sys/kernel/mm/transparent_hugepage/defrag
"""

JOB = """
set -e
{by_hand}
export IOLAB_ROOT={root} IOLAB_STATE=/run/tuning PYTHONPATH={root}/harness PYTHONDONTWRITEBYTECODE=1
exec {python} {root}/tests/py/guest/inside_profiles.py /run/iolab
"""

VIRTIO: dict[str, dict[str, str]] = {
    "baseline": {},
    "throughput": {
        "ethtool/eth0/channels/combined": "2",
        "ethtool/eth0/features/generic-receive-offload": "on",
        "xps_cpus of eth0": "5 a",
        "interrupts of eth0": "2 3 2 3",
    },
    "latency": {
        "rps_cpus of eth0": "0 0 0",
        "xps_cpus of eth0": "6 8 1",
        "interrupts of eth0": "2 3 0 1",
        "/proc/sys/kernel/numa_balancing": "0",
        "/sys/kernel/mm/transparent_hugepage/defrag": "madvise",
    },
    "many-connections": {"limit/nofile": "1048576 1048576"},
    "numa-local": {
        "ethtool/eth0/channels/combined": "2",
        "rps_cpus of eth0": "0 0",
        "xps_cpus of eth0": "4 8",
        "interrupts of eth0": "2 3 2 3",
        "/proc/sys/kernel/numa_balancing": "0",
    },
    "typical-guide": {
        "limit/nofile": "1048576 1048576",
        "tc/eth0/root": "mq",
        "tc/eth0/10fb:1": "fq",
        "tc/eth0/10fb:2": "fq",
        "tc/eth0/10fb:3": "fq",
    },
}
"""What a profile means on the virtio NIC: 3 of its 4 queues are in use, CPUs 2 and 3 are near."""

E1000E: dict[str, dict[str, str]] = {
    "throughput": {
        "ethtool/eth1/rings/rx": "4096",
        "ethtool/eth1/rings/tx": "4096",
        "ethtool/eth1/features/generic-receive-offload": "on",
    },
    "latency": {"ethtool/eth1/coalesce/rx-usecs": "0"},
    "typical-guide": {"tc/eth1/root": "fq"},
}
"""On the other one, which has a single queue, rings and coalescing."""

MEANING = {"eth0": VIRTIO, "eth1": E1000E}

TRIALS = [
    *(("eth0", profile) for profile in PROFILES),
    *(("eth1", profile) for profile in E1000E),
]


@pytest.fixture(scope="module")
def record() -> dict[str, Any]:
    """What the guest recorded; the seed of its random writes stands in every failure."""
    try:
        parts = find_parts(find_house().cache)
    except GuestMissing as error:
        pytest.skip(str(error).replace("\n", ";"))
    seed = int(os.environ.get("IOLAB_TEST_SEED") or secrets.randbits(32))
    plan = {"trials": TRIALS, "seed": seed}
    python, root = shlex.quote(sys.executable), shlex.quote(str(ROOT))
    script = JOB.format(by_hand=BY_HAND, python=python, root=root)
    job = Job(script, {"plan.json": json.dumps(plan).encode()}, timeout_s=3600)
    with HostExecutor() as executor:
        outcome = run_job(executor, parts, job)
    assert outcome.status == 0, outcome.stderr.decode(errors="replace")
    document: dict[str, Any] = json.loads(outcome.files["record.json"])
    return {**document, "seed": seed}


@pytest.fixture(params=TRIALS, ids="-".join)
def one(request: pytest.FixtureRequest, record: dict[str, Any]) -> dict[str, Any]:
    """The record of one profile on one interface."""
    interface, profile = request.param
    found: dict[str, Any] = next(
        {**record, **one}
        for one in record["records"]
        if (one["interface"], one["profile"]) == (interface, profile)
    )
    return found


def differences(before: Mapping[str, str], after: Mapping[str, str]) -> list[str]:
    """Every knob that is not as it was."""
    return [
        f"{knob}: was {before.get(knob)!r}, is {after.get(knob)!r}"
        for knob in sorted({*before, *after})
        if before.get(knob) != after.get(knob)
    ]


def sysctls(profile: str) -> Iterator[tuple[str, str]]:
    """What the file asks for, read without the bench's help."""
    document = tomllib.loads((ROOT / f"tuning/profiles/{profile}.toml").read_text())
    assert "include" not in document, "teach this test to follow includes"
    for name, value in document.get("sysctl", {}).items():
        yield f"/proc/sys/{name.replace('.', '/')}", str(value)


def found(knob: str, one: Mapping[str, Any]) -> str:
    """The value after the profile was applied; of all queues where the knob names none."""
    values = one["applied"]
    name, of, interface = knob.partition(" of ")
    if not of:
        return str(values.get(knob, "none"))
    if name != "interrupts":
        pattern = re.compile(rf"/sys/class/net/{interface}/queues/[rt]x-(\d+)/{name}")
        matches = {match[1]: match[0] for match in map(pattern.fullmatch, values) if match}
        return " ".join(f"{int(values[matches[queue]], 16):x}" for queue in sorted(matches))
    names = interrupt_names(Snapshot({"/proc/interrupts": one["interrupts"]}, {}))
    lists = {
        name.partition("-")[2]: values[f"/proc/irq/{number}/smp_affinity_list"]
        for number, name in names.items()
    }
    inputs, outputs = (
        [lists[f"{kind}.{queue}"] for queue in range(4)] for kind in ("input", "output")
    )
    assert inputs == outputs, "a queue pair shares its CPU"
    return " ".join(inputs)


def test_it_applies_and_verifies(one: dict[str, Any]) -> None:
    for verb in ("apply", "verify"):
        assert one[verb]["status"] == 0, one[verb]["said"]
    assert one["apply"]["document"]["state"] == "applied"
    assert one["apply"]["document"]["profile"] == one["profile"]


def test_every_knob_has_its_value(one: dict[str, Any]) -> None:
    wanted = dict(sysctls(one["profile"])) | MEANING[one["interface"]].get(one["profile"], {})
    assert wanted, "a profile of which nothing is expected proves nothing"
    wrong = [
        f"{knob}: wanted {value!r}, found {found(knob, one)!r}"
        for knob, value in wanted.items()
        if not same(knob, value, found(knob, one))
    ]
    assert wrong == []
    assert one["applied"] != one["before"], "nothing changed"


def test_revert_restores_every_value(one: dict[str, Any]) -> None:
    assert one["revert"]["status"] == 0, one["revert"]["said"]
    assert differences(one["before"], one["after"]) == []


def test_revert_restores_every_value_after_kill_9(one: dict[str, Any]) -> None:
    killed = one["killed"]
    place = f"seed {one['seed']}: write {killed['write']} of {one['writes']}: {killed['said']}"
    assert killed["status"] == -9, place
    assert one["status"]["document"]["profiles"][0]["state"] == "interrupted", place
    assert one["revert_killed"]["status"] == 0, f"{place}: {one['revert_killed']['said']}"
    assert differences(one["before"], one["after_kill"]) == [], place
