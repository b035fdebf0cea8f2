"""On the real kernel: what a killed run leaves is cleaned up at the next start of any verb."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "tuning"))  # fakehost.py

from click.testing import CliRunner
from fakehost import in_child, was_killed

from iolab import cli
from iolab.executor import HostExecutor
from iolab.tuning.host import Host
from iolab.tuning.profile import load_profile
from iolab.tuning.scene import Scene
from iolab.tuning.session import session
from iolab.tuning.state import journalled, state_dir

NO_PROCESS = (1 << 22) + 1
"""Above the greatest process id (PID_MAX_LIMIT, linux/threads.h)."""


@pytest.fixture
def bed() -> Iterator[str]:
    """A namespace as a testbed of a harness that is gone has it."""
    if os.geteuid() != 0:
        pytest.skip("making network namespaces needs root")
    name = f"iolab-bed-{NO_PROCESS}-0-server"
    done = subprocess.run(["ip", "netns", "add", name], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"ip netns add: {done.stderr.strip()}")
    yield name
    subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)


def test_a_killed_run_leaves_neither_namespace_nor_journal(
    bed: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IOLAB_STATE", str(tmp_path / "state"))
    (tmp_path / "small.toml").write_text(
        'summary = "s"\n[sysctl]\n"net.ipv4.tcp_fin_timeout" = 33\n'
    )

    def work() -> None:
        host = Host(HostExecutor(), state=state_dir(bed))
        loaded = load_profile(tmp_path, "small")
        with session(loaded, Scene(host, netns=bed, only_netns=True)):
            os.kill(os.getpid(), signal.SIGKILL)

    assert was_killed(in_child(work))
    assert journalled() == [state_dir(bed)]
    done = CliRunner().invoke(cli.cli, ["run"])
    assert done.exit_code == 2  # for want of a matrix: nothing is left that it would measure
    assert "profile small is not applied any more" in done.stderr
    assert not Path("/run/netns", bed).exists()
    assert not state_dir(bed).exists()
