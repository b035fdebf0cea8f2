"""Servers that others wrote, described by one TOML file each under peers/.

A peer file gives the candidates for its binary, command line, configuration files (Jinja2
templates) and which of its processes do the work. The harness runs it in a scratch prefix of its
own; a system-wide installation or its service is never touched.

Templates and arguments may use: binary, house (the project's root), prefix, root, host, port,
workers, cpus (list of int), cpu_mask (binary digits), is_root, user, group; in role forward also
upstream_host and upstream_port.
"""

from __future__ import annotations

import contextlib
import grp
import http.client
import os
import pwd
import re
import shutil
import signal
import socket
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import jinja2
from pydantic import Field

from iolab.errors import InputError
from iolab.executor import Executor, Process, ProcessError
from iolab.model import Role
from iolab.ports import free_port
from iolab.servers import Place
from iolab.servers.enclosure import Enclosure
from iolab.specs import PeerOffer
from iolab.toml import Section, read_toml


class FileTable(Section):
    """`[[file]]`: a file that the harness writes below the prefix before the start."""

    path: str
    template: str


class ReadyTable(Section):
    """`[ready]`: how to see that the peer accepts, within `timeout_s` seconds.

    `http`: GET `path` is answered, with any status. `tcp`: a connection is accepted; for those that
    hand it on to an upstream, which need not be there yet.
    """

    kind: Literal["http", "tcp"] = "http"
    path: str = "/"
    timeout_s: Annotated[float, Field(gt=0)] = 10.0


class PeerFile(Section):
    """A whole peer file.

    `binaries` are tried in order: a path (relative ones from the project's root) or a bare name,
    looked up in PATH. `needs` are further files and programs, named likewise; all must be there.
    `cpu_processes` says whose CPU time is the server's: the process that was started (`self`), its
    children (a master that only supervises), both (`all`), or everything it ever forks (`tree`: a
    process a connection). The clocks of processes count no child that comes later, so a `tree` is
    accounted by a control group; where none can be made, its CPU time is missing.
    """

    schema_version: Literal[1]
    name: str
    summary: str
    binaries: Annotated[tuple[str, ...], Field(min_length=1)]
    remedy: str
    roles: Annotated[tuple[Role, ...], Field(min_length=1)]
    needs: tuple[str, ...] = ()
    argv: Annotated[tuple[str, ...], Field(min_length=1)]
    version_argv: tuple[str, ...] = ()
    directories: tuple[str, ...] = ()
    cpu_processes: Literal["self", "children", "all", "tree"] = "self"
    stop_signal: Literal["TERM", "QUIT", "INT"] = "TERM"
    ready: ReadyTable = ReadyTable()
    file: tuple[FileTable, ...] = ()

    def find_binary(self, house_root: Path) -> Path | None:
        """The first candidate that can be executed, None when there is none."""
        for candidate in self.binaries:
            found = _find(candidate, house_root, os.X_OK)
            if found:
                return found
        return None

    def lacks(self, house_root: Path) -> str | None:
        """What is missing for it to run here, None when nothing is."""
        if self.find_binary(house_root) is None:
            return f"no binary found ({', '.join(self.binaries)})"
        missing = [need for need in self.needs if _find(need, house_root, os.R_OK) is None]
        return f"it needs {', '.join(missing)}, not found" if missing else None


def _find(name: str, house_root: Path, access: int) -> Path | None:
    """A path from the project's root, or a bare name in PATH; None when it is not there."""
    if "/" in name:
        return house_root / name if os.access(house_root / name, access) else None
    found = shutil.which(name)
    return Path(found) if found else None


def load_peers(directory: Path) -> dict[str, PeerFile]:
    """All peer files of `directory` by name; InputError when one is wrong."""
    peers: dict[str, PeerFile] = {}
    for path in sorted(directory.glob("*.toml"), key=lambda path: path.stem):
        peer = read_toml(path, PeerFile)
        if peer.name != path.stem:
            raise InputError(f"{path}: name: {peer.name!r} must be the file's name, {path.stem!r}")
        peers[peer.name] = peer
    return peers


