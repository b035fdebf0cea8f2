from __future__ import annotations

import json
import re
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iolab.model import Sample, Status
from iolab.store import (
    SAMPLES,
    SampleWriter,
    StoreError,
    append_jsonl,
    create_run_dir,
    find_run_dir,
    read_jsonl,
    read_manifest,
    read_samples,
    write_json,
)


def sample(block: int, order: int) -> Sample:
    window = {"ns": 1, "requests": 3, "body_bytes": 9, "note": "ü\n"}
    load = {"window": window, "cpu": {"client_ns": 1, "server_ns": None, "client_share": 0.5}}
    return Sample(block, order, f"c{order}@w", Status.OK, None, 1, 2, load, {"requests": 3})


def record(number: int) -> dict[str, Any]:
    return {"schema_version": 1, "a": number}


def write_run(run_dir: Path, sizes: list[int]) -> None:
    with SampleWriter(run_dir) as writer:
        for block, nr in enumerate(sizes):
            for order in range(nr):
                writer.append(sample(block, order))
            writer.end_block(block, wall_ns=5)


@given(st.lists(st.integers(0, 4), max_size=5), st.data())
def test_a_run_killed_at_any_byte_keeps_all_finished_blocks(
    sizes: list[int], data: st.DataObject
) -> None:
    with TemporaryDirectory() as name:
        run_dir = Path(name)
        write_run(run_dir, sizes)
        path = run_dir / SAMPLES
        whole = path.read_bytes()
        cut = data.draw(st.integers(0, len(whole)))
        path.write_bytes(whole[:cut])
        ends = [n for n in range(len(whole)) if whole[n:].startswith(b'{"block_end"')]
        ends = [whole.index(b"\n", end) + 1 for end in ends]
        finished = sum(end <= cut for end in ends)
        stored = read_samples(run_dir)
        assert [block["block_end"] for block in stored.blocks] == list(range(finished))
        assert len(stored.samples) == sum(sizes[:finished])
        assert stored.next_block == finished
        assert (stored.dropped is not None) == (cut > stored.valid_bytes)
        with SampleWriter(run_dir) as writer:  # a resumed run repeats the lost block
            writer.append(sample(finished, 0))
            writer.end_block(finished)
        again = read_samples(run_dir)
        assert again.dropped is None
        assert again.samples[:-1] == stored.samples
        assert again.next_block == finished + 1


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_named(data: bytes) -> None:
    with TemporaryDirectory() as name:
        path = Path(name) / SAMPLES
        path.write_bytes(data)
        try:
            stored = read_samples(Path(name))
        except StoreError as error:
            names_the_file = str(path) in str(error)
        else:
            names_the_file = stored.samples == ()
        assert names_the_file


def test_a_damaged_line_inside_a_finished_block_is_named_with_its_number(tmp_path: Path) -> None:
    write_run(tmp_path, [2, 2])
    path = tmp_path / SAMPLES
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[:3], lines[3][:20] + b"\n", *lines[4:]]))
    with pytest.raises(StoreError, match=r"samples\.jsonl:4: not JSON; the file is damaged"):
        read_samples(tmp_path)


def test_samples_of_another_version_are_named(tmp_path: Path) -> None:
    document = sample(0, 0).to_json() | {"schema_version": 9}
    (tmp_path / SAMPLES).write_text(json.dumps(document) + '\n{"block_end":0}\n')
    with pytest.raises(StoreError, match="schema_version 9"):
        read_samples(tmp_path)


def test_a_missing_file_reads_as_no_samples(tmp_path: Path) -> None:
    assert read_samples(tmp_path).next_block == 0


def test_manifests_are_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "manifest.json"
    write_json(path, {"schema_version": 1, "a": 1})
    with pytest.raises(TypeError):
        write_json(path, {"schema_version": 1, "a": object()})
    assert read_manifest(tmp_path)["a"] == 1


@pytest.mark.parametrize("text", ["", "{", "[]", '{"schema_version": 2}'])
def test_manifests_that_are_none_of_ours_are_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(StoreError, match=r"manifest\.json"):
        read_manifest(tmp_path)


