"""kill -9 at any byte loses the open block at most; what is no run of ours is named."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from iolab.errors import IolabError
from iolab.model import Sample, Status
from iolab.report.run import load
from iolab.store import MANIFEST, SAMPLES, SampleWriter, StoreError, read_manifest, read_samples

WRITER = """
import sys
from pathlib import Path
from iolab.model import Sample, Status
from iolab.store import SampleWriter

def sample(block, order):
    load = {
        "window": {"ns": 1, "requests": 1, "body_bytes": 1},
        "cpu": {"client_ns": 1, "server_ns": 1, "client_share": 0.5},
        "pad": "x" * 3000,
    }
    return Sample(block, order, f"c{order}@w", Status.OK, None, 1, 2, load, {})

with SampleWriter(Path(sys.argv[1])) as writer:
    for block in range(10**9):
        for order in range(5):
            writer.append(sample(block, order))
        writer.end_block(block)
        print(block, flush=True)
"""


def sample(block: int, order: int) -> Sample:
    window = {"ns": 1, "requests": block, "body_bytes": 1}
    load = {"window": window, "cpu": {"client_ns": 1, "server_ns": 1, "client_share": 0.5}}
    return Sample(block, order, f"c{order}@w", Status.OK, None, 1, 2, load, {})


def test_every_byte_of_a_run_is_a_place_to_be_killed_at(tmp_path: Path) -> None:
    ends, nr_slices = [0], 3
    with SampleWriter(tmp_path) as writer:
        for block in range(3):
            for order in range(nr_slices):
                writer.append(sample(block, order))
            writer.end_block(block)
            ends.append((tmp_path / SAMPLES).stat().st_size)
    whole = (tmp_path / SAMPLES).read_bytes()
    for cut in range(len(whole) + 1):
        (tmp_path / SAMPLES).write_bytes(whole[:cut])
        stored = read_samples(tmp_path)
        finished = sum(end <= cut for end in ends) - 1
        assert stored.next_block == finished
        assert len(stored.samples) == nr_slices * finished
        assert stored.valid_bytes == ends[finished]
        assert (stored.dropped is None) == (cut == ends[finished])


@pytest.mark.parametrize("seed", range(6))
def test_a_writer_killed_at_random_loses_no_block_that_it_had_finished(
    tmp_path: Path, seed: int
) -> None:
    argv = [sys.executable, "-c", WRITER, str(tmp_path)]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(argv, stdout=subprocess.PIPE, env=env, text=True) as writer:
        assert writer.stdout is not None
        told = -1
        for _ in range(random.Random(seed).randint(1, 12)):
            told = int(writer.stdout.readline())
        writer.send_signal(signal.SIGKILL)
        rest = writer.stdout.read().split()  # what it had still said before it died
        told = int(rest[-1]) if rest else told
    stored = read_samples(tmp_path)
    # The next block may be whole as well: it was not yet told.
    assert stored.next_block in (told + 1, told + 2)
    assert len(stored.samples) == 5 * stored.next_block
    with SampleWriter(tmp_path) as again:
        again.append(sample(stored.next_block, 0))
        again.end_block(stored.next_block)
    assert read_samples(tmp_path).dropped is None
    assert read_samples(tmp_path).next_block == stored.next_block + 1


def test_a_manifest_cut_at_any_byte_is_named(tmp_path: Path) -> None:
    text = json.dumps({"schema_version": 1, "plan": {"name": "x", "note": "ü"}}, ensure_ascii=False)
    whole = text.encode()
    for cut in range(len(whole)):
        (tmp_path / MANIFEST).write_bytes(whole[:cut])
        with pytest.raises(StoreError, match=r"manifest\.json"):
            read_manifest(tmp_path)


@pytest.mark.parametrize(
    "content",
    [b"", b"\x7fELF\x02\x01", b"{}", b'{"schema_version": 1}', b'{"schema_version": 1, "plan": []}',
     b'{"schema_version": 1, "plan": {"name": 3}}', b'{"schema_version": "1"}', b"\xff\xfe",
     b'{"schema_version": 1, "plan": {"name": "x", "summary": "", "baseline": "a", "cells": 1}}'],
)  # fmt: skip
def test_a_foreign_manifest_is_named_and_not_crashed_on(tmp_path: Path, content: bytes) -> None:
    (tmp_path / MANIFEST).write_bytes(content)
    with pytest.raises(IolabError, match=r"manifest\.json"):
        load(tmp_path)


@pytest.mark.parametrize("seed", range(20))
def test_a_damaged_samples_file_is_read_or_named(tmp_path: Path, seed: int) -> None:
    with SampleWriter(tmp_path) as writer:
        for block in range(3):
            writer.append(sample(block, 0))
            writer.end_block(block)
    rng = random.Random(seed)
    data = bytearray((tmp_path / SAMPLES).read_bytes())
    for _ in range(rng.randint(1, 5)):
        data[rng.randrange(len(data))] = rng.randrange(256)
    (tmp_path / SAMPLES).write_bytes(data)
    named = ""
    try:
        nr = len(read_samples(tmp_path).samples)
    except StoreError as error:
        nr, named = 0, str(error)
    assert nr <= 3
    assert not named or "samples.jsonl" in named
