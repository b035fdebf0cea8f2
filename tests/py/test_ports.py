from __future__ import annotations

import socket
from pathlib import Path

import pytest

from iolab import ports
from iolab.errors import IolabError
from iolab.ports import ephemeral_range, format_address, free_port


def test_a_port_is_outside_of_what_clients_are_given() -> None:
    low, _ = ephemeral_range()
    found = {free_port("127.0.0.1") for _ in range(20)}
    assert len(found) > 1
    if low > 12_000:
        assert all(10_000 <= port < low for port in found)


def test_the_range_of_a_host_that_says_nothing_is_the_default(tmp_path: Path) -> None:
    assert ephemeral_range(tmp_path) == (32768, 60999)


@pytest.mark.parametrize(
    ("text", "low", "high"), [("1024 65535", 10_000, 65535), ("1024 40000", 40001, 65535)]
)
def test_wide_ranges_leave_what_is_above_or_anything(
    tmp_path: Path, text: str, low: int, high: int
) -> None:
    directory = tmp_path / "proc/sys/net/ipv4"
    directory.mkdir(parents=True)
    (directory / "ip_local_port_range").write_text(text)
    assert low <= free_port("127.0.0.1", tmp_path) <= high


def test_without_a_free_port_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        monkeypatch.setattr(ports.random, "sample", lambda population, k: [port] * k)
        with pytest.raises(IolabError, match=r"no free port on 127\.0\.0\.1"):
            free_port("127.0.0.1")


def test_addresses() -> None:
    assert format_address(("127.0.0.1", 5)) == "127.0.0.1:5"
    assert format_address(("::1", 5)) == "[::1]:5"
