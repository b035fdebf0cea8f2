from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from rich.console import Console

from iolab import cli
from iolab.commands import watch as verb
from iolab.errors import InputError, IolabError
from iolab.watch import ControlSource, Gone, HttpSource, clock, http_source, lines, parse, view

RUNNING = {
    "name": "/film", "state": "running", "waits_for": None, "receivers": 1, "receivers_here": 1,
    "bytes": 3 << 30, "total_bytes": 12 << 30, "rate_bytes_per_s": 512 << 20,
    "age_ns": 65 * 10**9, "running_ns": 6 * 10**9,
}  # fmt: skip
STREAM = {**RUNNING, "name": "/tail", "total_bytes": None, "age_ns": 3_700 * 10**9}
WAITING = {
    "name": "/lone", "state": "waiting", "waits_for": "receiver", "receivers": 3,
    "receivers_here": 2, "bytes": 0, "total_bytes": 5, "rate_bytes_per_s": 0,
    "age_ns": 10**9, "running_ns": None,
}  # fmt: skip


def document(*transfers: dict[str, Any]) -> dict[str, Any]:
    return {
        "schema_version": 1,
        "engine": "splice",
        "uptime_ns": 125 * 10**9,
        "transfers": list(transfers),
    }


def terminal_text(*transfers: dict[str, Any], rows: int | None = None) -> str:
    console = Console(width=120, force_terminal=True, color_system=None)
    with console.capture() as capture:
        console.print(view(parse(document(*transfers)), rows))
    return capture.get()


@contextmanager
def answering(listener: socket.socket, answers: list[bytes]) -> Iterator[None]:
    """A server that gives one answer to each request of its connections, then closes."""
    left = list(answers)

    def serve() -> None:
        while left:
            connection, _ = listener.accept()
            with connection, connection.makefile("rb") as reader:
                while left and reader.readline():
                    answer = left.pop(0)
                    connection.sendall(answer)
                    if answer.startswith(b"HTTP"):
                        break
        listener.close()

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield
    finally:
        thread.join(10)
        listener.close()


def unix_listener(path: Path) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen()
    return listener


def control_line(*transfers: dict[str, Any]) -> bytes:
    return json.dumps(document(*transfers)).encode() + b"\n"


def test_plain_lines_tell_everything() -> None:
    first, *rest = lines(parse(document(WAITING, RUNNING, STREAM)))
    assert first == "splice, up 2:05: 2 running at 1GiB/s, 1 waiting"
    assert rest == [
        "  /tail  running  3GiB  512MiB/s  age 1:01:40",
        "  /film  running  3GiB of 12GiB (25%)  512MiB/s  age 1:05",
        "  /lone  waiting  0B of 5B (0%)  -  age 0:01  waits for receiver (2 of 3 here)",
    ]


def test_the_terminal_view_has_bars_for_known_totals_only() -> None:
    text = terminal_text(WAITING, RUNNING, STREAM)
    rows = {line.split()[0]: line for line in text.splitlines() if line.startswith("/")}
    assert list(rows) == ["/tail", "/film", "/lone"]
    assert "25%" in rows["/film"]
    assert "\N{BOX DRAWINGS HEAVY HORIZONTAL}" in rows["/film"]
    assert "%" not in rows["/tail"]
    assert "receiver (2 of 3 here)" in rows["/lone"]


def test_more_transfers_than_rows_are_counted() -> None:
    text = terminal_text(WAITING, RUNNING, STREAM, rows=2)
    assert "/lone" not in text
    assert "and 1 more" in text


def test_names_cannot_steer_the_terminal_nor_the_markup() -> None:
    evil = {**RUNNING, "name": "/\x1b[31m[red]\x07"}
    for text in ("\n".join(lines(parse(document(evil)))), terminal_text(evil)):
        assert "\x1b[31m" not in text
        assert "\x07" not in text
        assert "[red]" in text


@pytest.mark.parametrize(("total", "share"), [(None, None), (0, 1.0), (6 << 30, 0.5), (1, 1.0)])
def test_shares(total: int | None, share: float | None) -> None:
    [one] = parse(document({**RUNNING, "total_bytes": total})).transfers
    assert one.share == share


def test_clock() -> None:
    assert [clock(s * 10**9) for s in (0, 59, 61, 3599, 3600, 90061)] == [
        "0:00", "0:59", "1:01", "59:59", "1:00:00", "25:01:01",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("wrong", "words"),
    [({"schema_version": 2}, "schema_version"), ({"transfers": [{"name": "/x"}]}, "state")],
)
def test_foreign_documents_are_refused(wrong: dict[str, Any], words: str) -> None:
    with pytest.raises(IolabError, match=words):
        parse({**document(), **wrong})


