"""The exported scripts do what apply and revert do, as far as files go."""

from __future__ import annotations

import os
import resource
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from fakehost import FakeHost, WriteProfile, snapshot
from faketools import load, put, save

from iolab.tuning import bench
from iolab.tuning.planning import make_plan, plan_ahead
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


_TOOL = """#!/bin/sh
PYTHONPATH={path} exec {python} -c '
import os, sys
from pathlib import Path
from faketools import ethtool, tc
sys.stdout.write({tool}(Path(os.environ["ROOT"]), sys.argv[1:]))' "$@"
"""


@pytest.fixture
def tools(tmp_path: Path) -> Path:
    """A directory with the machine's ethtool and tc, for scripts."""
    path = os.pathsep.join([str(Path(__file__).parent), *filter(None, sys.path)])
    (tmp_path / "bin").mkdir()
    for name in ("ethtool", "tc"):
        tool = tmp_path / "bin" / name
        tool.write_text(_TOOL.format(path=shlex.quote(path), python=sys.executable, tool=name))
        tool.chmod(0o755)
    return tmp_path / "bin"


QUEUES = """
[nic]
channels = "per-core"
[irq]
policy = "local-node"
[steering]
rps = "local-node"
rfs_entries = 4096
xps = "one-per-queue"
"""


def test_a_script_that_changes_the_channels_is_for_the_queues_that_are_left(
    machine: Path, host: FakeHost, scene: Scene, write_profile: WriteProfile, tools: Path
) -> None:
    loaded = write_profile(QUEUES)
    # What is so by now is not so any more once the driver has made its queues anew.
    put(machine, "sys/class/net/eth0/queues/tx-0/xps_cpus", "5")
    put(machine, "proc/irq/41/smp_affinity_list", "2")
    before = snapshot(machine)
    forward, back = export(plan_ahead(loaded, scene))
    assert bench.apply(loaded, scene).ok
    applied = snapshot(machine)
    bench.revert(host)
    # This driver keeps the interrupts of queues that it does not use; others have none such.
    idle = {f"proc/irq/{number}/smp_affinity_list" for number in range(45, 49)}
    for script, after, apart in ((forward, applied, idle), (back, before, set())):
        done = run(f"PATH={tools}:$PATH\n{script}", machine)
        assert (done.returncode, done.stderr) == (0, "")
        found = snapshot(machine)
        assert {name for name in found if found[name] != after.get(name)} == apart
        assert found.keys() == after.keys()


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


def test_the_undo_script_lowers_a_hard_limit_that_was_raised(
    scene: Scene, machine: Path, write_profile: WriteProfile
) -> None:
    if resource.getrlimit(resource.RLIMIT_NOFILE)[1] < 8192:
        pytest.skip("this process may not have 8192 open files")
    _, back = export(make_plan(write_profile("[limits]\nnofile = 8192"), scene))
    done = run(f"ulimit -n 8192\n{back}\nulimit -S -n; ulimit -H -n", machine)
    assert (done.stdout.split(), done.stderr) == (["1024", "4096"], "")


_PYTHON = """#!/bin/sh
printf '%s\\n' "$1" "$3" "$4" >"$ROOT/called"
exec "$REAL" -c 'import sys; compile(sys.argv[1], "RSS_TABLE", "exec")' "$2"
"""


def test_the_undo_script_carries_what_writes_a_table_that_ethtool_cannot(
    scene: Scene, machine: Path, write_profile: WriteProfile
) -> None:
    save(machine, {**load(machine), "indirection": [0, 3, 1, 0] * 4})
    forward, back = export(make_plan(write_profile("[nic.rss]\nindirection = 2"), scene))
    assert "RSS_TABLE" not in forward
    assert subprocess.run(["dash", "-n"], input=back, text=True, check=False).returncode == 0
    (machine / "python3").write_text(_PYTHON)
    (machine / "python3").chmod(0o755)
    done = run(f"REAL={sys.executable} PATH={machine}:$PATH\nexport REAL\n{back}", machine)
    assert (done.returncode, done.stderr) == (0, "")
    assert (machine / "called").read_text().split() == ["-c", "eth0", ",".join("0310" * 4)]


_BUSY = """#!/bin/sh
case "$1" in
-G) echo rings >>"$ROOT/order" ;;
*) grep -q rings "$ROOT/order" || { echo "busy" >&2; exit 1; }
   echo "$1" >>"$ROOT/order" ;;
esac
"""


def test_what_another_value_keeps_from_coming_back_is_tried_again(
    scene: Scene, machine: Path, write_profile: WriteProfile
) -> None:
    """As an energy preference is busy (EBUSY) until the governor is restored."""
    profile = "[nic]\nrx_ring = 512\n[nic.offloads]\ngro = true"
    _, back = export(make_plan(write_profile(profile), scene))
    (machine / "ethtool").write_text(_BUSY)
    (machine / "ethtool").chmod(0o755)
    (machine / "order").touch()
    path = f"PATH={machine}:$PATH\n"
    done = run(path + back, machine)
    assert (done.returncode, done.stderr) == (0, "")
    assert (machine / "order").read_text() == "rings\n-K\n"
    (machine / "order").unlink()  # and now it stays busy
    (machine / "order").mkdir()
    done = run(path + back, machine)
    assert done.returncode == 1
    assert "busy" in done.stderr
    assert done.stderr.count("failed: ethtool -K eth0 gro off") == 1
