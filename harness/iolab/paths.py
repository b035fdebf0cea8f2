"""Where things stand in the house: the project's root, the build directory, the binaries."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from iolab.errors import IolabError


@dataclass(frozen=True)
class House:
    """The project tree. `build` may stand elsewhere (environment variable IOLAB_BUILD)."""

    root: Path
    build: Path

    @property
    def server_binary(self) -> Path:
        """The engine server built from server/ and engines/."""
        return self.build / "iolab-server"

    @property
    def load_binary(self) -> Path:
        """The load generator built from workloads/load/."""
        return self.build / "iolab-load"

    @property
    def zerocopy_binary(self) -> Path:
        """The check of zero-copy sends built from workloads/zerocopy/."""
        return self.build / "iolab-zerocopy-check"

    @property
    def copy_binary(self) -> Path:
        """The copier built from workloads/copy/."""
        return self.build / "iolab-copy"

    @property
    def measuring(self) -> tuple[Path, ...]:
        """The programs of ours that take part in a measurement; not all need be built."""
        return self.server_binary, self.load_binary, self.copy_binary

    @property
    def workloads(self) -> Path:
        """Matrices, one TOML file each."""
        return self.root / "workloads"

    @property
    def profiles(self) -> Path:
        """Tuning profiles, one TOML file each."""
        return self.root / "tuning/profiles"

    @property
    def peers(self) -> Path:
        """External servers, one TOML file each."""
        return self.root / "peers"

    @property
    def results(self) -> Path:
        """Run directories (environment variable IOLAB_RESULTS puts them elsewhere)."""
        return Path(os.environ.get("IOLAB_RESULTS") or self.root / "results")

    @property
    def cache(self) -> Path:
        """Generated files and downloads that may be deleted at any time."""
        return self.root / ".cache"

    @property
    def wrk_script(self) -> Path:
        """The Lua script that makes wrk print JSON."""
        return self.workloads / "load" / "wrk-json.lua"

    def need(self, binary: Path) -> Path:
        """`binary` itself when it can be executed; IolabError with the build command otherwise."""
        if not os.access(binary, os.X_OK):
            raise IolabError(
                f"{binary} is not built",
                "./iolab engines builds what is missing, or: "
                f"cmake -S {self.root} -B {self.build} -G Ninja && cmake --build {self.build}",
            )
        return binary


def find_house() -> House:
    """The tree this package belongs to; IOLAB_ROOT and IOLAB_BUILD override."""
    root = Path(os.environ.get("IOLAB_ROOT") or Path(__file__).resolve().parents[2])
    build = Path(os.environ.get("IOLAB_BUILD") or root / "build")
    return House(root=root, build=build)