@pytest.mark.parametrize(
    "url", ["https://h:1", "h:1", "http://", "http://h:x", "http://h/other", "http://[::1"]
)
def test_wrong_urls(url: str) -> None:
    with pytest.raises(InputError, match="expected http://HOST:PORT"):
        http_source(url)


def test_urls() -> None:
    assert http_source("http://127.0.0.1:81/") == HttpSource("127.0.0.1", 81)
    assert http_source("http://[::1]:81/status") == HttpSource("::1", 81)


def http_answer(status: str, body: bytes) -> bytes:
    return b"HTTP/1.1 %s\r\nContent-Length: %d\r\n\r\n%s" % (status.encode(), len(body), body)


def test_the_http_source() -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    source = http_source(f"http://127.0.0.1:{listener.getsockname()[1]}")
    body = json.dumps(document(RUNNING)).encode().replace(b"/film", b"/f\xfflm")
    answers = [
        http_answer("200 OK", body),
        http_answer("404 Not Found", b""),
        http_answer("200 OK", b"[]"),
        http_answer("200 OK", b"{"),
        b"HTTP nonsense\r\n",
    ]
    with answering(listener, answers):
        assert parse(source.fetch()).transfers[0].name == "/f\N{REPLACEMENT CHARACTER}lm"
        with pytest.raises(IolabError, match=r"answered 404\n  remedy: .*--control"):
            source.fetch()
        with pytest.raises(IolabError, match="not a JSON object"):
            source.fetch()
        with pytest.raises(IolabError, match="not JSON"):
            source.fetch()
        with pytest.raises(Gone):
            source.fetch()
    with pytest.raises(Gone, match="refused"):
        source.fetch()


def test_nobody_on_the_control_socket(tmp_path: Path) -> None:
    with pytest.raises(Gone, match=r"No such file.*\n  remedy: start the server with --control"):
        ControlSource(tmp_path / "none")


def test_watching_until_the_server_ends(tmp_path: Path) -> None:
    """Names that are no UTF-8 do not end it."""
    path = tmp_path / "s"
    news = [control_line(WAITING), control_line(RUNNING).replace(b"/film", b"/f\xfflm")]
    with answering(unix_listener(path), news):
        argv = ["watch", "--control", str(path), "--interval", "0.05"]
        result = CliRunner().invoke(cli.cli, argv)
    assert result.exit_code == 0
    assert "waits for receiver" in result.stdout
    assert "/f\N{REPLACEMENT CHARACTER}lm" in result.stdout
    assert "the server has ended" in result.stderr


def test_json_is_a_document_a_line_or_one_document(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with answering(unix_listener(path), [control_line(RUNNING), control_line(RUNNING)]):
        argv = ["watch", "--control", str(path), "--interval", "0.05", "--json"]
        result = CliRunner().invoke(cli.cli, argv)
    assert [json.loads(line) for line in result.stdout.splitlines()] == [document(RUNNING)] * 2
    path.unlink()
    with answering(unix_listener(path), [control_line(RUNNING)]):
        result = CliRunner().invoke(cli.cli, ["watch", "--control", str(path), "--once", "--json"])
    assert json.loads(result.stdout) == document(RUNNING)


def test_once_prints_one_snapshot(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with answering(unix_listener(path), [control_line(RUNNING)]):
        result = CliRunner().invoke(cli.cli, ["watch", "--control", str(path), "--once"])
    assert result.exit_code == 0
    assert result.stdout.splitlines() == lines(parse(document(RUNNING)))


def test_an_interrupt_ends_it_cleanly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(seconds: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(verb.time, "sleep", interrupt)
    path = tmp_path / "s"
    with answering(unix_listener(path), [control_line(RUNNING)]):
        result = CliRunner().invoke(cli.cli, ["watch", "--control", str(path)])
    assert (result.exit_code, result.stderr) == (0, "")


def test_on_a_terminal_it_stays_in_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    console = Console(width=100, height=20, force_terminal=True, color_system=None)
    monkeypatch.setattr(verb, "Console", lambda: console)
    path = tmp_path / "s"
    with answering(unix_listener(path), [control_line(WAITING), control_line(RUNNING)]):
        argv = ["watch", "--control", str(path), "--interval", "0.05"]
        with console.capture() as capture:
            result = CliRunner().invoke(cli.cli, argv)
    assert result.exit_code == 0
    assert "/lone" in capture.get()
    assert "\x1b[1A" in capture.get()  # up, over what was there


@pytest.mark.parametrize(
    "argv", [(), ("--control", "x", "--url", "http://h:1"), ("--interval", "0")]
)
def test_usage(argv: tuple[str, ...]) -> None:
    assert CliRunner().invoke(cli.cli, ["watch", *argv]).exit_code == 2
