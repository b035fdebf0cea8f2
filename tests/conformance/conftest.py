"""Fixtures of the conformance suite: one server per engine and option, found by asking the binary.

No engine is named here: `iolab-server --describe` says which there are, what they can move and
which values their options take.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from client import SIZES, Sanitizer, Server
from relay_client import until_empty

TOP = Path(__file__).resolve().parents[2]


def pytest_addoption(parser: pytest.Parser) -> None:
    """Options of the suite."""
    group = parser.getgroup("iolab")
    group.addoption("--server-binary", default=str(TOP / "build" / "iolab-server"))
    group.addoption("--engine", action="append", default=[], help="engine specs (repeatable)")
    group.addoption("--sanitizer", default="", help="name of the sanitizer in the binary")
    group.addoption("--slow", action="store_true", help="also what takes minutes")


def describe(config: pytest.Config) -> dict[str, Any]:
    """What the binary says of itself."""
    binary = config.getoption("--server-binary")
    if not Path(binary).exists():
        raise pytest.UsageError(f"{binary} does not exist: build it with ./iolab test, or cmake")
    out = subprocess.run([binary, "--describe"], check=True, capture_output=True, timeout=60)
    document: dict[str, Any] = json.loads(out.stdout)
    return document


# Options whose smallest value is none to try, or is not the only one worth it.
OWN_VALUES = {
    "batch_wait": ["200"],  # µs; of 4096, every small transfer would wait several times
    "ring_entries": ["4", "4096"],
    "sqpoll_cpu": [str(min(os.sched_getaffinity(0)))],
}
# Options that mean nothing by themselves, and what they are tried beside.
BESIDE = {
    "sqpoll_idle": ",sqpoll=on",
    "sqpoll_cpu": ",sqpoll=on",
    "batch_wait": ",batch=64",
    "registered": ",source=buffers",
    "quiet_sends": ",cache=memory",
}


def values_to_try(option: dict[str, Any]) -> list[str]:
    """Values of an option that differ from its default and are worth a server each."""
    if option["type"] == "enum":
        return [value for value in option["values"] if value != option["default"]]
    if option["type"] == "bool":
        return ["off" if option["default"] == "on" else "on"]
    if option["name"] in OWN_VALUES:
        return OWN_VALUES[option["name"]]
    # The smallest one: it makes moves short, which is where mistakes hide.
    smallest = min(max(int(option["min"]), 4096), int(option["max"]))
    return [str(smallest)] if str(smallest) != option["default"] else []


def specs_of(engine: dict[str, Any], role: str) -> list[str]:
    """The engine with its defaults, then each option value alone, if it concerns the role."""
    name = engine["name"]
    specs = [name]
    for option in engine["options"]:
        if role != "file" and option["name"] in NOT_FOR_RELAYS:
            continue
        beside = BESIDE.get(option["name"], "")
        specs += [f"{name}{beside},{option['name']}={value}" for value in values_to_try(option)]
    return specs


def serves_files(engine: dict[str, Any]) -> bool:
    """Whether bodies are files, so that bytes can be compared."""
    return "constant" not in engine["sources"]


# Levels of parameters: fixture name -> (role, whether each option is tried at another value).
LEVELS = {
    "spec": ("file", True),
    "name": ("file", False),
    "ring_name": ("file", False),
    "ring_copy_name": ("file", False),
    "ring_splice_name": ("file", False),
    "ring_zc_name": ("file", False),
    "relay_spec": ("relay", True),
    "relay_name": ("relay", False),
    "forward_spec": ("forward", True),
}
# They say how files are read, or change nothing that a transfer between sockets could get wrong.
NOT_FOR_RELAYS = {
    "bundle", "busy_poll", "cache", "cache_limit", "fixed_buffers", "hold", "nodelay",
    "quiet_sends", "threshold",
}  # fmt: skip
# Levels that only engines with an option have.
NEEDED_OPTION = {
    "ring_name": "ring_entries",
    "ring_copy_name": "quiet_sends",
    "ring_splice_name": "linked",
    "ring_zc_name": "registered",
}


def has_option(engine: dict[str, Any], name: str | None) -> bool:
    """Whether the engine has the option; any has None."""
    return name is None or any(option["name"] == name for option in engine["options"])


def has_role(engine: dict[str, Any], role: str) -> bool:
    """Whether the engine can do the role, and bytes can be compared in it."""
    return role in engine["roles"] and (role != "file" or serves_files(engine))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """One parameter per engine specification; an unusable engine is skipped with its reason."""
    level = next((f for f in LEVELS if f in metafunc.fixturenames), None)
    if level is None:
        return
    role, options = LEVELS[level]
    chosen = metafunc.config.getoption("--engine")
    params = []
    for engine in describe(metafunc.config)["engines"]:
        if not has_role(engine, role) or not has_option(engine, NEEDED_OPTION.get(level)):
            continue
        # A sanitizer looks for mistakes of the code, which the defaults run through as well.
        options = options and (role == "file" or not metafunc.config.getoption("--sanitizer"))
        specs = specs_of(engine, role) if options else [engine["name"]]
        if chosen:
            specs = [s for s in chosen if s.split(",")[0] == engine["name"]]
        mark = pytest.mark.skipif(not engine["usable"], reason=f"unsupported: {engine['reason']}")
        params += [pytest.param(spec, marks=mark) for spec in specs]
    metafunc.parametrize(level, params, scope="module")


@pytest.fixture(scope="session")
def binary(pytestconfig: pytest.Config) -> Path:
    """The server under test."""
    return Path(pytestconfig.getoption("--server-binary"))


@pytest.fixture(scope="session")
def sanitizer(pytestconfig: pytest.Config) -> Sanitizer:
    """Whether the build is slow and large."""
    return Sanitizer(bool(pytestconfig.getoption("--sanitizer")))


@pytest.fixture(scope="session")
def described(pytestconfig: pytest.Config) -> dict[str, Any]:
    """The --describe document."""
    return describe(pytestconfig)


@pytest.fixture(scope="session")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tree of files, with a secret beside it that no request may reach."""
    base = tmp_path_factory.mktemp("www")
    (base / "secret").write_text("TOP-SECRET")
    top = base / "root"
    top.mkdir()
    source = random.Random(7)
    for size in SIZES:
        (top / f"f{size}").write_bytes(source.randbytes(size))
    for name in ("a.html", "b.css", "c.js", "d.json", "e.png", "f.svg", "g.txt", "h.wasm", "i.zzz"):
        (top / name).write_text(name)
    (top / "with space & more.txt").write_text("spaced")
    (top / "dir").mkdir()
    (top / "dir" / "index.html").write_text("<p>index")
    (top / "dir" / "inner.txt").write_text("inner")
    (top / "empty").mkdir()
    (top / "inside").symlink_to("dir/inner.txt")
    (top / "outside").symlink_to("../secret")
    (top / "absolute").symlink_to("/etc/passwd")
    (top / "up").symlink_to("..")
    os.mkfifo(top / "fifo")
    with (top / "huge").open("wb") as file:
        file.truncate(5 << 30)
        file.seek((4 << 30) - 8)
        file.write(b"before4Gafter4G!")
    return top


@pytest.fixture(scope="module")
def server(binary: Path, spec: str, root: Path) -> Iterator[Server]:
    """A server per engine specification, shared by the tests of a module."""
    running = Server(binary, spec, root)
    yield running
    running.stop()


@pytest.fixture(scope="module")
def running_relay(binary: Path, relay_spec: str) -> Iterator[Server]:
    """A relay of two workers per engine specification, so that parties have to move."""
    args = ("--workers", "2", "--linger-timeout", "500")
    running = Server(binary, relay_spec, None, *args, role="relay")
    yield running
    running.stop()


@pytest.fixture
def relay(running_relay: Server) -> Server:
    """The module's relay, empty: a receiver has the last byte before the name is free again."""
    until_empty(running_relay)
    return running_relay
