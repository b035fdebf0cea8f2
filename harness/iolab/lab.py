"""The laboratory on this machine, put together: house, executor, engines, peers, CPUs."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from iolab import verify
from iolab.describe import CopyDescribe, Describe, Engine, parse_copy_describe
from iolab.errors import InputError, did_you_mean
from iolab.executor import Executor, HostExecutor, ProcessError
from iolab.files import ensure_files
from iolab.load import LoadSession
from iolab.load.iolab_copy import CopyPlaces, IolabCopy, check_copies
from iolab.load.iolab_load import IolabLoad, Target, count_pairs
from iolab.matrix import load_plan
from iolab.model import Plan, Role, Server, Workload
from iolab.paths import House, find_house
from iolab.ports import free_port
from iolab.servers import Place, RunningServer
from iolab.servers.copier import Copier
from iolab.servers.iolab_server import IolabServer, describe
from iolab.servers.peer import PeerFile, PeerServer, load_peers, offer_peers
from iolab.specs import Offer
from iolab.testbed import Testbed
from iolab.testbed.loopback import Loopback
from iolab.topology import CpuSplit, host_split
from iolab.tuning.profile import Loaded, knob_keys, load_profile
from iolab.verify import Verification
from iolab.verify_copies import verify_copies
from iolab.verify_pairs import verify_pairs

_MEMORY = Path("/dev/shm")  # tmpfs on every Linux with a C library that has shm_open(3)


@dataclass(frozen=True)
class Lab:
    """Everything the verbs share. `scratch` is removed when the lab is left.

    `builds` are server binaries beside this tree's, by the name that `Server.build` has;
    `build_facts` is what is known of these beyond their own words (Build.to_json).
    `given` are profiles beside those of the tree, by the name that cells have; they are applied to
    network namespaces and never to the host.
    """

    house: House
    executor: Executor
    testbed: Testbed
    split: CpuSplit
    scratch: Path
    builds: Mapping[str, Path] = field(default_factory=dict)
    build_facts: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    given: Mapping[str, Loaded] = field(default_factory=dict)

    @cached_property
    def describe(self) -> Describe:
        """What the server binary offers; IolabError when it is not built."""
        return describe(self.executor, self.house.need(self.house.server_binary))

    @cached_property
    def described_builds(self) -> dict[str, Describe]:
        """What the other builds offer, by name."""
        return {
            name: describe(self.executor, self.house.need(binary))
            for name, binary in self.builds.items()
        }

    def engine(self, server: Server) -> Engine | None:
        """The engine of a server as its build describes it; None for a peer or an unknown one."""
        if server.kind != "engine":
            return None
        described = self.described_builds[server.build] if server.build else self.describe
        return described.engine(server.name)

    @cached_property
    def peers(self) -> dict[str, PeerFile]:
        """The peer files of the tree."""
        return load_peers(self.house.peers)

    @cached_property
    def offer(self) -> Offer:
        """Engines and peers of this machine, as matrices are expanded with."""
        peers = offer_peers(self.peers, self.house.root)
        return Offer(
            self.describe, peers, lambda: self.copy_describe, self.described_builds, self.knobs
        )

    def knobs(self, profile: str) -> tuple[str, ...]:
        """The keys of what a profile of the tree sets; InputError when there is none."""
        return knob_keys(load_profile(self.house.profiles, profile))

    @cached_property
    def copy_describe(self) -> CopyDescribe:
        """What the copier offers where files are copied; IolabError when it is not built."""
        binary = self.house.need(self.house.copy_binary)
        argv = [str(binary), "--describe", "--dir", str(self.copy_places.disk)]
        done = self.executor.run(argv, timeout_s=60)
        if done.code != 0:
            raise ProcessError(f"iolab-copy --describe: {done.stderr.strip()[-400:]}")
        return parse_copy_describe(done.stdout)

    @cached_property
    def copy_places(self) -> CopyPlaces:
        """Where role copy makes its files: on the disk of this tree, and in memory."""
        disk = self.copies
        sources = disk / "sources"
        sources.mkdir(parents=True, exist_ok=True)
        return CopyPlaces(disk, sources, _MEMORY)

    @property
    def copies(self) -> Path:
        """The directory of role copy, of this lab alone; removed when the lab is left."""
        return self.house.cache / self.scratch.name

    @property
    def files(self) -> Path:
        """The root that servers serve."""
        return self.house.cache / "files"

    def plan(self, matrix: str, build: str | None = None) -> Plan:
        """The plan of a matrix given by path or by the name of a file in workloads/.

        `build` is the one whose engines are meant (None: this tree's).
        """
        path = Path(matrix)
        if not path.is_file():
            known = sorted(found.stem for found in self.house.workloads.glob("*.toml"))
            path = self.house.workloads / f"{matrix}.toml"
            if not path.is_file():
                raise InputError(f"{matrix}: no such matrix: {did_you_mean(matrix, known)}")
        if build is None:
            return load_plan(path, self.offer)
        return load_plan(path, replace(self.offer, describe=self.described_builds[build]))

    def prepare_files(self, sizes_bytes: Iterable[int]) -> None:
        """Makes the files of these sizes and those that verification needs."""
        ensure_files(self.files, [*sizes_bytes, *verify.SIZES_BYTES])

    def start_server(
        self, server: Server, role: Role, memory_limit_bytes: int | None = None
    ) -> RunningServer:
        """See troupe.Stage."""
        if server.kind == "technique":
            return Copier(server)
        place = self._place(role, memory_limit_bytes)
        if server.kind == "peer":
            peer = self.peers.get(server.name)
            if peer is None:
                raise ProcessError(f"{server.spec}: its peer file is gone")
            return PeerServer.start(self.executor, peer, self.house.root, place)
        if server.build is not None and server.build not in self.builds:
            raise ProcessError(f"{server.spec}: this lab has no build of that name")
        binary = self.builds[server.build] if server.build else self.house.server_binary
        binary = self.house.need(binary)
        return IolabServer.start(self.executor, binary, server, role, place)

    def _place(self, role: Role, memory_limit_bytes: int | None) -> Place:
        """A place of its own for a server; role forward finds its upstream at the client's."""
        scratch = Path(tempfile.mkdtemp(dir=self.scratch))
        scratch.chmod(0o755)  # workers of a peer may run as another user
        upstream = None
        if role == "forward":
            with self.testbed.at_client():
                upstream = self.testbed.client_host, free_port(self.testbed.client_host)
        return Place(
            self.files, scratch, self.split.server, self.testbed, upstream, memory_limit_bytes
        )

    def open_load(
        self, server: RunningServer, workloads: Sequence[Workload], seed: int
    ) -> LoadSession:
        """See troupe.Stage."""
        if isinstance(server, Copier):
            return IolabCopy.open(
                self.executor,
                self.house.need(self.house.copy_binary),
                server.server.argument,
                workloads[0],  # cells of role copy share no session
                self.copy_places,
                self.split.server[0],
            )
        return IolabLoad.open(
            self.executor,
            self.house.need(self.house.load_binary),
            self.testbed,
            Target.of(server),
            workloads,
            self.split.client,
            seed,
        )

    def check_pairs(self, label: str, server: RunningServer, role: Role) -> Verification:
        """Moves streams of many kinds through a running relay or forwarder, all of it compared."""
        return verify_pairs(
            label,
            role,
            lambda workload, pairs_check: count_pairs(
                self.executor,
                self.house.need(self.house.load_binary),
                self.testbed,
                Target.of(server),
                workload,
                pairs_check,
            ),
        )

    def check_copies(self, label: str) -> Verification | None:
        """Compares copies that a technique makes; None when it is unsupported here."""
        binary = self.house.need(self.house.copy_binary)
        disk = self.copy_places.disk
        return verify_copies(label, lambda: check_copies(self.executor, binary, label, disk))


@contextmanager
def open_lab(
    builds: Mapping[str, Path] | None = None,
    build_facts: Mapping[str, Mapping[str, Any]] | None = None,
) -> Iterator[Lab]:
    """The lab of this tree and host; on leaving, every process it started is ended.

    `builds` are further server binaries by name, `build_facts` what is known of them; see Lab.
    """
    scratch = Path(tempfile.mkdtemp(prefix="iolab-"))
    scratch.chmod(0o755)  # workers of a peer may run as another user
    house = find_house()
    try:
        with HostExecutor() as executor:
            yield Lab(
                house,
                executor,
                Loopback(),
                host_split(),
                scratch,
                builds or {},
                build_facts or {},
            )
    finally:
        shutil.rmtree(house.cache / scratch.name, ignore_errors=True)
        shutil.rmtree(scratch, ignore_errors=True)
