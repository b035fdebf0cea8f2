"""Server binaries of other commits: checked out beside the tree, built as it is, kept by commit."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from iolab.errors import InputError, IolabError
from iolab.executor import Completed, Executor
from iolab.paths import House

_GIT_TIMEOUT_S = 120.0
_BUILD_TIMEOUT_S = 1800.0
_FLAGS = ("CFLAGS", "CPPFLAGS", "LDFLAGS")
_STAMP = "build.json"
_BUILD_TYPE = "Release"  # as the launcher builds


@dataclass(frozen=True)
class Build:
    """A built commit. `ref` is how it was asked for; `made_by` is what compiled it, with which
    flags of the environment.

    It is never dirty: what is built is a checkout of its own, without changes of the tree.
    """

    ref: str
    commit: str
    binary: Path
    made_by: str

    def to_json(self) -> dict[str, Any]:
        """As a manifest stores it; the compiler's version and flags are the binary's own words."""
        return {"ref": self.ref, "commit": self.commit, "dirty": False, "made_by": self.made_by}


class BuildError(IolabError):
    """A commit that cannot be checked out or built; the message holds the end of the tool's."""


def resolve(executor: Executor, root: Path, ref: str) -> str:
    """The commit that `ref` names in the tree at `root`; InputError when it names none."""
    argv = ["git", "-C", str(root), "rev-parse", "--verify", "--quiet", f"{ref}^{{commit}}"]
    done = executor.run(argv, timeout_s=_GIT_TIMEOUT_S)
    commit = done.stdout.strip()
    if done.code != 0 or not commit:
        raise InputError(
            f"{ref}: no commit of that name in {root}",
            "git fetch brings those of a remote; a shallow clone lacks older ones",
        )
    return commit


def build(executor: Executor, house: House, ref: str) -> Build:
    """The server of commit `ref`, built below the cache unless this compiler has done it before
    with these flags.

    The commit is checked out into a git worktree of its own, which is removed again. InputError
    for an unknown commit, BuildError when git, CMake or the compiler refuses.
    """
    commit = resolve(executor, house.root, ref)
    compiler = _compiler(executor)
    place = house.cache / "builds" / commit
    binary = place / "iolab-server"
    if _made_by(place) == compiler and os.access(binary, os.X_OK):
        return Build(ref, commit, binary, compiler)
    place.parent.mkdir(parents=True, exist_ok=True)
    with _checked_out(executor, house.root, commit, place.parent) as source:
        made = _compile(executor, source)
        fresh = Path(tempfile.mkdtemp(prefix=".new-", dir=place.parent))
        shutil.copy2(made, fresh / binary.name)
        (fresh / _STAMP).write_text(json.dumps({"commit": commit, "made_by": compiler}) + "\n")
    fresh.chmod(0o755)
    shutil.rmtree(place, ignore_errors=True)
    fresh.rename(place)
    return Build(ref, commit, binary, compiler)


def _made_by(place: Path) -> str | None:
    """The compiler that made a kept build, None when there is none or its stamp is damaged."""
    with suppress(OSError, ValueError):
        stamp = json.loads((place / _STAMP).read_text(encoding="utf-8"))
        if isinstance(stamp, dict):
            return str(stamp.get("made_by"))
    return None


def _compiler(executor: Executor) -> str:
    """The compiler that CMake will find, as it introduces itself, and the flags it will be given.

    CMake takes those from the environment when it configures (cmake-env-variables(7)).
    """
    name = os.environ.get("CC") or "cc"
    done = executor.run([name, "--version"], timeout_s=_GIT_TIMEOUT_S)
    flags = [f"{key}={os.environ[key]}" for key in _FLAGS if os.environ.get(key)]
    return " ".join([done.stdout.partition("\n")[0].strip(), *flags])


@contextmanager
def _checked_out(executor: Executor, root: Path, commit: str, parent: Path) -> Iterator[Path]:
    """A worktree of `commit` below `parent`, gone afterwards, from git's list as well."""
    place = Path(tempfile.mkdtemp(prefix=f"{commit[:12]}.", suffix=".src", dir=parent))
    git = ["git", "-C", str(root), "worktree"]
    try:
        _must(executor, [*git, "add", "--detach", "--force", str(place), commit], _GIT_TIMEOUT_S)
        yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)
        executor.run([*git, "prune"], timeout_s=_GIT_TIMEOUT_S)


def _compile(executor: Executor, source: Path) -> Path:
    """Configures and builds the server alone; the path of its binary."""
    target = source / "build"
    _must(
        executor,
        ["cmake", "-S", str(source), "-B", str(target), "-G", "Ninja",
         f"-DCMAKE_BUILD_TYPE={_BUILD_TYPE}"],
        _BUILD_TIMEOUT_S,
    )  # fmt: skip
    jobs = str(os.cpu_count() or 1)
    _must(
        executor,
        ["cmake", "--build", str(target), "--target", "iolab-server", "-j", jobs],
        _BUILD_TIMEOUT_S,
    )
    return target / "iolab-server"


def _must(executor: Executor, argv: Sequence[str], timeout_s: float) -> Completed:
    done = executor.run(argv, timeout_s=timeout_s)
    if done.code != 0:
        words = (done.stderr.strip() or done.stdout.strip())[-1500:]
        raise BuildError(f"{' '.join(argv)}: exit code {done.code}:\n{words}")
    return done
