from __future__ import annotations

import hashlib
import json
import tomllib
from collections.abc import Sequence
from pathlib import Path

from iolab import manifest_diff
from iolab.executor import Completed
from iolab.fake_executor import FakeExecutor
from iolab.manifest import binary_facts, git_facts, host_facts, quietness, tool_facts
from iolab.paths import find_house
from iolab.topology import parse_topology


def write(root: Path, name: str, text: str) -> None:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_facts_are_read_from_the_tree(tmp_path: Path) -> None:
    write(
        tmp_path, "proc/cpuinfo", "processor : 0\nmodel name : X9\nflags : fpu hypervisor\n\nz: 1"
    )
    write(tmp_path, "proc/sys/net/core/somaxconn", "4096\n")
    write(tmp_path, "proc/meminfo", "MemTotal:  100 kB\n")
    write(tmp_path, "etc/os-release", 'NAME="D"\nPRETTY_NAME="Debian 12"\n')
    cpu = "sys/devices/system/cpu"
    write(tmp_path, f"{cpu}/vulnerabilities/meltdown", "Not affected\n")
    write(tmp_path, f"{cpu}/cpu0/cpufreq/scaling_governor", "performance\n")
    write(tmp_path, f"{cpu}/cpu1/cpufreq/scaling_governor", "performance\n")
    write(tmp_path, "sys/class/net/eth0/mtu", "1500\n")
    write(tmp_path, "sys/class/net/eth0/queues/rx-0/rps_cpus", "0")
    write(tmp_path, "sys/devices/system/node/node0/cpulist", "0-1\n")
    facts = host_facts(tmp_path)
    assert facts["cpu"]["model"] == "X9"
    assert facts["virtual"] is True
    assert facts["sysctls"]["net.core.somaxconn"] == "4096"
    assert facts["sysctls"]["net.ipv4.tcp_rmem"] is None
    assert facts["memory_kib"] == 100
    assert facts["os"] == "Debian 12"
    assert facts["mitigations"] == {"meltdown": "Not affected"}
    assert facts["governor"] == ["performance"]
    assert facts["nic"]["eth0"]["mtu"] == "1500"
    assert facts["nic"]["eth0"]["rx_queues"] == 1
    assert facts["numa"] == {"node0": "0-1"}
    json.dumps(facts)


def test_a_nic_has_the_node_that_hwloc_gives_it(tmp_path: Path) -> None:
    """The recorded guest has a virtio NIC on node 1, of which sysfs says nothing at `device`."""
    recorded = Path(__file__).with_name("topologies") / "guest.xml"
    topology = parse_topology(recorded.read_text())
    for name in ("eth0", "lo"):
        write(tmp_path, f"sys/class/net/{name}/mtu", "1500\n")
    write(tmp_path, "sys/class/net/eth0/device/uevent", "DRIVER=virtio_net\n")
    nics = host_facts(tmp_path, topology)["nic"]
    assert (nics["eth0"]["numa_node"], nics["lo"]["numa_node"]) == ("1", None)
    assert host_facts(tmp_path)["nic"]["eth0"]["numa_node"] is None


def test_programs_are_known_by_what_they_are(tmp_path: Path) -> None:
    for name, text in (("iolab-server", "one"), ("iolab-load", "two")):
        write(tmp_path, name, text)
    found = binary_facts(tmp_path / n for n in ("iolab-server", "iolab-load", "iolab-copy"))
    assert found == {
        name: hashlib.sha256(text.encode()).hexdigest()
        for name, text in (("iolab-server", "one"), ("iolab-load", "two"))
    }
    (change,) = manifest_diff.differences({"binaries": found}, {"binaries": found | {"x": "1"}})
    assert (change.group, change.key) == ("commit", "binaries.x")