def offer_peers(peers: Mapping[str, PeerFile], house_root: Path) -> dict[str, PeerOffer]:
    """Each peer's roles, and the reason it cannot run here, with the remedy."""
    missing = {name: peer.lacks(house_root) for name, peer in peers.items()}
    return {
        name: PeerOffer(
            peers[name].roles, None if lack is None else f"{lack}; {peers[name].remedy}"
        )
        for name, lack in missing.items()
    }


def peer_version(executor: Executor, peer: PeerFile, house_root: Path) -> str | None:
    """The line with a version that the peer prints about itself, None when it does not say."""
    binary = peer.find_binary(house_root)
    if binary is None or not peer.version_argv:
        return None
    argv = [render(part, {"binary": str(binary)}) for part in peer.version_argv]
    with contextlib.suppress(ProcessError):
        done = executor.run(argv, timeout_s=10)
        lines = (done.stdout + done.stderr).splitlines()
        return next((line.strip() for line in lines if re.search(r"\d\.\d", line)), None)
    return None


def render(template: str, variables: Mapping[str, Any]) -> str:
    """`template` filled in; InputError names a variable that does not exist."""
    environment = jinja2.Environment(
        undefined=jinja2.StrictUndefined, keep_trailing_newline=True, autoescape=False
    )
    try:
        return environment.from_string(template).render(**variables)
    except jinja2.TemplateError as error:
        raise InputError(f"template {template[:60]!r}: {error}") from error


class PeerServer:
    """A running peer; implements RunningServer. It has no counters that we could read."""

    def __init__(
        self,
        process: Process,
        address: tuple[str, int],
        cpu_pids: tuple[int, ...],
        enclosure: Enclosure,
        log: Path,
        upstream: tuple[str, int] | None = None,
    ) -> None:
        self._process = process
        self._enclosure = enclosure
        self._log = log
        self.host, self.port = address
        self.cpu_pids = cpu_pids
        self.resident_pid: int | None = process.pid
        self.upstream = upstream

    @property
    def cpu_usage(self) -> Path | None:
        """See RunningServer."""
        return self._enclosure.cpu.usage if self._enclosure.cpu else None

    @classmethod
    def start(
        cls, executor: Executor, peer: PeerFile, house_root: Path, place: Place
    ) -> PeerServer:
        """Starts `peer` below `place.scratch` and waits until it answers.

        ProcessError with its last words when it does not.
        """
        lack = peer.lacks(house_root)
        binary = peer.find_binary(house_root)
        if lack is not None or binary is None:
            raise ProcessError(f"{peer.name}: {lack}", peer.remedy)
        prefix = place.scratch / peer.name
        for directory in ("", *peer.directories):
            (prefix / directory).mkdir(parents=True, exist_ok=True)
        with place.testbed.at_server():
            address = place.testbed.server_host, free_port(place.testbed.server_host)
        variables = _variables(binary, house_root, prefix, address, place)
        for file in peer.file:
            (prefix / file.path).write_text(render(file.template, variables), encoding="utf-8")
        log = prefix / "error.log"
        with contextlib.ExitStack() as undo:
            accounted = peer.cpu_processes == "tree"
            enclosure = Enclosure.make(place.memory_limit_bytes, accounted)
            undo.callback(enclosure.remove)
            process = executor.start(
                place.testbed.on_server([render(part, variables) for part in peer.argv]),
                cpus=place.cpus,
                stop_signal=getattr(signal, f"SIG{peer.stop_signal}"),
                death_signal=signal.SIGTERM,
                mute=True,
                bounds=enclosure.bounds,
            )
            undo.callback(process.stop)
            try:
                with place.testbed.at_client():
                    _await_ready(process, *address, peer.ready)
                pids = _cpu_pids(peer, process.pid)
            except ProcessError as error:
                reason = f"{error.message}{enclosure.complaint()}{_tail(log)}"
                raise ProcessError(f"{peer.name}: {reason}") from error
            undo.pop_all()
        return cls(process, address, pids, enclosure, log, place.upstream)

    def counters(self) -> dict[str, Any] | None:
        """See RunningServer."""
        return None

    def new_peaks(self) -> None:
        """See RunningServer: it has none."""

    def failure(self) -> str | None:
        """See RunningServer."""
        if self._process.alive():
            return None
        words = f"{self._process.last_words()}{_tail(self._log)}"
        return f"the server died{self._enclosure.complaint()}; its last words: {words}"

    def memory(self) -> dict[str, Any]:
        """See RunningServer."""
        return self._enclosure.peaks(self.cpu_pids)

    def stop(self) -> None:
        """See RunningServer."""
        self._process.stop()
        self._enclosure.remove()


