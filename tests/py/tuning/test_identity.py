"""On the real kernel: namespaces and interfaces are told from others of their names."""

from __future__ import annotations

import resource
import subprocess
from pathlib import Path

import pytest
from fakehost import FakeHost, WriteProfile, snapshot
from realnet import inside, ip, namespace

from iolab.errors import IolabError
from iolab.executor import HostExecutor
from iolab.tuning import bench, journal
from iolab.tuning.host import Host
from iolab.tuning.identity import Finder, Identity, identify
from iolab.tuning.knob import Gone, Target
from iolab.tuning.scene import Scene

FIN = "net.ipv4.tcp_fin_timeout"
FIN_FILE = Path("/proc/sys/net/ipv4/tcp_fin_timeout")
OF_V0 = """
[sysctl]
"net.ipv4.conf.v0.accept_redirects" = 0
[nic]
interface = "v0"
[nic.offloads]
gro = true
[steering]
rps = "all"
"""


def apply_inside(netns: str, state: Path, write_profile: WriteProfile) -> None:
    """As `ip netns exec NETNS iolab tune apply` does."""
    loaded = write_profile(f'[sysctl]\n"{FIN}" = 33')

    def work() -> None:
        assert bench.apply(loaded, Scene(Host(HostExecutor(), state=state))).ok

    inside(netns, work)


def fin_timeout(host: Host, netns: str) -> str:
    return host.tree(netns).read(f"proc/sys/{FIN.replace('.', '/')}")


def test_what_was_applied_in_another_namespace_is_not_restored_here(
    real: Host, netns: str, write_profile: WriteProfile
) -> None:
    here, there = FIN_FILE.read_text(), fin_timeout(real, netns)
    real.close()  # a child must not inherit its thread
    apply_inside(netns, real.state, write_profile)
    for verb in (bench.revert, bench.verify):
        with pytest.raises(IolabError, match=f"ip netns exec {netns} iolab tune"):
            verb(real)
    assert FIN_FILE.read_text() == here
    assert fin_timeout(real, netns) == "33"
    real.close()
    inside(netns, lambda: bench.revert(Host(HostExecutor(), state=real.state)))
    assert fin_timeout(real, netns) == there
    assert journal.load(real.state) is None


def test_a_namespace_without_a_name_is_still_there(
    real: Host, netns: str, write_profile: WriteProfile
) -> None:
    apply_inside(netns, real.state, write_profile)
    resident = subprocess.Popen(["ip", "netns", "exec", netns, "cat"], stdin=subprocess.PIPE)
    try:
        while Path(f"/proc/{resident.pid}/comm").read_text() != "cat\n":
            assert resident.poll() is None
        assert ip("netns", "del", netns).returncode == 0
        with pytest.raises(IolabError, match=f"nsenter --net=/proc/{resident.pid}/ns/net"):
            bench.revert(real)
        assert journal.load(real.state) is not None
    finally:
        resident.communicate()


def test_what_a_namespace_took_along_is_gone_and_not_restored(
    real: Host, netns: str, write_profile: WriteProfile
) -> None:
    here = FIN_FILE.read_text()
    apply_inside(netns, real.state, write_profile)
    assert ip("netns", "del", netns).returncode == 0
    (restored,) = bench.revert(real)
    assert (restored.problem, restored.gone) == ("", "the network namespace of then is gone")
    assert FIN_FILE.read_text() == here
    assert journal.load(real.state) is None


def test_a_namespace_that_left_its_file_behind_keeps_no_other_value_from_coming_back(
    real: Host, netns: str, write_profile: WriteProfile
) -> None:
    """Somebody unmounted it: what is left in /run/netns is a file that nobody can enter."""
    resident = subprocess.Popen(["cat"], stdin=subprocess.PIPE)
    try:
        limits = resource.prlimit(resident.pid, resource.RLIMIT_NOFILE)
        text = f'[sysctl]\n"{FIN}" = 33\n[limits]\nnofile = {limits[0] - 1}'
        scene = Scene(real, netns=netns, limits_pid=resident.pid)
        assert bench.apply(write_profile(text), scene).ok
        real.close()  # its thread would keep the namespace
        assert subprocess.run(["umount", f"/run/netns/{netns}"], check=False).returncode == 0
        restored = {one.knob.partition(" ")[0]: one for one in bench.revert(real)}
        assert restored[FIN].gone == f"network namespace {netns} is gone"
        assert resource.prlimit(resident.pid, resource.RLIMIT_NOFILE) == limits
        assert journal.load(real.state) is None
    finally:
        resident.communicate()


def test_a_renamed_namespace_is_found(real: Host, netns: str, write_profile: WriteProfile) -> None:
    there = fin_timeout(real, netns)
    bench.apply(write_profile(f'[sysctl]\n"{FIN}" = 33'), Scene(real, netns=netns))
    real.close()
    other = f"{netns}-other"
    Path("/run/netns", other).touch()
    try:
        # ip-netns(8) has no rename: the file is mounted under the new name, then the old one goes.
        mount = ["mount", "--bind", f"/run/netns/{netns}", f"/run/netns/{other}"]
        assert subprocess.run(mount, check=False).returncode == 0
        assert ip("netns", "del", netns).returncode == 0
        (restored,) = bench.revert(real)
        assert (restored.problem, restored.gone) == ("", "")
        assert other in restored.note
        assert fin_timeout(real, other) == there
    finally:
        subprocess.run(["umount", f"/run/netns/{other}"], check=False)
        ip("netns", "del", other)


