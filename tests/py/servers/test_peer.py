from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from iolab.errors import InputError
from iolab.executor import ProcessError
from iolab.fake_executor import FakeExecutor, FakeProcess
from iolab.servers import Place
from iolab.servers.peer import (
    PeerFile,
    PeerServer,
    child_pids,
    load_peers,
    offer_peers,
    render,
)
from iolab.testbed.loopback import Loopback

VARIABLES = {
    "binary": "/b/nginx", "prefix": "/p", "root": "/r", "host": "127.0.0.1", "port": 8080,
    "workers": 2, "cpus": [0, 2], "cpu_mask": "1 100", "is_root": True, "user": "u", "group": "g",
}  # fmt: skip


def peer(**changes: object) -> PeerFile:
    document = {
        "schema_version": 1, "name": "p", "summary": "s", "binaries": ["no-such-binary"],
        "remedy": "install it", "argv": ["{{ binary }}", "{{ port }}"],
    }  # fmt: skip
    return PeerFile.model_validate(document | changes)


def test_every_peer_of_the_tree_loads_and_renders(house_root: Path) -> None:
    peers = load_peers(house_root / "peers")
    assert "nginx" in peers
    for one in peers.values():
        for template in (*one.argv, *one.version_argv, *(file.template for file in one.file)):
            assert "{{" not in render(template, VARIABLES)


def test_nginx_stays_in_the_foreground_and_below_its_prefix(house_root: Path) -> None:
    nginx = load_peers(house_root / "peers")["nginx"]
    text = render(nginx.file[0].template, VARIABLES)
    assert "daemon off;" in text
    assert "worker_processes 2;" in text
    assert "worker_cpu_affinity 1 100;" in text
    assert "listen 127.0.0.1:8080" in text
    for directive in ("pid", "error_log", "client_body_temp_path", "scgi_temp_path"):
        (line,) = [line for line in text.splitlines() if line.split()[:1] == [directive]]
        assert line.split()[1].startswith("/p/")
    plain = render(nginx.file[0].template, VARIABLES | {"is_root": False})
    assert "user u" in text
    assert "user u" not in plain


def test_unknown_variables_and_keys_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="'prot' is undefined"):
        render("{{ prot }}", VARIABLES)
    (tmp_path / "x.toml").write_text('schema_version = 1\nnaem = "x"\n')
    with pytest.raises(InputError, match=r"x\.toml: naem: unknown key, did you mean 'name'"):
        load_peers(tmp_path)


def test_a_peer_is_named_as_its_file(tmp_path: Path) -> None:
    lines = [f"{key} = {value!r}" for key, value in peer().model_dump().items() if key in (
        "schema_version", "name", "summary", "remedy")]  # fmt: skip
    (tmp_path / "q.toml").write_text("\n".join([*lines, "binaries=['b']", "argv=['b']"]))
    with pytest.raises(InputError, match=r"q\.toml: name: 'p' must be the file's name, 'q'"):
        load_peers(tmp_path)


def test_a_missing_binary_is_a_reason_with_its_remedy(tmp_path: Path) -> None:
    there = peer(name="t", binaries=["bin/t"])
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/t").touch(mode=0o755)
    offered = offer_peers({"p": peer(), "t": there}, tmp_path)
    assert offered["t"] is None
    assert offered["p"] == "no binary found (no-such-binary); install it"


def test_a_peer_that_ends_at_once_is_reported_in_its_own_words(tmp_path: Path) -> None:
    def start(argv: Sequence[str], pid: int) -> FakeProcess:
        (tmp_path / "p" / "error.log").write_text("bind() failed")
        return FakeProcess(tuple(argv), pid, [], lambda line: [], "usage", running=False)

    executor = FakeExecutor(start=start)
    binary = tmp_path / "b"
    binary.touch(mode=0o755)
    with pytest.raises(ProcessError, match=r"usage \[error\.log: bind\(\) failed\]"):
        PeerServer.start(
            executor,
            peer(binaries=["./b"], directories=["tmp"]),
            tmp_path,
            Place(tmp_path, tmp_path, (0,), Loopback()),
        )
    assert (tmp_path / "p" / "tmp").is_dir()
    assert executor.started[0].argv[0] == str(tmp_path / "./b")


def test_children_are_found_whatever_their_command_is_called(tmp_path: Path) -> None:
    for pid, text in {5: "5 (nginx) S 1 5", 7: "7 (a) b) R 5 5", 8: "8 (x) S 7 5"}.items():
        (tmp_path / str(pid)).mkdir()
        (tmp_path / str(pid) / "stat").write_text(text)
    (tmp_path / "self").mkdir()
    (tmp_path / "9").mkdir()  # ended between listing and reading
    assert child_pids(5, tmp_path) == (7,)
    assert child_pids(1, tmp_path) == (5,)