def _variables(
    binary: Path, house_root: Path, prefix: Path, address: tuple[str, int], place: Place
) -> dict[str, Any]:
    user = pwd.getpwuid(os.geteuid()).pw_name
    host, port = address
    upstream = {}
    if place.upstream:
        upstream = {"upstream_host": place.upstream[0], "upstream_port": place.upstream[1]}
    return {
        **upstream,
        "binary": str(binary),
        "house": str(house_root),
        "prefix": str(prefix),
        "root": str(place.root),
        "host": host,
        "port": port,
        "workers": len(place.cpus),
        "cpus": list(place.cpus),
        "cpu_mask": " ".join(format(1 << cpu, "b") for cpu in place.cpus),
        "is_root": os.geteuid() == 0,
        "user": user,
        "group": grp.getgrgid(os.getegid()).gr_name,
    }


def _await_ready(process: Process, host: str, port: int, ready: ReadyTable) -> None:
    """Tries until the peer is ready in the way its file says."""
    deadline = time.monotonic() + ready.timeout_s
    last: Exception | None = None
    while time.monotonic() < deadline:
        if not process.alive():
            raise ProcessError(f"ended at start; its last words: {process.last_words()}")
        try:
            if ready.kind == "tcp":
                socket.create_connection((host, port), timeout=1).close()
            else:
                _ask(host, port, ready.path)
            return
        except (OSError, http.client.HTTPException) as error:
            last = error
        time.sleep(0.05)
    raise ProcessError(f"no answer on {host}:{port} within {ready.timeout_s:g} s ({last})")


def _ask(host: str, port: int, path: str) -> None:
    """GET `path`; returns when there is an answer of any status, raises when there is none."""
    connection = http.client.HTTPConnection(host, port, timeout=1)
    try:
        connection.request("GET", path, headers={"Connection": "close"})
        connection.getresponse().read()
    finally:
        connection.close()


def _cpu_pids(peer: PeerFile, pid: int) -> tuple[int, ...]:
    if peer.cpu_processes == "tree":
        return ()
    if peer.cpu_processes == "self":
        return (pid,)
    children = child_pids(pid)
    if not children:
        raise ProcessError(f"{peer.name}: no worker processes below process {pid}")
    return children if peer.cpu_processes == "children" else (pid, *children)


def child_pids(pid: int, proc: Path = Path("/proc")) -> tuple[int, ...]:
    """The direct children of `pid`.

    Found through the parent's id in /proc/PID/stat, the second field after the command's closing
    parenthesis; the `children` file is an optional kernel feature.
    """
    found = []
    for path in proc.iterdir():
        if not path.name.isdigit():
            continue
        with contextlib.suppress(OSError, IndexError, ValueError):
            if int((path / "stat").read_text().rpartition(")")[2].split()[1]) == pid:
                found.append(int(path.name))
    return tuple(sorted(found))


def _tail(log: Path) -> str:
    with contextlib.suppress(OSError):
        text = log.read_text(errors="replace").strip()
        return f" [{log.name}: {text[-600:]}]" if text else ""
    return ""
