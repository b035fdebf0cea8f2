from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from iolab.executor import Completed, ProcessError
from iolab.fake_executor import FakeExecutor, FakeProcess
from iolab.load.iolab_load import IolabLoad, Target, arguments, count_pairs
from iolab.load.wrk import run_wrk
from iolab.model import Workload
from iolab.testbed.loopback import Loopback

TARGET = Target("127.0.0.1", 99, (7, 8))
WORKLOAD = Workload("1KiB", 1024, 50, 4)
READY = '{"ready":true,"connections":50}'


def executor(lines: list[str], answer: Callable[[str], Iterable[str]]) -> FakeExecutor:
    def start(argv: Sequence[str], pid: int) -> FakeProcess:
        return FakeProcess(tuple(argv), pid, list(lines), answer, "connection refused")

    return FakeExecutor(start=start)


def opened(fake: FakeExecutor) -> IolabLoad:
    return IolabLoad.open(fake, Path("iolab-load"), Loopback(), TARGET, [WORKLOAD], 1, 3)


def test_a_session_connects_once_and_runs_slices() -> None:
    fake = executor([READY], lambda line: ['{"window":{"requests":5}}'])
    session = opened(fake)
    assert session.slice(WORKLOAD, 30, 200) == {"window": {"requests": 5}}
    session.slice(WORKLOAD, 30, 200)
    session.close()
    (process,) = fake.started
    assert process.written == ["slice 30 200", "slice 30 200", "quit"]
    assert not process.alive()
    text = " ".join(process.argv)
    for words in (
        "--target 127.0.0.1:99",
        "--path /1024.bin",
        "--connections 50",
        "--pipeline 4",
        "--cpu 1",
        "--cpu-clock 7,8",
        "--slices",
    ):
        assert words in text


def test_sizes_that_share_connections_are_named_slice_by_slice() -> None:
    fake = executor([READY], lambda line: ['{"window":{}}'])
    both = [WORKLOAD, Workload("4KiB", 4096, 50, 4)]
    session = IolabLoad.open(fake, Path("iolab-load"), Loopback(), TARGET, both, 1, 3)
    session.slice(both[1], 30, 200)
    (process,) = fake.started
    assert process.written == ["slice 30 200 /4096.bin"]
    assert "--path /1024.bin --path /4096.bin" in " ".join(process.argv)


def test_a_rate_is_named_slice_by_slice() -> None:
    fake = executor([READY], lambda line: ['{"window":{}}'])
    steady = Workload("a", 1024, 50, 4, arrivals="constant")
    offered = replace(steady, name="b", rate_per_s=1234.5)
    session = IolabLoad.open(fake, Path("iolab-load"), Loopback(), TARGET, [steady, offered], 1, 3)
    session.slice(offered, 30, 200)
    session.slice(steady, 30, 200)
    (process,) = fake.started
    assert process.written == ["slice 30 200 rate=1234.500", "slice 30 200"]
    assert "--arrivals constant" in " ".join(process.argv)
    assert session.pids == (process.pid,)


def test_a_group_stands_in_for_processes() -> None:
    target = Target("127.0.0.1", 99, (), Path("/g/cpu.stat"))
    words = arguments(Path("iolab-load"), target, [WORKLOAD], None, 3)
    assert words[words.index("--cpu-usage") + 1] == "/g/cpu.stat"
    assert "--cpu-clock" not in words


def test_a_target_with_an_upstream_is_a_forwarder_one_without_a_relay() -> None:
    binary, relay = Path("iolab-load"), Target("127.0.0.1", 99, ())
    words = arguments(binary, relay, [Workload("w", 4096, pairs=3, chunked=True)], None, 1)
    assert words[5:] == ["--seed", "1", "--relay", "--pairs", "3", "--size", "4096", "--chunked"]
    forwarder = Target("127.0.0.1", 99, (), None, ("::1", 98))
    words = arguments(binary, forwarder, [Workload("w", 0, pairs=1, direction="down")], None, 1)
    text = " ".join(words)
    assert "--forward --upstream [::1]:98 --pairs 1 --direction down" in text
    assert "--size" not in text
    assert "--connections" not in text


def test_pairs_are_counted_in_a_run_of_their_own() -> None:
    answers = [Completed((), 0, '{"total":{}}\n', ""), Completed((), 1, "", "cannot listen")]
    fake = FakeExecutor(run=lambda argv: answers.pop(0))
    one = Workload("w", 1, pairs=1)
    found = count_pairs(fake, Path("l"), Loopback(), TARGET, one, ("--count", "2"))
    assert found == {"total": {}}
    assert fake.ran[0][-2:] == ("--count", "2")
    with pytest.raises(ProcessError, match="exit code 1: cannot listen"):
        count_pairs(fake, Path("l"), Loopback(), TARGET, one, ())


@pytest.mark.parametrize("lines", [[], ["garbage"], ["[]"], ['{"ready":false}']])
def test_a_session_that_does_not_get_ready_fails(lines: list[str]) -> None:
    fake = executor(lines, lambda line: [])
    with pytest.raises(ProcessError, match=r"connection refused|not JSON|not an object|ready line"):
        opened(fake)
    if lines != ["garbage"] and lines != ["[]"]:
        assert not fake.started[0].alive()


def test_a_tool_that_dies_in_a_slice_is_reported() -> None:
    def die(line: str) -> Iterable[str]:
        raise ProcessError("dead")

    session = opened(executor([READY], die))
    with pytest.raises(ProcessError, match="connection refused"):
        session.slice(WORKLOAD, 1, 1)
    session.close()


def test_wrk_is_asked_on_one_thread_and_its_json_is_found() -> None:
    fake = FakeExecutor(
        run=lambda argv: Completed(tuple(argv), 0, 'Running\nIOLAB-JSON {"requests":9}\n', "")
    )
    document = run_wrk(fake, Path("s.lua"), Loopback(), TARGET, WORKLOAD, 1)
    assert document == {"requests": 9}
    assert fake.ran[0][:4] == ("wrk", "-t1", "-c50", "-d1s")
    assert fake.ran[0][-1] == "http://127.0.0.1:99/1024.bin"


@pytest.mark.parametrize("out", ["", "IOLAB-JSON [1]", "IOLAB-JSON {"])
def test_wrk_without_a_result_is_an_error(out: str) -> None:
    fake = FakeExecutor(run=lambda argv: Completed(tuple(argv), 1, out, "unable to connect"))
    with pytest.raises(ProcessError, match="wrk: "):
        run_wrk(fake, Path("s.lua"), Loopback(), TARGET, WORKLOAD, 1)


def test_documents_are_plain_json() -> None:
    document = {"window": {"requests": 1}, "latency": {"counts": [[1, 2]]}}
    session = opened(executor([READY], lambda line: [json.dumps(document)]))
    assert session.slice(WORKLOAD, 1, 1) == document
