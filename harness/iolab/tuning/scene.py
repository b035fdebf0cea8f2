"""Where a profile is to be applied: host, topology, interface, namespace, process."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cached_property

from iolab.topology import Topology
from iolab.tuning.host import Host, Tree
from iolab.tuning.knob import Impossible
from iolab.tuning.nic import Nic, default_interface, read_nic

_PASSING = ("sudo", "su", "doas", "pkexec", "setpriv")
"""Programs that run another as somebody else and end with it."""


@dataclass(frozen=True)
class Scene:
    """What policies are computed from. `interface` is what the caller asked for, if anything.

    With `netns`, knobs that a network namespace has of its own go there, the others to the host;
    `only_netns` leaves those others out. `limits_pid` is the process whose limits are set, 0 when
    there is none to set them on.
    """

    host: Host
    interface: str | None = None
    netns: str = ""
    only_netns: bool = False
    limits_pid: int = 0
    one_thread: bool = False
    """Plan for cores of one hardware thread, which is what the profile makes of them first."""
    queues_left: tuple[int, int] | None = None
    """Plan for an interface that has been left so many receive and transmit queues."""

    @cached_property
    def topology(self) -> Topology:
        """The host's CPUs, nodes and devices."""
        topology = self.host.topology()
        return topology.one_thread() if self.one_thread else topology

    def nic(self, asked: str | None, key: str) -> Nic:
        """The interface of a profile's [nic] table: the caller's, the table's, the default route's.

        Impossible names `key`, the profile's key that wants it, when there is none.
        """
        tree = self.host.tree(self.netns)
        name = self.interface or asked or default_interface(tree)
        present = [one for one in tree.names("sys/class/net") if one != "lo"]
        inside = f" in namespace {self.netns}" if self.netns else ""
        if name is None:
            raise Impossible(
                key,
                f"no interface is named and there is no default route{inside}",
                f"--interface IF, one of: {', '.join(present) or 'none is here'}",
            )
        nic = read_nic(self.host, self.topology, name, self.netns)
        if nic is None:
            raise Impossible(
                key,
                f"interface {name!r}: not found{inside}",
                f"--interface IF, one of: {', '.join(present) or 'none is here'}",
            )
        return nic if self.queues_left is None else nic.left_with(*self.queues_left)


def calling_shell(tree: Tree) -> int:
    """Who called: the process whose limits are inherited by what it starts later.

    sudo and its like end with the command; whoever called them goes on. 0 when nobody of this
    session did: from a unit, cron or `docker exec` the parent is a daemon, and its limits would
    reach everything that it starts.
    """
    session, parent = os.getsid(0), _process(tree, os.getppid())
    while parent.pid > 1 and parent.name in _PASSING:
        session, parent = parent.session, _process(tree, parent.parent)
    return parent.pid if parent.pid > 1 and parent.session == session else 0


@dataclass(frozen=True)
class _Process:
    """What /proc/PID/stat says of a process (proc(5)); `pid` is 0 for one that has ended."""

    pid: int = 0
    name: str = ""
    parent: int = 0
    session: int = -1


def _process(tree: Tree, pid: int) -> _Process:
    try:
        head, _, rest = tree.read(f"proc/{pid}/stat").rpartition(")")
        fields = rest.split()
        return _Process(pid, head.partition("(")[2], int(fields[1]), int(fields[3]))
    except (OSError, ValueError, IndexError):
        return _Process()
