"""Single files of an interface and of its queues."""

from __future__ import annotations

from pathlib import Path

import pytest
from fakehost import WriteProfile, snapshot
from realnet import ip

from iolab.errors import IolabError
from iolab.tuning import bench
from iolab.tuning.host import Host
from iolab.tuning.knob import Outcome
from iolab.tuning.scene import Scene


def test_single_files_of_a_queue_take_their_value_and_give_it_back(
    machine: Path, scene: Scene, write_profile: WriteProfile
) -> None:
    before = snapshot(machine)
    mask, queue = "queues/rx-1/rps_cpus", machine / "sys/class/net/eth0/queues/rx-1/rps_cpus"
    applied = bench.apply(write_profile(f'[nic.files]\n"{mask}" = "00000005"'), scene)
    assert [(one.knob, one.outcome) for one in applied.results] == [
        (f"{mask} of eth0", Outcome.EXACT)
    ]
    assert int(queue.read_text(), 16) == 5
    bench.revert(scene.host)
    assert snapshot(machine) == before


def test_what_stands_on_an_interface_gets_its_mtu_back(
    netns: str, real: Host, write_profile: WriteProfile
) -> None:
    """On the real kernel: a smaller MTU lowers that of interfaces above, a larger one leaves it."""
    above = ("link", "add", "link", "v0", "name", "up0.5", "type", "macvlan")
    made = ip("-n", netns, *above)
    if made.returncode != 0:
        pytest.skip(f"no interface can be put above another: {made.stderr.strip()}")

    def mtus() -> list[str]:
        tree = real.tree(netns)
        return [tree.read(f"sys/class/net/{name}/mtu") for name in ("v0", "up0.5")]

    loaded = write_profile("[nic.files]\nmtu = 1400")
    assert bench.apply(loaded, Scene(real, "v0", netns, only_netns=True)).ok
    assert mtus() == ["1400", "1400"]
    assert [one for one in bench.revert(real) if one.problem] == []
    assert mtus() == ["1500", "1500"]


def test_a_file_of_a_queue_that_is_not_there_is_said(
    scene: Scene, write_profile: WriteProfile
) -> None:
    loaded = write_profile('[nic.files]\n"queues/rx-7/rps_cpus" = "1"')
    with pytest.raises(IolabError, match=r"rx-7/rps_cpus: this kernel or device has no such file"):
        bench.apply(loaded, scene)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('[nic.files]\n"carrier" = 0', "expected a file such as"),
        ('[nic.files]\n"mtu" = 1279', "mtu: '1279': .* takes IPv6 off the interface"),
        ('[nic.files]\n"mtu" = "large"', "mtu: 'large': expected a number of bytes"),
        ('[nic.files]\n"../eth1/tx_queue_len" = 1', "expected a file such as"),
        ('[nic.files]\n"tx_queue_len" = true', "expected a number"),
        (
            '[steering]\nxps = "all"\n[nic.files]\n"queues/tx-0/xps_rxqs" = "1"',
            "set by steering.xps as well",
        ),
    ],
)
def test_files_that_no_profile_may_set_are_refused(
    write_profile: WriteProfile, text: str, words: str
) -> None:
    with pytest.raises(IolabError, match=words):
        write_profile(text)