def test_run_directories_have_unique_names_and_are_found(tmp_path: Path) -> None:
    now = datetime(2024, 2, 3, 4, 5, 6)
    first = create_run_dir(tmp_path / "r", "quick", now)
    second = create_run_dir(tmp_path / "r", "quick", now)
    assert first.name == "20240203-040506-quick"
    assert second.name == "20240203-040506-quick.1"
    with pytest.raises(StoreError, match="holds no run yet"):
        find_run_dir(tmp_path / "r", "last")
    for run_dir in (first, second):
        write_json(run_dir / "manifest.json", {"schema_version": 1})
    assert find_run_dir(tmp_path / "r", "last") == second
    assert find_run_dir(tmp_path / "r", first.name) == first
    assert find_run_dir(tmp_path / "elsewhere", str(first)) == first
    with pytest.raises(StoreError, match="no run of that name"):
        find_run_dir(tmp_path / "r", "nothing")


def test_records_are_appended_and_an_unfinished_one_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "wrk.jsonl"
    assert list(read_jsonl(path)) == []
    append_jsonl(path, record(1))
    append_jsonl(path, record(2))
    path.write_bytes(path.read_bytes() + b'{"a": 3')
    assert [record["a"] for record in read_jsonl(path)] == [1, 2]


@pytest.mark.parametrize("torn", [b'{"a": 3', b'{"a": "' + b"x" * 200_000, b""])
def test_a_record_takes_the_place_of_an_unfinished_one(tmp_path: Path, torn: bytes) -> None:
    path = tmp_path / "wrk.jsonl"
    for before in ([], [record(1), record(2)]):
        path.unlink(missing_ok=True)
        for one in before:
            append_jsonl(path, one)
        with path.open("ab") as file:
            file.write(torn)
        append_jsonl(path, record(4))
        assert list(read_jsonl(path)) == [*before, record(4)]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('{"foo":1}', "schema_version None, this program reads 1"),
        ('{"schema_version":2,"cell":"a@w"}', "schema_version 2, this program reads 1"),
        ('{"schema_version":1}', "no key 'cell'"),
    ],
)
def test_foreign_records_are_named(tmp_path: Path, line: str, words: str) -> None:
    path = tmp_path / "syscalls.jsonl"
    path.write_text(line + "\n")
    with pytest.raises(StoreError, match=rf"syscalls\.jsonl:1: {words}"):
        list(read_jsonl(path, ("cell",)))


WINDOW = {"ns": 1, "requests": 1, "body_bytes": 1}
CPU = {"client_ns": 1, "server_ns": None, "client_share": 0.5}
GOOD: dict[str, Any] = {"window": WINDOW, "cpu": CPU}
HISTOGRAM = {"scheme": "s", "sub_bucket_bits": 1, "counts": [[1, 1]], "min": 1, "max": 1}
OPEN = {"due": 1, "abandoned": 0, "overload": False, "lateness": HISTOGRAM}


@pytest.mark.parametrize(
    ("load", "words"),
    [
        ({}, "no key 'load.window'"),
        ({"window": 5}, "load.window is no object"),
        ({"window": {"ns": 1, "requests": 1}, "cpu": CPU}, "no key 'load.window.body_bytes'"),
        ({"window": {**WINDOW, "ns": True}, "cpu": CPU}, "load.window.ns is no number"),
        ({"window": WINDOW}, "no key 'load.cpu'"),
        ({"window": WINDOW, "cpu": {**CPU, "server_ns": "1"}}, "load.cpu.server_ns is no number"),
        ({**GOOD, "latency": None}, "load.latency is no object"),
        ({**GOOD, "latency": {**HISTOGRAM, "min": None}}, "load.latency.min is no whole number"),
        ({**GOOD, "open_loop": OPEN}, "no key 'load.latency'"),
        (
            {**GOOD, "latency": HISTOGRAM, "open_loop": {**OPEN, "backlog_end": 1}},
            "no key 'load.open_loop.backlog_begin'",
        ),
    ],
)
def test_a_slice_without_figures_is_named(tmp_path: Path, load: dict[str, Any], words: str) -> None:
    store_line(tmp_path, {"load": load})
    with pytest.raises(StoreError, match=rf"samples\.jsonl:1: {re.escape(words)}"):
        read_samples(tmp_path)


