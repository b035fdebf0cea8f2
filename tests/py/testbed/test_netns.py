from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from iolab.errors import IolabError
from iolab.executor import Completed, HostExecutor
from iolab.fake_executor import FakeExecutor
from iolab.testbed import netns
from iolab.testbed.loopback import Loopback
from iolab.testbed.netns import Netns, open_netns, sweep


def quiet(argv: Sequence[str]) -> Completed:
    return Completed(tuple(argv), 0, "", "")


def test_commands_are_placed_by_nsenter_on_their_side() -> None:
    bed = Netns(7, 2)
    assert bed.on_server(["a", "b"]) == [
        "nsenter", "--net=/run/netns/iolab-bed-7-0-server", "--", "a", "b",
    ]  # fmt: skip
    assert bed.on_client(["a"])[1] == "--net=/run/netns/iolab-bed-7-0-client"
    assert bed.facts()["queues"] == 2


def test_what_killed_harnesses_left_is_swept_and_nothing_else(tmp_path: Path) -> None:
    run, proc = tmp_path / "netns", tmp_path / "proc"
    for name in (
        "iolab-bed-7-0-server",
        "iolab-bed-7-0-client",
        "iolab-bed-8-1-server",
        "iolab-bed-x-0-y",
    ):
        (run / name).mkdir(parents=True)
    (run / "other").mkdir()
    (proc / "8").mkdir(parents=True)
    fake = FakeExecutor(run=quiet)
    assert sweep(fake, run, proc) == ["iolab-bed-7-0-client", "iolab-bed-7-0-server"]
    assert fake.ran == [
        ("ip", "netns", "delete", "iolab-bed-7-0-client"),
        ("ip", "netns", "delete", "iolab-bed-7-0-server"),
    ]
    assert sweep(fake, tmp_path / "nowhere", proc) == []


def test_what_a_host_lacks_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(IolabError, match="ip and nsenter not found"), open_netns(FakeExecutor()):
        pass
    monkeypatch.setattr(shutil, "which", lambda name: name)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(IolabError, match="privileges"), open_netns(FakeExecutor()):
        pass


def test_a_half_built_testbed_is_taken_down(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: name)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(netns, "sweep", lambda executor: [])

    def run(argv: Sequence[str]) -> Completed:
        wrong = "link" in argv
        return Completed(tuple(argv), int(wrong), "", "Not supported" if wrong else "")

    fake = FakeExecutor(run=run)
    with pytest.raises(IolabError, match=r"ip link add.*Not supported"), open_netns(fake, 2):
        pass
    deleted = [argv[-1] for argv in fake.ran if argv[:3] == ("ip", "netns", "delete")]
    assert deleted == [f"iolab-bed-{os.getpid()}-0-{side}" for side in ("client", "server")]


@pytest.fixture
def bed() -> Iterator[Netns]:
    """A real testbed of two queues."""
    if os.geteuid() != 0:
        pytest.skip("network namespaces take root")
    with HostExecutor() as executor:
        try:
            opened = open_netns(executor, 2)
            made = opened.__enter__()
        except IolabError as error:
            pytest.skip(f"no testbed netns here: {error}")
        yield made
        opened.__exit__(None, None, None)
    assert not Path("/run/netns", made.namespace("server")).exists()


def test_the_sides_reach_each_other(bed: Netns) -> None:
    with bed.at_server():
        listener = socket.create_server((bed.server_host, 0))
    address = listener.getsockname()
    with listener, bed.at_client(), socket.create_connection(address, timeout=30) as client:
        accepted, (peer, _) = listener.accept()
        with accepted:
            assert peer == bed.client_host
            client.sendall(b"x")
            assert accepted.recv(1) == b"x"


def test_each_device_has_its_queues(bed: Netns) -> None:
    with HostExecutor() as executor:
        for place, side in ((bed.on_server, "server"), (bed.on_client, "client")):
            script = f"ip -d link show {bed.device(side)}"  # type: ignore[arg-type]
            shown = executor.run(place(["sh", "-c", script])).stdout
            assert "numtxqueues 2 numrxqueues 2" in shown
            assert "state UP" in shown


def test_loopback_is_everywhere() -> None:
    with Loopback().at_client(), Loopback().at_server():
        assert Loopback().facts() == {}
