"""This machine, looked at: the only part of `doctor` that reads limits, clocks and programs."""

from __future__ import annotations

import os
import platform
import resource
import shutil
import time
from pathlib import Path

from iolab.describe import Describe
from iolab.doctor.machine import Machine, Peer
from iolab.doctor.processors import BUSY_WINDOW_S, parse_cpu_times
from iolab.errors import IolabError
from iolab.executor import HostExecutor
from iolab.interfaces import interfaces
from iolab.paths import House
from iolab.servers.iolab_server import describe
from iolab.servers.peer import load_peers, peer_version


def look_at(house: House) -> Machine:
    """This machine, now. Takes `BUSY_WINDOW_S` to see what else runs."""
    root = Path("/")
    before = parse_cpu_times((root / "proc/stat").read_text())
    time.sleep(BUSY_WINDOW_S)
    after = parse_cpu_times((root / "proc/stat").read_text())
    described, problem = _describe(house)
    return Machine(
        root=root,
        house=house,
        kernel=platform.release(),
        affinity=frozenset(os.sched_getaffinity(0)),
        memlock_bytes=resource.getrlimit(resource.RLIMIT_MEMLOCK)[0],
        nofile_hard=resource.getrlimit(resource.RLIMIT_NOFILE)[1],
        free_disk_bytes=shutil.disk_usage(house.root).free,
        which=shutil.which,
        busy=(before, after) if before and after else None,
        describe=described,
        describe_problem=problem,
        peers=peers_of(house),
        interfaces=interfaces(root),
    )


def _describe(house: House) -> tuple[Describe | None, str]:
    """The server's own account of its engines, or why there is none."""
    if not os.access(house.server_binary, os.X_OK):
        return None, "not built"
    try:
        with HostExecutor() as executor:
            return describe(executor, house.server_binary), ""
    except IolabError as error:
        return None, error.message


def peers_of(house: House) -> tuple[Peer, ...]:
    """The peer files of the tree, and what of them is here."""
    with HostExecutor() as executor:
        return tuple(
            Peer(
                name, peer_version(executor, peer, house.root), peer.lacks(house.root), peer.remedy
            )
            for name, peer in load_peers(house.peers).items()
        )