@pytest.mark.parametrize(
    "load",
    [
        GOOD,
        {**GOOD, "open_loop": None},
        {**GOOD, "latency": {**HISTOGRAM, "counts": [], "min": None, "max": None}},
        {**GOOD, "latency": HISTOGRAM, "open_loop": OPEN},  # of versions without `backlog_*`
    ],
)
def test_a_slice_with_all_figures_is_read(tmp_path: Path, load: dict[str, Any]) -> None:
    store_line(tmp_path, {"load": load})
    assert len(read_samples(tmp_path).samples) == 1


@pytest.mark.parametrize(
    ("beside", "words"),
    [
        ({"kernel": {"ns": 1}}, "no key 'kernel.tick_ns'"),
        ({"kernel": {"ns": 1, "tick_ns": 1, "tcp": 5}}, "kernel.tcp is no object"),
        ({"kernel": {"ns": 1, "tick_ns": 1, "ports": None}}, "kernel.ports is no object"),
        (
            {"kernel": {"ns": 1, "tick_ns": 1, "ports": {"client": {"range": 9, "held": 9}}}},
            "no key 'kernel.ports.client.held_first'",
        ),
        (
            {"kernel": {"ns": 1, "tick_ns": 1, "cpus": {"0": {"user": None}}}},
            "kernel.cpus.0.user is no number",
        ),
        ({"bystanders": {"ns": 1}}, "no key 'bystanders.cpu_ns'"),
        ({"memory": None}, "memory is no object"),
        ({"server_counters": {"requests": "3"}}, "server_counters.requests is no number"),
    ],
)
@pytest.mark.parametrize("status", [Status.OK, Status.INVALID])
def test_what_stands_beside_the_figures_is_looked_at_too(
    tmp_path: Path, beside: dict[str, Any], words: str, status: Status
) -> None:
    reason = None if status is Status.OK else "short"
    store_line(tmp_path, {**beside, "status": str(status), "reason": reason})
    with pytest.raises(StoreError, match=rf"samples\.jsonl:1: {re.escape(words)}"):
        read_samples(tmp_path)


def test_a_slice_that_failed_may_lack_figures(tmp_path: Path) -> None:
    """That it does may be why it failed."""
    store_line(tmp_path, {"load": {}, "status": "failed", "reason": "no key 'load.cpu'"})
    assert [one.status for one in read_samples(tmp_path).samples] == [Status.FAILED]


def store_line(run_dir: Path, changes: dict[str, Any]) -> None:
    """A file of one block with one slice, changed."""
    document = sample(0, 0).to_json() | changes
    (run_dir / SAMPLES).write_text(json.dumps(document) + '\n{"block_end":0}\n')


@pytest.mark.parametrize("line", ["no json", "[]", "5"])
def test_a_damaged_record_is_named_with_its_number(tmp_path: Path, line: str) -> None:
    path = tmp_path / "wrk.jsonl"
    append_jsonl(path, record(1))
    path.write_text(path.read_text() + f'{line}\n{{"a": 3}}\n')
    with pytest.raises(StoreError, match=r"wrk\.jsonl:2: not a JSON object"):
        list(read_jsonl(path))


def test_a_slice_whose_parts_are_no_objects_is_named(tmp_path: Path) -> None:
    for key in ("load", "server_counters"):
        document = sample(0, 0).to_json() | {key: "text"}
        (tmp_path / SAMPLES).write_text(json.dumps(document) + '\n{"block_end":0}\n')
        with pytest.raises(StoreError, match=rf"samples\.jsonl:1: {key} is no object"):
            read_samples(tmp_path)
