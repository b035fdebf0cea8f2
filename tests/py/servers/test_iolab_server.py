from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from iolab.executor import Completed, ProcessError
from iolab.fake_executor import FakeExecutor, FakeProcess
from iolab.model import Server
from iolab.servers import Place, counter_delta
from iolab.servers.iolab_server import Control, IolabServer, arguments, describe, parse_ready
from iolab.testbed.loopback import Loopback

EPOLL = Server("engine", "epoll", (("cache", "memory"),))


def place(tmp_path: Path) -> Place:
    return Place(tmp_path / "root", tmp_path, (0, 3), Loopback())


@contextmanager
def control_socket(path: Path, answers: list[bytes]) -> Iterator[None]:
    """A control socket that gives these answers to one connection."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()

        def serve() -> None:
            connection, _ = listener.accept()
            with connection, connection.makefile("rb") as reader:
                for answer in answers:
                    reader.readline()
                    connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield
        finally:
            thread.join(10)


def test_the_command_line_of_a_server(tmp_path: Path) -> None:
    argv = arguments(Path("/b/iolab-server"), EPOLL, "file", place(tmp_path), Path("/c"))
    pairs = dict(zip(argv[1::2], argv[2::2], strict=True))
    assert argv[0] == "/b/iolab-server"
    assert pairs == {
        "--engine": "epoll,cache=memory",
        "--role": "file",
        "--root": str(tmp_path / "root"),
        "--listen": "127.0.0.1:0",
        "--workers": "2",
        "--cpus": "0,3",
        "--control": "/c",
    }


def test_a_planted_slowdown_and_another_build_are_in_the_command_line(tmp_path: Path) -> None:
    server = Server("engine", "epoll", build="base", handicap_percent=5, twin=True)
    argv = arguments(Path("/b/iolab-server"), server, "file", place(tmp_path), Path("/c"))
    assert argv[argv.index("--engine") + 1] == "epoll"
    assert argv[-2:] == ["--handicap", "5"]


def test_ready_lines() -> None:
    assert parse_ready("ready 127.0.0.1:8080") == ("127.0.0.1", 8080)
    assert parse_ready("ready [::1]:80") == ("::1", 80)
    for line in ("", "ready", "ready x", "steady 1.2.3.4:5", "ready 1.2.3.4:x"):
        with pytest.raises(ProcessError, match="expected 'ready HOST:PORT'"):
            parse_ready(line)


def test_control_asks_and_answers(tmp_path: Path) -> None:
    path = tmp_path / "s"
    answers = [b'{"total":{"requests":5}}\n', b'{"error":"unknown command"}\n', b"no json\n"]
    with control_socket(path, answers):
        control = Control(path)
        assert control.ask("counters") == {"total": {"requests": 5}}
        for words in ("unknown command", "Expecting value", "closed by the server|Broken pipe"):
            with pytest.raises(ProcessError, match=words):
                control.ask("counters")
        control.close()


def test_a_server_that_refuses_is_reported_in_its_own_words(tmp_path: Path) -> None:
    def start(argv: Sequence[str], pid: int) -> FakeProcess:
        return FakeProcess(tuple(argv), pid, [], lambda line: [], "unsupported: no io_uring")

    executor = FakeExecutor(start=start)
    with pytest.raises(ProcessError, match=r"did not become ready: .*unsupported: no io_uring"):
        IolabServer.start(executor, Path("iolab-server"), EPOLL, "file", place(tmp_path))
    assert not executor.started[0].alive()


def test_describe_is_parsed_and_its_failure_named() -> None:
    document = {"schema_version": 1, "engines": [{"name": "epoll", "sources": ["mapping"]}]}
    good = FakeExecutor(run=lambda argv: Completed(tuple(argv), 0, json.dumps(document), ""))
    (engine,) = describe(good, Path("b")).engines
    assert engine.serves_files
    bad = FakeExecutor(run=lambda argv: Completed(tuple(argv), 1, "", "boom"))
    with pytest.raises(ProcessError, match="boom"):
        describe(bad, Path("b"))


def test_counter_differences_go_through_nested_tables() -> None:
    before = {"requests": 1, "syscalls": {"send": 2}, "engine": "x"}
    after = {"requests": 4, "syscalls": {"send": 5, "recv": 1}, "engine": "x"}
    assert counter_delta(before, after) == {"requests": 3, "syscalls": {"send": 3, "recv": 1}}
    assert counter_delta(None, after) is None
    assert counter_delta({"zc_delay_max_ns": 9}, {"zc_delay_max_ns": 7}) == {"zc_delay_max_ns": 7}
    assert counter_delta(before, None) is None
