"""Run directories: what a run leaves on disk, and how it survives being killed at any byte.

`samples.jsonl` only grows: one line per slice, and a `block_end` line when a block is finished,
after which the file is flushed and synced. Whatever follows the last complete `block_end` line
belongs to an unfinished block and is ignored by readers and cut off by a resumed run.
`manifest.json` is replaced whole: temporary name, fsync, rename, fsync of the directory.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

from iolab import slicecheck
from iolab.errors import IolabError
from iolab.model import SCHEMA_VERSION, Sample, Status

SAMPLES = "samples.jsonl"
MANIFEST = "manifest.json"
WRK = "wrk.jsonl"
SYSCALLS = "syscalls.jsonl"
_CHUNK_BYTES = 64 * 1024


class StoreError(IolabError):
    """A file of a run that is missing, truncated beyond use, or not ours; the message names it."""


def create_run_dir(results: Path, name: str, now: datetime) -> Path:
    """A new directory `YYYYMMDD-HHMMSS-NAME` under `results`; a suffix keeps it unique."""
    stem = f"{now:%Y%m%d-%H%M%S}-{name}"
    results.mkdir(parents=True, exist_ok=True)
    for attempt in range(1000):
        path = results / (stem if attempt == 0 else f"{stem}.{attempt}")
        try:
            path.mkdir()
        except FileExistsError:
            continue
        return path
    raise StoreError(f"{results}: no free name for {stem}")


def find_run_dir(results: Path, run: str) -> Path:
    """The directory of `run`: a path, a name under `results`, or `last` for the newest."""
    if run == "last":
        runs = sorted(path.parent for path in results.glob(f"*/{MANIFEST}"))
        if not runs:
            raise StoreError(f"{results} holds no run yet", "./iolab quick makes one")
        return runs[-1]
    for path in (Path(run), results / run):
        if (path / MANIFEST).is_file():
            return path
    raise StoreError(f"{run}: no run of that name (no {MANIFEST} there or under {results})")


def write_json(path: Path, document: Any) -> None:
    """Replaces `path` by `document` as JSON: readers see the old file or the new one, whole."""
    temporary = path.with_name(f".{path.name}.tmp")
    with temporary.open("w", encoding="utf-8") as file:
        json.dump(document, file, indent=1, ensure_ascii=False)
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())
    temporary.rename(path)
    _sync_dir(path.parent)


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in `path`; StoreError names the file when it is missing or is none."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise StoreError(f"{path}: {error.strerror}") from error
    except ValueError as error:
        raise StoreError(f"{path}: not JSON ({error}); truncated or foreign?") from error
    if not isinstance(document, dict):
        raise StoreError(f"{path}: not a JSON object")
    return document


def read_manifest(run_dir: Path) -> dict[str, Any]:
    """The manifest of a run; StoreError when its schema_version is not ours."""
    document = read_json(run_dir / MANIFEST)
    _check_version(str(run_dir / MANIFEST), document)
    return document


def append_jsonl(path: Path, document: dict[str, Any]) -> None:
    """Appends one record to `path` and syncs it, in place of an unfinished one that a kill left."""
    with path.open("a+b") as file:
        file.truncate(_whole_bytes(file))
        file.write(_line(document))
        file.flush()
        os.fsync(file.fileno())


def _whole_bytes(file: BinaryIO) -> int:
    """The length of the whole lines of a file, read from its end."""
    at = file.seek(0, os.SEEK_END)
    while at > 0:
        begin = max(0, at - _CHUNK_BYTES)
        file.seek(begin)
        found = file.read(at - begin).rfind(b"\n")
        if found >= 0:
            return begin + found + 1
        at = begin
    return 0


def read_jsonl(
    path: Path,
    keys: Collection[str] = (),
    check: Callable[[dict[str, Any]], None] | None = None,
) -> Iterator[dict[str, Any]]:
    """The records of `path`, [] when it is missing; an unfinished last line is left out.

    StoreError names a whole line that is no record of our schema_version, lacks one of `keys`, or
    is found Unfit by `check`: the file was damaged or is not ours.
    """
    if not path.exists():
        return
    for number, line in enumerate(path.read_bytes().split(b"\n")[:-1], start=1):
        try:
            document = json.loads(line)
        except ValueError:
            document = None
        if not isinstance(document, dict):
            raise _damaged(path, number, "not a JSON object")
        _check_version(f"{path}:{number}", document)
        missing = [key for key in keys if key not in document]
        if missing:
            raise _damaged(path, number, f"no key {missing[0]!r}")
        try:
            if check is not None:
                check(document)
        except slicecheck.Unfit as error:
            raise _damaged(path, number, str(error)) from error
        yield document


def read_wrk(run_dir: Path) -> tuple[dict[str, Any], ...]:
    """The records of a run's wrk check; StoreError as `read_jsonl`."""
    return tuple(read_jsonl(run_dir / WRK, (), slicecheck.check_wrk))


def read_syscalls(run_dir: Path) -> tuple[dict[str, Any], ...]:
    """The records of a run's pass that counts system calls; StoreError as `read_jsonl`."""
    return tuple(read_jsonl(run_dir / SYSCALLS, (), slicecheck.check_syscalls))


