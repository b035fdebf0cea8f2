"""What the tests of the harness share: a build that does not exist, and a lab of fakes."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import settings

sys.path.insert(0, str(Path(__file__).parent))  # fakestage.py and others stand beside the tests

import realruns
from fakestage import FakeStage

from iolab.describe import CopyDescribe, Describe, Engine, Option, Refusal, Technique
from iolab.executor import HostExecutor
from iolab.paths import find_house
from iolab.servers.iolab_server import describe
from iolab.specs import Offer, PeerOffer

# The same examples on every machine and no clock: a shared machine must not fail a test.
settings.register_profile("iolab", deadline=None, derandomize=True, max_examples=60)
settings.load_profile("iolab")

CACHE = Option(name="cache", type="enum", values=("none", "memory"), default="none")
SNDBUF = Option(name="sndbuf", type="size", default="0", min=0, max=1 << 30)
POLICY = Option(name="policy", type="enum", values=("stream", "buffered", "hybrid"))
PIPE = Option(name="pipe", type="size", default="262144", min=4096, max=1 << 20)
BATCH = Option(name="batch", type="size", default="0", min=0, max=4 << 20)
SIZE = Option(name="size", type="size", default="1024", min=0, max=1 << 26)

DIRECT = Option(
    name="direct",
    type="bool",
    default="off",
    unsupported=(Refusal(value="on", reason="no O_DIRECT here"),),
)
BUFFERS = Option(name="buffers", type="enum", values=("plain", "fixed"), default="plain")
FILES = Option(name="files", type="enum", values=("calls", "ring"), default="calls")
TO = Option(name="to", type="enum", values=("write", "mapping"), default="write")

# Techniques as a build of the copier may offer them, one of them not usable here.
COPIER = CopyDescribe(
    schema_version=1,
    techniques=(
        Technique(name="read-write", options=(DIRECT,)),
        Technique(name="mmap", options=(TO,)),
        Technique(name="io_uring", options=(DIRECT, BUFFERS, FILES)),
        Technique(name="clone", usable=False, reason="no clones here"),
    ),
)


@pytest.fixture
def house_root() -> Path:
    """The root of this tree."""
    return Path(__file__).resolve().parents[2]


@pytest.fixture
def offer() -> Offer:
    """Engines as a build may offer them, one of them not usable here, and four peers."""
    engines = (
        Engine(
            name="epoll",
            sources=("memory", "file", "socket"),
            roles=("file", "relay", "forward"),
            options=(CACHE, SNDBUF, POLICY),
        ),
        Engine(name="sendfile", sources=("file",), roles=("file",), options=(CACHE, SNDBUF)),
        Engine(name="mmap", sources=("mapping",), roles=("file",), options=()),
        Engine(
            name="io_uring",
            sources=("memory", "file"),
            roles=("file",),
            usable=False,
            reason="kernel.io_uring_disabled is 2",
            options=(CACHE, SNDBUF),
        ),
        Engine(name="null", sources=("constant",), roles=("file",), options=(SIZE,)),
        Engine(
            name="splice",
            sources=("socket",),
            roles=("relay", "forward"),
            options=(SNDBUF, PIPE, POLICY, BATCH),
        ),
    )
    peers = {
        "nginx": PeerOffer(("file",)),
        "other": PeerOffer(("file",), "missing"),
        "haproxy-splice": PeerOffer(("forward",)),
        "piping-server": PeerOffer(("relay",)),
    }
    return Offer(Describe(schema_version=1, engines=engines), peers, lambda: COPIER)


@pytest.fixture
def stage() -> FakeStage:
    """A stage of its own for each test, whose time passes only when slices are driven."""
    return FakeStage()


@pytest.fixture(scope="session")
def built_describe() -> Describe:
    """What this tree's build says of itself; skips without one."""
    binary = find_house().server_binary
    if not os.access(binary, os.X_OK):
        pytest.skip(f"{binary.name} is not built: cmake --build build")
    with HostExecutor() as executor:
        return describe(executor, binary)


@pytest.fixture
def built_offer(offer: Offer, built_describe: Describe) -> Offer:
    """`offer` with the build's engines and options, all of them as if this kernel had them."""
    engines = tuple(
        engine.model_copy(update={"usable": True, "reason": None})
        for engine in built_describe.engines
    )
    return replace(offer, describe=built_describe.model_copy(update={"engines": engines}))


@pytest.fixture(scope="session")
def real_run(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The directory of a run of the real programs by its kind (realruns.KINDS), made once."""
    made: dict[str, Path] = {}

    def run(kind: str) -> Path:
        if kind not in made:
            made[kind] = realruns.measure(kind, tmp_path_factory.mktemp(kind))
        return made[kind]

    return run
