"""The files that servers serve: made once, kept in the cache, the same on every machine."""

from __future__ import annotations

import random
from collections.abc import Iterable
from pathlib import Path

from iolab.model import file_name


def ensure_files(root: Path, sizes_bytes: Iterable[int]) -> None:
    """Makes the file of every size below `root`, readable by any user, where it is missing.

    The content is pseudo-random, seeded by the size, so that a shifted or repeated range shows.
    The files are read once afterwards: the page cache holds them when the clock starts.
    """
    root.mkdir(parents=True, exist_ok=True)
    for size in set(sizes_bytes):
        path = root / file_name(size)
        if not path.exists() or path.stat().st_size != size:
            temporary = path.with_suffix(".tmp")
            _write(temporary, size)
            temporary.chmod(0o644)
            temporary.rename(path)
        _read(path)


def _write(path: Path, size: int) -> None:
    rng = random.Random(size)
    with path.open("wb") as file:
        for start in range(0, size, 1 << 20):
            file.write(rng.randbytes(min(1 << 20, size - start)))


def _read(path: Path) -> None:
    with path.open("rb") as file:
        while file.read(1 << 20):
            pass
