"""The exported scripts do what apply and revert do, as far as files go."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from fakehost import FakeHost, WriteProfile, snapshot

from iolab.tuning import bench
from iolab.tuning.planning import make_plan
from iolab.tuning.scene import Scene
from iolab.tuning.shell import export

FILES = """
[sysctl]
"net.core.somaxconn" = 65535
[irq]
policy = "local-node"
[steering]
rps = "local-node"
xps = "rx-queues"
[cpu]
governor = "performance"
"""


def run(script: str, root: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["sh", "-c", script],
        env={"ROOT": str(root), "PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        check=False,
    )


def test_script_and_undo_script_equal_apply_and_revert(
    machine: Path, host: FakeHost, scene: Scene, write_profile: WriteProfile
) -> None:
    loaded = write_profile(FILES)
    before = snapshot(machine)
    forward, back = export(make_plan(loaded, scene))
    bench.apply(loaded, scene)
    applied = snapshot(machine)
    bench.revert(host)
    done = run(forward, machine)
    assert (done.returncode, done.stderr) == (0, "")
    assert snapshot(machine) == applied != before
    done = run(back, machine)
    assert (done.returncode, done.stderr) == (0, "")
    assert snapshot(machine) == before


def test_a_failing_write_is_said_and_the_others_happen(
    machine: Path, scene: Scene, write_profile: WriteProfile
) -> None:
    forward, _ = export(make_plan(write_profile(FILES), scene))
    (machine / "proc/sys/net/core/somaxconn").unlink()
    (machine / "proc/sys/net/core/somaxconn").mkdir()
    done = run(forward, machine)
    assert done.returncode == 1
    assert "failed: /proc/sys/net/core/somaxconn" in done.stderr
    queue = "sys/class/net/eth0/queues/rx-0/rps_cpus"
    assert (machine / queue).read_text() == "c\n"


@pytest.mark.parametrize(
    ("profile", "lines"),
    [
        ("[nic]\nchannels = 2", ["run ethtool -L eth0 combined 2"]),
        ("[nic.offloads]\ngro = true", ["run ethtool -K eth0 gro on"]),
        (
            '[nic]\nqdisc = "mq/fq"',
            [
                "run tc qdisc replace dev eth0 root handle 10fb: mq",
                "run tc qdisc replace dev eth0 parent 10fb:4 fq",
            ],
        ),
        ("[limits]\nnofile = 1048576", ["run ulimit -S -n 1048576"]),
        ("[cpu]\nlatency_usec = 5", ["hold_latency 5"]),
    ],
)
def test_tools_are_called_as_apply_calls_them(
    profile: str, lines: list[str], scene: Scene, write_profile: WriteProfile
) -> None:
    forward, _ = export(make_plan(write_profile(profile), scene))
    for line in lines:
        assert line in forward.splitlines()


def test_the_scripts_are_posix_shell(scene: Scene, write_profile: WriteProfile) -> None:
    text = f"{FILES}\nlatency_usec = 5\n[limits]\nnofile = 1048576\n[nic]\nqdisc = 'fq'"
    for script in export(make_plan(write_profile(text), scene)):
        checked = subprocess.run(["dash", "-n"], input=script, text=True, check=False)
        assert checked.returncode == 0