def _damaged(path: Path, number: int, what: str) -> StoreError:
    return StoreError(f"{path}:{number}: {what}; the file is damaged or was not written by iolab")


def _check_version(where: str, document: Mapping[str, Any]) -> None:
    """StoreError when a document is not of our schema_version."""
    version = document.get("schema_version")
    if version != SCHEMA_VERSION:
        raise StoreError(
            f"{where}: schema_version {version!r}, this program reads {SCHEMA_VERSION}; "
            "it was damaged, or not written by this version of iolab"
        )


class SampleWriter:
    """Appends slices to samples.jsonl; a block counts once `end_block` has returned."""

    def __init__(self, run_dir: Path) -> None:
        """Opens the file for appending, after cutting off an unfinished block left by a kill."""
        self._path = run_dir / SAMPLES
        kept = read_samples(run_dir).valid_bytes if self._path.exists() else 0
        self._file: BinaryIO = self._path.open("ab")
        self._file.truncate(kept)
        _sync_dir(run_dir)

    def append(self, sample: Sample) -> None:
        """Writes one slice (buffered: durable with its block)."""
        self._file.write(_line(sample.to_json()))

    def end_block(self, block: int, **facts: Any) -> None:
        """Marks block `block` finished, with `facts` about it, and syncs the file."""
        self._file.write(_line({"block_end": block, "schema_version": SCHEMA_VERSION, **facts}))
        self._file.flush()
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Closes the file. Slices of an unfinished block stay in it and are ignored by readers."""
        self._file.close()

    def __enter__(self) -> SampleWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


@dataclass(frozen=True)
class StoredSamples:
    """What samples.jsonl holds.

    `blocks` are the `block_end` records in file order. `valid_bytes` is the length of the part
    that finished blocks occupy; `dropped` says in words what follows it, None when nothing does.
    """

    samples: tuple[Sample, ...]
    blocks: tuple[dict[str, Any], ...]
    valid_bytes: int
    dropped: str | None

    @property
    def next_block(self) -> int:
        """The number of the block that a resumed run starts with."""
        return max((int(block["block_end"]) + 1 for block in self.blocks), default=0)


def read_samples(run_dir: Path) -> StoredSamples:
    """All slices of finished blocks of a run; of blocks spoilt by drift, those that failed.

    A tail without a complete `block_end` line is dropped and described. A line inside a finished
    block that is no sample means that the file was damaged or is not ours: StoreError with file
    and line number. A missing file reads as no slices.
    """
    path = run_dir / SAMPLES
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return StoredSamples((), (), 0, None)
    except OSError as error:
        raise StoreError(f"{path}: {error.strerror}") from error
    samples: list[Sample] = []
    blocks: list[dict[str, Any]] = []
    open_block: list[Sample] = []
    trouble: str | None = None
    offset = valid = 0
    for number, line in enumerate(data.split(b"\n")[:-1], start=1):
        offset += len(line) + 1
        record = _parse(line)
        if isinstance(record, str):
            trouble = trouble or f"{path}:{number}: {record}"
        elif isinstance(record, Sample):
            open_block.append(record)
        elif trouble:
            raise StoreError(f"{trouble}; the file is damaged or was not written by iolab")
        else:
            blocks.append(record)
            samples += _counting(open_block, record)
            open_block = []
            valid = offset
    if valid == 0 and trouble:
        raise StoreError(f"{trouble}; the file is damaged or was not written by iolab")
    dropped = None
    if valid < len(data):
        dropped = f"{path}: {len(data) - valid} bytes of an unfinished block ignored"
    return StoredSamples(tuple(samples), tuple(blocks), valid, dropped)


def _counting(samples: list[Sample], end: dict[str, Any]) -> list[Sample]:
    """The slices of a block that count: all of them, or, when a knob drifted, only failures."""
    if "drift" not in end:
        return samples
    return [sample for sample in samples if sample.status is not Status.OK]


def _parse(line: bytes) -> Sample | dict[str, Any] | str:
    """A sample, a block_end record, or what is wrong with the line."""
    try:
        document = json.loads(line)
    except ValueError:
        return "not JSON"
    if not isinstance(document, dict):
        return "not a JSON object"
    if "block_end" in document:
        if document.get("schema_version", SCHEMA_VERSION) != SCHEMA_VERSION:
            return f"schema_version {document['schema_version']!r}, not {SCHEMA_VERSION}"
        return document if isinstance(document["block_end"], int) else "block_end is no number"
    try:
        sample = Sample.from_json(document)
        if sample.status is Status.OK and sample.load is not None:
            slicecheck.check_load(sample.load)
        slicecheck.check_counters(sample.server_counters or {})
        slicecheck.check_extra(sample.extra)
        return sample
    except KeyError as error:
        return f"no key {error.args[0]!r}"
    except (TypeError, ValueError) as error:
        return str(error)


def _line(document: dict[str, Any]) -> bytes:
    text = json.dumps(document, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.encode() + b"\n"


def _sync_dir(path: Path) -> None:
    """Makes a rename or a new name in `path` durable."""
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