def test_an_empty_tree_gives_nulls_not_errors(tmp_path: Path) -> None:
    facts = host_facts(tmp_path)
    assert facts["cpu"]["model"] is None
    assert facts["governor"] is None
    assert quietness(tmp_path, seconds=0)["busy"] is None


def test_quietness_is_a_share(tmp_path: Path) -> None:
    write(tmp_path, "proc/stat", "cpu  10 0 5 80 5 0 0 0 0 0\n")
    write(tmp_path, "proc/loadavg", "0.50 0.20 0.10 2/300 999\n")
    quiet = quietness(tmp_path, seconds=0)
    assert quiet["loadavg"] == [0.5, 0.2, 0.1]
    assert quiet["running"] == "2/300"
    assert quiet["busy"] is not None


def test_git_and_tools_answer_through_the_executor(tmp_path: Path) -> None:
    def run(argv: Sequence[str]) -> Completed:
        return Completed(tuple(argv), 0, " M file\n" if "status" in argv else "abc123\n", "")

    facts = git_facts(FakeExecutor(run=run), tmp_path)
    assert facts == {"commit": "abc123", "dirty": True}
    assert git_facts(FakeExecutor(), tmp_path) == {"commit": None, "dirty": None}
    tools = tool_facts(FakeExecutor(), {"nginx": "nginx/1.22"})
    assert tools["nginx"] == "nginx/1.22"
    assert tools["python"].startswith("3.")


def test_what_raises_frequencies_is_a_circumstance(tmp_path: Path) -> None:
    cpu = tmp_path / "sys/devices/system/cpu"
    (cpu / "intel_pstate").mkdir(parents=True)
    (cpu / "cpu0/cpufreq").mkdir(parents=True)
    (cpu / "intel_pstate/no_turbo").write_text("0\n")
    (cpu / "cpu0/cpufreq/energy_performance_preference").write_text("performance\n")
    before = {"host": {"boost": host_facts(tmp_path)["boost"]}}
    (cpu / "intel_pstate/no_turbo").write_text("1\n")
    after = {"host": {"boost": host_facts(tmp_path)["boost"]}}
    (found,) = manifest_diff.differences(before, after)
    assert (found.group, found.key, found.base, found.new) == (
        "governor", "host.boost.no_turbo", "0", "1",
    )  # fmt: skip
    assert before["host"]["boost"]["energy_performance_preference"] == "performance"


def test_limits_of_the_frequency_are_a_circumstance(tmp_path: Path) -> None:
    assert host_facts(tmp_path)["frequency"] is None
    for cpu, most in (("cpu0", "3000000"), ("cpu1", "3000000")):
        place = f"sys/devices/system/cpu/{cpu}/cpufreq"
        write(tmp_path, f"{place}/scaling_driver", "intel_cpufreq\n")
        write(tmp_path, f"{place}/scaling_max_freq", most)
    before = {"host": {"frequency": host_facts(tmp_path)["frequency"]}}
    assert before["host"]["frequency"] == {
        "scaling_driver": ["intel_cpufreq"], "scaling_max_freq": ["3000000"],
    }  # fmt: skip
    write(tmp_path, "sys/devices/system/cpu/cpu1/cpufreq/scaling_max_freq", "2000000")
    after = {"host": {"frequency": host_facts(tmp_path)["frequency"]}}
    (found,) = manifest_diff.differences(before, after)
    assert (found.group, found.key, found.new) == (
        "governor", "host.frequency.scaling_max_freq", ["2000000", "3000000"],
    )  # fmt: skip


def test_the_manifest_has_every_sysctl_that_a_shipped_profile_sets(tmp_path: Path) -> None:
    """Else a host on which somebody set it by hand would not differ from another."""
    profiles = sorted(find_house().profiles.glob("*.toml"))
    tables = [tomllib.loads(path.read_text()).get("sysctl", {}) for path in profiles]
    names = {name for table in tables for name in table}
    assert len(names) > 10
    assert names - host_facts(tmp_path)["sysctls"].keys() == set()
