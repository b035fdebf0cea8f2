"""Where server and client run and take their memory."""

from __future__ import annotations

from fakehost import WriteProfile

from iolab.tuning.placement import place
from iolab.tuning.scene import Scene


def test_placement_follows_the_interface(scene: Scene, write_profile: WriteProfile) -> None:
    loaded = write_profile('[placement]\nserver = "nic-node"\nclient = "other-node"')
    sides = place(loaded.profile, scene)
    assert sides["server"].command() == "numactl --physcpubind=2-3 --membind=1"
    assert sides["client"].command() == "numactl --physcpubind=0-1 --membind=0"