def of_device(host: Host, netns: str, name: str) -> list[str]:
    """The values of OF_V0, of the interface that has the name."""
    tree = host.tree(netns)
    features = host.run(["ethtool", "-k", name], netns).stdout
    return [
        tree.read(f"proc/sys/net/ipv4/conf/{name}/accept_redirects"),
        tree.read(f"sys/class/net/{name}/queues/rx-0/rps_cpus"),
        next(line for line in features.splitlines() if "generic-receive-offload" in line),
    ]


def test_a_renamed_interface_is_restored_and_its_namesake_left_alone(
    real: Host, netns: str, write_profile: WriteProfile
) -> None:
    before = of_device(real, netns, "v0")
    assert bench.apply(write_profile(OF_V0), Scene(real, netns=netns, only_netns=True)).ok
    tuned = of_device(real, netns, "v0")
    assert all(old != new for old, new in zip(before, tuned, strict=True))
    for command in (
        ("link", "set", "v0", "down"),
        ("link", "set", "v0", "name", "v9"),
        ("link", "add", "v0", "type", "veth", "peer", "v8"),
    ):
        assert ip("-n", netns, *command).returncode == 0
    real.tree(netns).write("sys/class/net/v0/queues/rx-0/rps_cpus", "1")
    namesake = of_device(real, netns, "v0")
    restored = bench.revert(real)
    assert [(one.problem, one.gone) for one in restored if one.problem or one.gone] == []
    assert all("v9" in one.note for one in restored)
    assert of_device(real, netns, "v9") == before
    assert of_device(real, netns, "v0") == namesake
    assert journal.load(real.state) is None


def test_an_interface_that_moved_to_another_namespace_is_restored_there(
    real: Host, netns: str, write_profile: WriteProfile
) -> None:
    with namespace("-b") as other:
        before = of_device(real, netns, "v0")
        assert bench.apply(write_profile(OF_V0), Scene(real, netns=netns, only_netns=True)).ok
        assert ip("-n", netns, "link", "set", "v0", "name", "v7", "netns", other).returncode == 0
        given = of_device(real, other, "v7")[0]
        restored = {one.knob: one for one in bench.revert(real)}
        sysctl = restored.pop("net.ipv4.conf.v0.accept_redirects")
        assert "in another network namespace, which gave it new ones" in sysctl.gone
        assert {one.note for one in restored.values()} == {f"found as v7 in namespace {other}"}
        assert [one for one in restored.values() if one.problem or one.gone] == []
        assert of_device(real, other, "v7") == [given, *before[1:]]
        assert journal.load(real.state) is None
        real.close()


def test_an_interface_that_is_gone_is_said_to_be(
    real: Host, netns: str, write_profile: WriteProfile
) -> None:
    bench.apply(write_profile(OF_V0), Scene(real, netns=netns, only_netns=True))
    assert ip("-n", netns, "link", "del", "v0").returncode == 0
    assert ip("-n", netns, "link", "add", "v0", "type", "veth", "peer", "v1").returncode == 0
    untouched = of_device(real, netns, "v0")
    restored = bench.revert(real)
    assert restored
    assert all("interface v0 (index" in one.gone and not one.problem for one in restored)
    assert of_device(real, netns, "v0") == untouched
    assert journal.load(real.state) is None


def test_a_renamed_interface_on_a_machine_of_files(
    machine: Path, host: FakeHost, scene: Scene, write_profile: WriteProfile
) -> None:
    before = snapshot(machine)
    loaded = write_profile('[steering]\nrps = "all"')
    assert bench.apply(loaded, scene).ok
    link = machine / "sys/class/net/eth0"
    link.rename(link.with_name("wan0"))
    restored = bench.revert(host)
    assert all("found as wan0" in one.note for one in restored)
    link.with_name("wan0").rename(link)
    assert snapshot(machine) == before


def test_a_device_on_the_bus_without_an_interface_is_somewhere(
    machine: Path, host: FakeHost, scene: Scene, write_profile: WriteProfile
) -> None:
    """As when a container got it: its driver still has it."""
    assert bench.apply(write_profile('[steering]\nrps = "all"'), scene).ok
    before = snapshot(machine)
    driver = machine / "sys/devices/pci0000:00/0000:00:03.0/virtio2/driver"
    driver.touch()
    link = machine / "sys/class/net/eth0"
    link.rename(machine / "elsewhere")
    assert all("without a name" in one.problem for one in bench.revert(host))
    assert journal.load(host.state) is not None
    driver.unlink()
    assert all("is gone" in one.gone for one in bench.revert(host))
    (machine / "elsewhere").rename(link)
    assert snapshot(machine) == before


def test_a_new_interface_of_the_old_name_can_be_tuned(
    real: Host, netns: str, write_profile: WriteProfile
) -> None:
    loaded, scene = write_profile(OF_V0), Scene(real, netns=netns, only_netns=True)
    bench.apply(loaded, scene)
    assert ip("-n", netns, "link", "del", "v0").returncode == 0
    assert ip("-n", netns, "link", "add", "v0", "type", "veth", "peer", "v1").returncode == 0
    with pytest.raises(IolabError, match="went with their namespace or interface"):
        bench.verify(real)
    before = of_device(real, netns, "v0")
    assert bench.apply(loaded, scene).ok
    bench.revert(real)
    assert of_device(real, netns, "v0") == before


def test_a_device_on_the_bus_outlives_its_namespace(host: FakeHost) -> None:
    """It is given back to the first namespace, and its values with it."""
    (device,) = identify(host, [Target("rings", "rx ring", "rx", "eth0")]).devices.values()
    finder = Finder(host, Identity({"": "", "gone": ""}, {("gone", "wan0"): device}))
    found = finder.find(Target("rings", "rx ring", "rx", "wan0", "gone"))
    assert (found.device, found.netns) == ("eth0", "")
    with pytest.raises(Gone, match="namespace gone"):
        finder.find(Target("qdisc", "root", "root", "wan0", "gone"))
