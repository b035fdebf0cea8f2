"""How the bench reaches a host: files below a root, tools, limits of processes.

Every access to /proc and /sys goes through a `Tree`, so that unit tests run on a directory that
imitates a machine, without privileges.
"""

from __future__ import annotations

import contextlib
import os
import resource
import shutil
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from iolab.errors import IolabError
from iolab.executor import Completed, Executor, ProcessError
from iolab.topology import Topology, this_machine
from iolab.tuning.knob import Gone, KnobError
from iolab.tuning.netns import NamespaceThread, cookie_of, own_cookie, places

LIMITS = {"nofile": resource.RLIMIT_NOFILE, "memlock": resource.RLIMIT_MEMLOCK}
"""The limits that profiles may set, by the names of ulimit(1) and limits.conf(5)."""


_SBIN = ("/usr/local/sbin", "/usr/sbin", "/sbin")


class Tree:
    """Files below a root. Paths are relative: `proc/sys/net/core/somaxconn`.

    All calls raise OSError as the system call did: its errno is the finding.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def read(self, where: str) -> str:
        """The text without the newline at its end."""
        return (self.root / where).read_text(encoding="utf-8", errors="replace").rstrip("\n")

    def write(self, where: str, text: str) -> None:
        """One write(2) of the whole text with its newline: the kernel parses each write alone."""
        handle = os.open(self.root / where, os.O_WRONLY | os.O_TRUNC)
        try:
            os.write(handle, text.encode() + b"\n")
        finally:
            os.close(handle)

    def exists(self, where: str) -> bool:
        """True for files and directories alike."""
        return (self.root / where).exists()

    def writable(self, where: str) -> bool:
        """What access(2) says; files of /proc/sys honour their mode even for root."""
        return os.access(self.root / where, os.W_OK)

    def mode(self, where: str) -> int:
        """Permission bits: root passes access(2) where the kernel gives nobody leave to write."""
        return stat.S_IMODE((self.root / where).stat().st_mode)

    def names(self, where: str) -> list[str]:
        """The names in a directory in order of their numbers (`rx-2` before `rx-10`)."""
        try:
            return sorted((one.name for one in (self.root / where).iterdir()), key=_by_number)
        except OSError:
            return []

    def real(self, where: str) -> str:
        """The path behind symbolic links, relative to the root again."""
        return str((self.root / where).resolve().relative_to(self.root.resolve()))


class NamespaceTree(Tree):
    """The files as a network namespace sees them: /proc/sys/net and /sys/class/net are its own."""

    def __init__(self, thread: NamespaceThread) -> None:
        super().__init__(Path("/"))
        self._thread = thread
        self.cookie = thread.cookie()

    def read(self, where: str) -> str:
        """See Tree."""
        return self._thread.call(lambda: Tree.read(self, where))

    def write(self, where: str, text: str) -> None:
        """See Tree."""
        self._thread.call(lambda: Tree.write(self, where, text))

    def exists(self, where: str) -> bool:
        """See Tree."""
        return self._thread.call(lambda: Tree.exists(self, where))

    def writable(self, where: str) -> bool:
        """See Tree."""
        return self._thread.call(lambda: Tree.writable(self, where))

    def mode(self, where: str) -> int:
        """See Tree."""
        return self._thread.call(lambda: Tree.mode(self, where))

    def names(self, where: str) -> list[str]:
        """See Tree."""
        return self._thread.call(lambda: Tree.names(self, where))

    def real(self, where: str) -> str:
        """See Tree."""
        return self._thread.call(lambda: Tree.real(self, where))


@dataclass
class Host:
    """A machine, or a directory that imitates one. `close` ends what it keeps open."""

    executor: Executor
    root: Path = Path("/")
    state: Path = Path("/var/lib/iolab/tuning")
    """Where the journal lies; outside `root` for a host that is only imitated."""
    _trees: dict[str, Tree] = field(default_factory=dict)
    _threads: list[NamespaceThread] = field(default_factory=list)
    _answers: dict[tuple[str, ...], Completed] | None = None
    """What tools have answered since `asking_once` was entered, by namespace and command line."""

    def tree(self, netns: str = "") -> Tree:
        """The files as the named network namespace sees them.

        Gone when there is none, KnobError when it cannot be entered.
        """
        if netns not in self._trees:
            self._trees[netns] = self._open_tree(netns)
        return self._trees[netns]

    def _open_tree(self, netns: str) -> Tree:
        if not netns:
            return Tree(self.root)
        place = self.root / "run/netns" / netns
        if not place.exists():
            raise Gone(f"network namespace {netns}: not found", f"ip netns add {netns}")
        if self.root != Path("/"):
            return Tree(place)
        try:
            thread = NamespaceThread(place)
        except IolabError as error:  # a revert goes on with the values of others
            raise KnobError(error.message, error.remedy) from error
        self._threads.append(thread)
        return NamespaceTree(thread)

    def cookie(self, netns: str) -> str:
        """What tells a namespace from a later one of its name; empty where nothing does.

        Without a name, the one that iolab runs in. Gone when there is no namespace of that name.
        """
        if not netns:
            return own_cookie() if self.root == Path("/") else ""
        tree = self.tree(netns)
        return tree.cookie if isinstance(tree, NamespaceTree) else ""

    def namespaces(self) -> list[str]:
        """The names of all namespaces that have one, as `ip netns` lists them."""
        return self.tree().names("run/netns")

    def find_namespace(self, cookie: str) -> Path | None:
        """A file of the namespace with that cookie, None when it is gone.

        OSError when there are namespaces that may not be entered to look.
        """
        return next((place for place in places() if cookie_of(place) == cookie), None)

    @contextlib.contextmanager
    def asking_once(self) -> Iterator[None]:
        """For stretches that write nothing: in them a tool runs once for each question.

        A dozen knobs are lines of one `ethtool -k`, and each run is a process.
        """
        if self._answers is not None:
            yield
            return
        self._answers = {}
        try:
            yield
        finally:
            self._answers = None

    def run(self, argv: Sequence[str], netns: str = "") -> Completed:
        """Runs a tool in the namespace; KnobError when it is missing or fails, with its words."""
        question = (netns, *argv)
        answers = {} if self._answers is None else self._answers
        done = answers[question] = answers.get(question) or self._run(argv, netns)
        if done.code != 0:
            words = " ".join((done.stderr or done.stdout).split()) or f"exit status {done.code}"
            raise KnobError(f"{' '.join(argv)}: {words}")
        return done

    def _run(self, argv: Sequence[str], netns: str) -> Completed:
        inside = ["ip", "netns", "exec", netns] if netns else []
        command = [*inside, find_tool(argv[0]) or argv[0], *argv[1:]]
        command[0] = find_tool(command[0]) or command[0]
        try:
            return self.executor.run(command, timeout_s=30.0)
        except ProcessError as error:
            raise KnobError(error.message) from error

    def topology(self) -> Topology:
        """CPUs, nodes and devices as they are now; IolabError when hwloc cannot be asked."""
        return this_machine()

    def has_tool(self, name: str) -> bool:
        """True when the tool is installed."""
        return find_tool(name) is not None

    def prlimit(self, pid: int, name: str, soft: int, hard: int) -> None:
        """Sets a limit of a running process, prlimit(2), Linux 2.6.36. -1 is unlimited."""
        resource.prlimit(pid, LIMITS[name], (soft, hard))

    def close(self) -> None:
        """Leaves the namespaces."""
        for thread in self._threads:
            thread.close()
        self._threads.clear()
        self._trees.clear()


def find_tool(name: str) -> str | None:
    """The path of a tool, also of one for administrators: plain su leaves /usr/sbin out of PATH."""
    path = os.pathsep.join([os.environ.get("PATH", os.defpath), *_SBIN])
    return shutil.which(name, path=path)


def _by_number(name: str) -> tuple[str, int]:
    head = name.rstrip("0123456789")
    return head, int(name[len(head) :] or -1)
