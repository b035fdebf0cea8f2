"""irqbalance's control socket, played by a thread that answers as irqbalance 1.9 does."""

from __future__ import annotations

import errno
import os
import socket
import struct
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from fakehost import FakeHost, WriteProfile, refuse, snapshot

from iolab.errors import InputError, IolabError
from iolab.tuning import bench, irqbalance
from iolab.tuning.knob import KnobError
from iolab.tuning.scene import Scene

PID = 99
QUEUES = set(range(41, 49))
"""Interrupts of the fake machine's queues."""


@dataclass
class FakeDaemon:
    """What it leaves alone, what it was told, and how much of a list it reads (0: all of it)."""

    listener: socket.socket
    spared: set[int] = field(default_factory=set)
    heard: list[str] = field(default_factory=list)
    keeps: int = 0

    def serve(self) -> None:
        """Answers until the listener is shut down."""
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            with client:
                self.answer(client)

    def answer(self, client: socket.socket) -> None:
        """One message of one connection; only who shows credentials is heard."""
        data, ancillary, _, _ = client.recvmsg(500, socket.CMSG_SPACE(12))
        kinds = {(level, kind) for level, kind, _ in ancillary}
        assert (socket.SOL_SOCKET, socket.SCM_CREDENTIALS) in kinds
        assert struct.unpack("iII", ancillary[0][2])[0] > 0
        message = data.decode()
        self.heard.append(message)
        if message == "setup":
            irqs = "".join(f"IRQ {n} LOAD 0 DIFF 0 CLASS 5 " for n in sorted(self.spared))
            client.sendall(f"SLEEP 10 {irqs} BANNED 00000000".encode())
        elif message.startswith("settings ban irqs "):
            words = message.removeprefix("settings ban irqs ").split()
            self.spared = {int(word) for word in words if word != "NONE"}
            if self.keeps:
                self.spared = set(sorted(self.spared)[: self.keeps])


@pytest.fixture
def daemon(machine: Path) -> Iterator[FakeDaemon]:
    """irqbalance runs on the machine, and was told before to leave interrupt 7 alone."""
    start(machine)
    place = machine / "run/irqbalance"
    place.mkdir(parents=True)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        bind(listener, place / f"irqbalance{PID}.sock")
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        listener.listen()
        made = FakeDaemon(listener, {7})
        thread = threading.Thread(target=made.serve)
        thread.start()
        yield made
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()


def start(machine: Path, started: int = 1234) -> None:
    """A process called irqbalance."""
    (machine / f"proc/{PID}").mkdir(exist_ok=True)
    (machine / f"proc/{PID}/comm").write_text("irqbalance\n")
    fields = ["S", *["0"] * 18, str(started)]
    (machine / f"proc/{PID}/stat").write_text(f"{PID} (irqbalance) {' '.join(fields)}\n")


def bind(listener: socket.socket, path: Path) -> None:
    """As from the directory itself: pytest's paths may be longer than an address."""
    descriptor = os.open(path.parent, os.O_PATH)
    try:
        listener.bind(f"/proc/self/fd/{descriptor}/{path.name}")
    finally:
        os.close(descriptor)


def test_it_is_told_before_the_interrupts_move_and_the_old_list_comes_back(
    daemon: FakeDaemon, scene: Scene, write_profile: WriteProfile
) -> None:
    applied = bench.apply(write_profile('[irq]\npolicy = "local-node"'), scene)
    assert applied.ok
    assert daemon.spared == QUEUES | {7}
    first = applied.results[0]
    assert first.knob == "interrupts left alone by irqbalance (process 99)"
    assert (first.original, first.effective) == ("7", "7 41 42 43 44 45 46 47 48")
    assert not any("may move it back" in one.reason for one in applied.results)
    assert all(one.good for one in bench.verify(scene.host))
    assert all(not one.problem for one in bench.revert(scene.host))
    assert daemon.spared == {7}


def test_an_empty_list_comes_back_empty(
    daemon: FakeDaemon, scene: Scene, write_profile: WriteProfile
) -> None:
    daemon.spared.clear()
    assert bench.apply(write_profile('[irq]\npolicy = "all"'), scene).ok
    bench.revert(scene.host)
    assert daemon.spared == set()
    assert "settings ban irqs NONE" in daemon.heard


def test_a_list_that_the_daemon_cuts_is_a_failure_and_undone(
    daemon: FakeDaemon, machine: Path, scene: Scene, write_profile: WriteProfile
) -> None:
    files = snapshot(machine)
    daemon.keeps = 3
    applied = bench.apply(write_profile('[irq]\npolicy = "all"'), scene)
    assert not applied.kept
    assert daemon.spared == {7}
    assert snapshot(machine) == files


def test_a_refused_affinity_gives_the_list_back(
    daemon: FakeDaemon, host: FakeHost, scene: Scene, write_profile: WriteProfile
) -> None:
    host.rules["proc/irq/48/smp_affinity_list"] = refuse(errno.EIO)
    assert not bench.apply(write_profile('[irq]\npolicy = "all"'), scene).kept
    assert daemon.spared == {7}


def test_a_list_too_long_for_it_is_refused_whole(machine: Path, daemon: FakeDaemon) -> None:
    with pytest.raises(KnobError, match="255 bytes") as caught:
        irqbalance.ban(machine, PID, range(1000, 1064))
    assert "systemctl stop irqbalance" in str(caught.value)
    assert daemon.heard == []


def test_a_restarted_daemon_took_its_list_along(
    daemon: FakeDaemon, machine: Path, scene: Scene, write_profile: WriteProfile
) -> None:
    assert bench.apply(write_profile('[irq]\npolicy = "all"'), scene).ok
    start(machine, started=99999)
    daemon.spared = {5}
    assert all(not one.problem for one in bench.revert(scene.host))
    assert daemon.spared == {5}


def test_one_without_a_socket_is_in_the_way(
    machine: Path, host: FakeHost, scene: Scene, write_profile: WriteProfile
) -> None:
    start(machine)
    with pytest.raises(IolabError, match=r"cannot be told.*systemctl stop irqbalance"):
        bench.apply(write_profile('[irq]\npolicy = "all"'), scene)
    assert host.changes == 0


def test_it_can_be_reported_instead(
    daemon: FakeDaemon, scene: Scene, write_profile: WriteProfile
) -> None:
    applied = bench.apply(write_profile('[irq]\npolicy = "all"\nirqbalance = "report"'), scene)
    assert applied.ok
    written = [one for one in applied.results if one.reason != "as it was"]
    assert written
    assert all("irqbalance (process 99) may move it back" in one.reason for one in written)
    assert daemon.spared == {7}


def test_it_can_be_refused_instead(
    daemon: FakeDaemon, host: FakeHost, scene: Scene, write_profile: WriteProfile
) -> None:
    with pytest.raises(
        InputError, match=r"trial\.toml: irq\.policy: irqbalance runs \(process 99\)"
    ):
        bench.apply(write_profile('[irq]\npolicy = "all"\nirqbalance = "refuse"'), scene)
    assert host.changes == 0
    assert daemon.spared == {7}
