"""Server and client in two network namespaces, joined by a veth pair with a queue for each CPU.

Each side has a device, queues, RPS and XPS masks, sysctls and a route of its own, as two hosts do;
packets pass NAPI and the backlog of a CPU instead of the short cut of the loopback device. There is
no card: every zero-copy send is copied (drivers/net/veth.c hands the pages to the peer, and what is
looped back is copied first: skb_orphan_frags_rx, net/core/dev.c), nothing is offloaded, and both
sides share the CPUs. Reports label such results.

Commands are placed by nsenter(1) and not by `ip netns exec`, which mounts /sys anew and with that
hides control groups and tracefs. The harness's own sockets enter a namespace by setns(2), for the
calling thread and the time of a context. Names hold the process id of their harness: what one left
behind that was killed is removed at the next start of any verb.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from iolab.errors import IolabError
from iolab.executor import Executor, ProcessError
from iolab.remains import BED_PREFIX, NAMED_NAMESPACES

Side = Literal["server", "client"]

_RUN = NAMED_NAMESPACES
_CLONE_NEWNET = 0x40000000  # linux/sched.h
_LIBC = ctypes.CDLL(None, use_errno=True)
_PREFIX_LENGTH = 30
_DEVICE: dict[Side, str] = {"server": "ioserver", "client": "ioclient"}
# TEST-NET-1 (RFC 5737): addresses that no network uses.
_ADDRESS: dict[Side, str] = {"server": "192.0.2.1", "client": "192.0.2.2"}


@dataclass(frozen=True)
class Netns:
    """The testbed `netns`; made and removed by `open_netns`.

    `queues` of each device. `pair` tells the pairs of namespaces of one harness apart.
    """

    owner: int
    queues: int
    pair: int = 0
    name: str = "netns"
    server_host: str = _ADDRESS["server"]
    client_host: str = _ADDRESS["client"]

    def namespace(self, side: Side) -> str:
        """The name of a side's namespace, as `ip netns` shows it."""
        return f"{BED_PREFIX}-{self.owner}-{self.pair}-{side}"

    def device(self, side: Side) -> str:
        """The side's end of the veth pair."""
        return _DEVICE[side]

    def on_server(self, argv: Sequence[str]) -> list[str]:
        """See Testbed."""
        return self._placed("server", argv)

    def on_client(self, argv: Sequence[str]) -> list[str]:
        """See Testbed."""
        return self._placed("client", argv)

    def at_server(self) -> contextlib.AbstractContextManager[None]:
        """See Testbed."""
        return inside(_RUN / self.namespace("server"))

    def at_client(self) -> contextlib.AbstractContextManager[None]:
        """See Testbed."""
        return inside(_RUN / self.namespace("client"))

    def facts(self) -> dict[str, Any]:
        """See Testbed."""
        return {"queues": self.queues, "devices": dict(_DEVICE), "addresses": dict(_ADDRESS)}

    def _placed(self, side: Side, argv: Sequence[str]) -> list[str]:
        return ["nsenter", f"--net={_RUN / self.namespace(side)}", "--", *argv]


@contextlib.contextmanager
def open_netns(executor: Executor, queues: int | None = None, pair: int = 0) -> Iterator[Netns]:
    """Builds the testbed, with a queue for each usable CPU unless told, and removes it at the end.

    Several stand side by side under different numbers (`pair`), with the same addresses.
    IolabError with the remedy when this host or user cannot.
    """
    missing = [tool for tool in ("ip", "nsenter") if shutil.which(tool) is None]
    if missing:
        raise IolabError(
            f"testbed netns: {' and '.join(missing)} not found",
            "apt-get install iproute2 util-linux",
        )
    if os.geteuid() != 0:
        raise IolabError("testbed netns: namespaces take privileges", "run it as root")
    sweep(executor)
    bed = Netns(os.getpid(), queues or len(os.sched_getaffinity(0)), pair)
    with contextlib.ExitStack() as undo:
        for side in ("server", "client"):
            _ip(executor, "netns", "add", bed.namespace(side))
            undo.callback(_remove, executor, bed.namespace(side))
        _join(executor, bed)
        yield bed


def set_client_mtu(executor: Executor, bed: Netns, mtu: int) -> None:
    """Gives the client's device the MTU of the server's, in bytes: a link has one MTU.

    A profile sets the server's end only. It lasts as long as the pair. IolabError when refused.
    """
    client = bed.namespace("client")
    _ip(executor, "-n", client, "link", "set", bed.device("client"), "mtu", str(mtu))


def _join(executor: Executor, bed: Netns) -> None:
    """The pair of devices, each made in its place, with address and link up."""
    queues = ("numtxqueues", str(bed.queues), "numrxqueues", str(bed.queues))
    server, client = bed.namespace("server"), bed.namespace("client")
    _ip(
        executor, "link", "add", bed.device("server"), "netns", server, *queues, "type", "veth",
        "peer", "name", bed.device("client"), "netns", client, *queues,
    )  # fmt: skip
    sides: tuple[Side, ...] = ("server", "client")
    for side in sides:
        at = ("-n", bed.namespace(side))
        address = f"{_ADDRESS[side]}/{_PREFIX_LENGTH}"
        _ip(executor, *at, "address", "add", address, "dev", bed.device(side))
        _ip(executor, *at, "link", "set", "lo", "up")
        _ip(executor, *at, "link", "set", bed.device(side), "up")


def sweep(executor: Executor, run: Path = _RUN, proc: Path = Path("/proc")) -> list[str]:
    """Removes the namespaces of harnesses that are gone; their devices go with them.

    Returns the names removed. A namespace with a process in it lives on without a name.
    """
    names = sorted(path.name for path in run.glob(f"{BED_PREFIX}-*")) if run.is_dir() else []
    dead = [name for name in names if (owner := _owner(name)) and not (proc / owner).exists()]
    for name in dead:
        _remove(executor, name)
    return dead


def _owner(name: str) -> str | None:
    found = re.fullmatch(rf"{BED_PREFIX}-(\d+)-\d+-\w+", name)
    return found[1] if found else None


def _remove(executor: Executor, name: str) -> None:
    with contextlib.suppress(ProcessError):
        executor.run(["ip", "netns", "delete", name], timeout_s=20)


def _ip(executor: Executor, *words: str) -> None:
    done = executor.run(["ip", *words], timeout_s=20)
    if done.code != 0:
        raise IolabError(
            f"testbed netns: ip {' '.join(words)}: {done.stderr.strip()}",
            "it takes root, iproute2 and a kernel with network namespaces and veth",
        )


@contextlib.contextmanager
def inside(namespace: Path) -> Iterator[None]:
    """The calling thread in another network namespace; OSError when it cannot get there.

    Processes that it starts meanwhile are there, too.
    """
    with Path("/proc/thread-self/ns/net").open("rb") as home, namespace.open("rb") as there:
        _setns(there.fileno())
        try:
            yield
        finally:
            _setns(home.fileno())


def _setns(fd: int) -> None:
    if _LIBC.setns(fd, _CLONE_NEWNET) != 0:
        error = ctypes.get_errno()
        raise OSError(error, f"setns: {os.strerror(error)}")
