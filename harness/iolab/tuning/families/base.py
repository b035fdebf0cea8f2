"""What families share: a value that is a file, and one that a tool reads and sets."""

from __future__ import annotations

import errno
import os
import shlex
from collections.abc import Callable, Iterator

from iolab.tuning.host import Host
from iolab.tuning.knob import KnobError, Target
from iolab.tuning.profile import Profile
from iolab.tuning.scene import Scene

_MEANING = {
    errno.EINVAL: "invalid argument: the kernel does not take this value here",
    errno.ENOENT: "the kernel knows no such name; is its module there (modprobe)?",
    errno.EIO: "I/O error",
    errno.EOVERFLOW: "value too large: a mask names CPUs beyond those of this kernel",
    errno.ERANGE: "out of range: a list names CPUs beyond those of this kernel",
    errno.EROFS: "read-only file system; in a container?",
}


def why_unreadable(read: Callable[[Host, Target], str], host: Host, target: Target) -> str | None:
    """What a family's `read` complains of, None when it reads."""
    try:
        read(host, target)
    except KnobError as error:
        return error.message
    return None


def remakes_queues(profile: Profile) -> bool:
    """True when a driver may make its queues anew: `ethtool -L`, on many of them `-G` and a new MTU
    (they close and open the device for new buffers)."""
    nic = profile.nic
    causes = (nic.channels, nic.rx_ring, nic.tx_ring, nic.files.get("mtu"))
    return any(one is not None for one in causes)


class FileFamily:
    """A family whose values are files below /proc or /sys, one value a file."""

    name = ""

    def collateral(self, profile: Profile, scene: Scene) -> Iterator[Target]:
        """See Family."""
        yield from ()

    def available(self, host: Host, target: Target) -> str | None:
        """See Family."""
        tree = host.tree(target.netns)
        if not tree.exists(target.where):
            return f"/{target.where}: this kernel or device has no such file"
        if not tree.writable(target.where):
            return f"/{target.where}: not writable; {who()}"
        return why_unreadable(self.read, host, target)

    def read(self, host: Host, target: Target) -> str:
        """See Family."""
        try:
            return host.tree(target.netns).read(target.where)
        except OSError as error:
            raise KnobError(f"/{target.where}: cannot be read: {explain(error)}") from error

    def write(self, host: Host, target: Target, value: str) -> None:
        """See Family."""
        try:
            host.tree(target.netns).write(target.where, value)
        except OSError as error:
            raise KnobError(f"/{target.where}: {value!r} refused: {explain(error)}") from error

    def same(self, target: Target, requested: str, effective: str) -> bool:
        """See Family; white space between numbers is no difference."""
        return requested.split() == effective.split()

    def doubt(self, host: Host, target: Target, value: str) -> str:
        """See Family."""
        return ""

    def shell(self, target: Target, value: str) -> list[str]:
        """See Family."""
        words = ["put", value, f"/{target.where}"]
        return [shlex.join([*words, target.netns] if target.netns else words)]


class RxQueueFamily(FileFamily):
    """One file in the folder of each receive queue. Subclasses give `name` and `file`."""

    file = ""

    def collateral(self, profile: Profile, scene: Scene) -> Iterator[Target]:
        """See Family: `ethtool -L` makes and removes queues."""
        if profile.nic.channels is not None:
            nic = scene.nic(profile.nic.interface, "nic.channels")
            yield from (self.target(nic.name, nic.netns, queue) for queue in nic.rx)

    def target(self, name: str, netns: str, queue: int) -> Target:
        """The file of one queue of the interface `name`."""
        where = f"sys/class/net/{name}/queues/rx-{queue}/{self.file}"
        return Target(self.name, f"{self.file} of {name} rx-{queue}", where, name, netns)


class ChoiceFamily(FileFamily):
    """Files that list all choices with the one in force in brackets: `always [madvise] never`."""

    def read(self, host: Host, target: Target) -> str:
        """See Family."""
        text = super().read(host, target)
        _, bracket, rest = text.partition("[")
        return rest.partition("]")[0] if bracket else text


class ToolFamily:
    """A family whose values an interface's tool reads and sets; `target.device` is the interface.

    Subclasses give `read` and `commands`; `apply` and the exported script run the same ones.
    """

    name = ""
    tool = "ethtool"

    def collateral(self, profile: Profile, scene: Scene) -> Iterator[Target]:
        """See Family."""
        yield from ()

    def available(self, host: Host, target: Target) -> str | None:
        """See Family."""
        if not host.has_tool(self.tool):
            return f"{self.tool} is not installed"
        if not privileged(host):
            return "not permitted; as root?"
        return why_unreadable(self.read, host, target)

    def read(self, host: Host, target: Target) -> str:
        """See Family."""
        raise NotImplementedError

    def commands(self, target: Target, value: str) -> list[list[str]]:
        """The command lines that set the value, in order."""
        raise NotImplementedError

    def write(self, host: Host, target: Target, value: str) -> None:
        """See Family."""
        for argv in self.commands(target, value):
            host.run(argv, target.netns)

    def same(self, target: Target, requested: str, effective: str) -> bool:
        """See Family."""
        return requested == effective

    def doubt(self, host: Host, target: Target, value: str) -> str:
        """See Family."""
        return ""

    def shell(self, target: Target, value: str) -> list[str]:
        """See Family."""
        inside = ["ip", "netns", "exec", target.netns] if target.netns else []
        return [shlex.join(["run", *inside, *argv]) for argv in self.commands(target, value)]


def privileged(host: Host) -> bool:
    """True for root, and on a host that is only imitated."""
    return str(host.root) != "/" or os.geteuid() == 0


def explain(error: OSError) -> str:
    """The errno by name and what it means for a knob."""
    name = errno.errorcode.get(error.errno or 0, "error")
    if error.errno in (errno.EPERM, errno.EACCES):
        return f"{name}, not permitted; {who()}"
    return f"{name}, {_MEANING.get(error.errno or 0, error.strerror or str(error))}"


def who() -> str:
    """The remedy of a refusal: root does not ask whether it should be root."""
    return "as root?" if os.geteuid() != 0 else "not even to root: the kernel or a container"


def ask(host: Host, target: Target, *args: str) -> str:
    """What `ethtool` prints."""
    return host.run(["ethtool", *args], target.netns).stdout


def fields(text: str) -> dict[str, str]:
    """Lines `KEY: VALUE` of ethtool as a table, the first of a key's values winning."""
    table: dict[str, str] = {}
    for line in text.splitlines():
        key, colon, value = line.strip().partition(":")
        if colon:
            table.setdefault(key, value.strip())
    return table


def current_and_maximum(text: str) -> tuple[dict[str, str], dict[str, str]]:
    """The two halves of what `ethtool -l` and `-g` print: settings, and preset maximums."""
    maximum, _, current = text.partition("Current hardware settings:")
    return fields(current), fields(maximum)
