"""A machine of files for each test; its journal lies outside of it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # fakehost.py stands beside the tests

import fakehost
from realnet import namespace

from iolab.executor import HostExecutor
from iolab.tuning import hold
from iolab.tuning.host import Host
from iolab.tuning.profile import Loaded, load_profile
from iolab.tuning.scene import Scene


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    """The root of a fresh machine."""
    root = tmp_path / "machine"
    root.mkdir()
    fakehost.build(root)
    return root


@pytest.fixture
def host(machine: Path, tmp_path: Path) -> Iterator[fakehost.FakeHost]:
    """The machine, its rules those of the kernel."""
    made = fakehost.make(machine, tmp_path / "state")
    yield made
    hold.end(made.state)
    made.close()


@pytest.fixture
def scene(host: fakehost.FakeHost) -> Scene:
    """The machine as a whole, seen by a shell of its own."""
    return Scene(host, limits_pid=fakehost.PID)


@pytest.fixture
def write_profile(tmp_path: Path) -> fakehost.WriteProfile:
    """Loads a profile from its text, without the summary."""

    def write(text: str) -> Loaded:
        path = tmp_path / "trial.toml"
        path.write_text(f'summary = "a trial"\n{text}')
        return load_profile(tmp_path, "trial")

    return write


@pytest.fixture
def netns() -> Iterator[str]:
    """A namespace with the pair v0, v1 of two queues each."""
    with namespace() as name:
        yield name


@pytest.fixture
def real(netns: str, tmp_path: Path) -> Iterator[Host]:
    """This machine, with a journal of the test's own."""
    with HostExecutor() as executor:
        host = Host(executor, state=tmp_path / "state")
        yield host
        host.close()
