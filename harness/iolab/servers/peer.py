"""Servers that others wrote, described by one TOML file each under peers/.

A peer file gives the candidates for its binary, command line, configuration files (Jinja2
templates) and which of its processes do the work. The harness runs it in a scratch prefix of its
own; a system-wide installation or its service is never touched.

Templates and arguments may use: binary, prefix, root, host, port, workers, cpus (list of int),
cpu_mask (binary digits), is_root, user, group.
"""

from __future__ import annotations

import contextlib
import grp
import http.client
import os
import pwd
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
from iolab.servers import Place
from iolab.toml import Section, read_toml


class FileTable(Section):
    """`[[file]]`: a file that the harness writes below the prefix before the start."""

    path: str
    template: str


class ReadyTable(Section):
    """`[ready]`: the peer accepts once GET `path` is answered, within `timeout_s` seconds."""

    path: str = "/"
    timeout_s: Annotated[float, Field(gt=0)] = 10.0


class PeerFile(Section):
    """A whole peer file.

    `binaries` are tried in order: a path (relative ones from the project's root) or a bare name,
    looked up in PATH. `cpu_processes` says whose CPU time is the server's: the process that was
    started, its children (a master that only supervises), or both.
    """

    schema_version: Literal[1]
    name: str
    summary: str
    binaries: Annotated[tuple[str, ...], Field(min_length=1)]
    remedy: str
    argv: Annotated[tuple[str, ...], Field(min_length=1)]
    version_argv: tuple[str, ...] = ()
    directories: tuple[str, ...] = ()
    cpu_processes: Literal["self", "children", "all"] = "self"
    stop_signal: Literal["TERM", "QUIT", "INT"] = "TERM"
    ready: ReadyTable = ReadyTable()
    file: tuple[FileTable, ...] = ()

    def find_binary(self, house_root: Path) -> Path | None:
        """The first candidate that can be executed, None when there is none."""
        for candidate in self.binaries:
            if "/" not in candidate:
                found = shutil.which(candidate)
                if found:
                    return Path(found)
            elif os.access(house_root / candidate, os.X_OK):
                return house_root / candidate
        return None


def load_peers(directory: Path) -> dict[str, PeerFile]:
    """All peer files of `directory` by name; InputError when one is wrong."""
    peers: dict[str, PeerFile] = {}
    for path in sorted(directory.glob("*.toml")):
        peer = read_toml(path, PeerFile)
        if peer.name != path.stem:
            raise InputError(f"{path}: name: {peer.name!r} must be the file's name, {path.stem!r}")
        peers[peer.name] = peer
    return peers


def offer_peers(peers: Mapping[str, PeerFile], house_root: Path) -> dict[str, str | None]:
    """For each peer None, or the reason it cannot run here."""
    return {
        name: None
        if peer.find_binary(house_root)
        else f"no binary found ({', '.join(peer.binaries)}); {peer.remedy}"
        for name, peer in peers.items()
    }


def peer_version(executor: Executor, peer: PeerFile, house_root: Path) -> str | None:
    """The first line the peer prints about its version, None when it does not say."""
    binary = peer.find_binary(house_root)
    if binary is None or not peer.version_argv:
        return None
    argv = [render(part, {"binary": str(binary)}) for part in peer.version_argv]
    with contextlib.suppress(ProcessError):
        done = executor.run(argv, timeout_s=10)
        lines = (done.stdout + done.stderr).strip().splitlines()
        return lines[0] if lines else None
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
        self, process: Process, host: str, port: int, cpu_pids: tuple[int, ...], log: Path
    ) -> None:
        self._process = process
        self._log = log
        self.host = host
        self.port = port
        self.cpu_pids = cpu_pids

    @classmethod
    def start(
        cls, executor: Executor, peer: PeerFile, house_root: Path, place: Place
    ) -> PeerServer:
        """Starts `peer` below `place.scratch` and waits until it answers.

        ProcessError with its last words when it does not.
        """
        binary = peer.find_binary(house_root)
        if binary is None:
            raise ProcessError(f"{peer.name}: no binary found", peer.remedy)
        prefix = place.scratch / peer.name
        for directory in ("", *peer.directories):
            (prefix / directory).mkdir(parents=True, exist_ok=True)
        host, port = place.testbed.server_host, _free_port(place.testbed.server_host)
        variables = _variables(binary, prefix, host, port, place)
        for file in peer.file:
            (prefix / file.path).write_text(render(file.template, variables), encoding="utf-8")
        process = executor.start(
            place.testbed.on_server([render(part, variables) for part in peer.argv]),
            cpus=place.cpus,
            stop_signal=getattr(signal, f"SIG{peer.stop_signal}"),
            death_signal=signal.SIGTERM,
        )
        log = prefix / "error.log"
        try:
            _await_answer(process, host, port, peer.ready)
        except ProcessError as error:
            process.stop()
            raise ProcessError(f"{peer.name}: {error.message}{_tail(log)}") from error
        return cls(process, host, port, _cpu_pids(peer, process.pid), log)

    def counters(self) -> dict[str, Any] | None:
        """See RunningServer."""
        return None

    def failure(self) -> str | None:
        """See RunningServer."""
        if self._process.alive():
            return None
        return f"the server died; its last words: {self._process.last_words()}{_tail(self._log)}"

    def stop(self) -> None:
        """See RunningServer."""
        self._process.stop()


def _variables(binary: Path, prefix: Path, host: str, port: int, place: Place) -> dict[str, Any]:
    user = pwd.getpwuid(os.geteuid()).pw_name
    return {
        "binary": str(binary),
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


def _free_port(host: str) -> int:
    """A port that is free now. Another process may take it before the peer does: then it fails."""
    with socket.socket() as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


def _await_answer(process: Process, host: str, port: int, ready: ReadyTable) -> None:
    """Asks until there is an HTTP answer of any status."""
    deadline = time.monotonic() + ready.timeout_s
    last: Exception | None = None
    while time.monotonic() < deadline:
        if not process.alive():
            raise ProcessError(f"ended at start; its last words: {process.last_words()}")
        connection = http.client.HTTPConnection(host, port, timeout=1)
        try:
            connection.request("GET", ready.path, headers={"Connection": "close"})
            connection.getresponse().read()
            return
        except (OSError, http.client.HTTPException) as error:
            last = error
        finally:
            connection.close()
        time.sleep(0.05)
    raise ProcessError(f"no answer on {host}:{port} within {ready.timeout_s:g} s ({last})")


def _cpu_pids(peer: PeerFile, pid: int) -> tuple[int, ...]:
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
