from __future__ import annotations

import socket
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from iolab.cpuclock import usage_ns
from iolab.errors import InputError
from iolab.executor import Completed, HostExecutor, ProcessError
from iolab.fake_executor import FakeExecutor, FakeProcess
from iolab.servers import Place
from iolab.servers.peer import (
    PeerFile,
    PeerServer,
    child_pids,
    load_peers,
    offer_peers,
    peer_version,
    render,
)
from iolab.specs import PeerOffer
from iolab.testbed.loopback import Loopback

ROLES = ("file", "relay", "forward")

VARIABLES = {
    "binary": "/b/nginx", "prefix": "/p", "root": "/r", "host": "127.0.0.1", "port": 8080,
    "workers": 2, "cpus": [0, 2], "cpu_mask": "1 100", "is_root": True, "user": "u", "group": "g",
    "house": "/h", "upstream_host": "127.0.0.2", "upstream_port": 9090,
}  # fmt: skip


def peer(**changes: object) -> PeerFile:
    document = {
        "schema_version": 1, "name": "p", "summary": "s", "binaries": ["no-such-binary"],
        "remedy": "install it", "roles": ["file"], "argv": ["{{ binary }}", "{{ port }}"],
    }  # fmt: skip
    return PeerFile.model_validate(document | changes)


def test_every_peer_of_the_tree_loads_and_renders(house_root: Path) -> None:
    peers = load_peers(house_root / "peers")
    roles = {role: [name for name in peers if role in peers[name].roles] for role in ROLES}
    assert roles == {
        "file": ["nginx"],
        "relay": ["piping-server"],
        "forward": [
            "haproxy", "haproxy-splice", "haproxy-splice-always", "nginx-stream",
            "nginx-stream-256k", "socat",
        ],
    }  # fmt: skip
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


@pytest.mark.parametrize(
    ("name", "variant", "line"),
    [
        ("haproxy", "haproxy-splice", "    option splice-auto"),
        ("nginx-stream", "nginx-stream-256k", "    proxy_buffer_size 256k;"),
    ],
)
def test_variants_differ_in_one_line(house_root: Path, name: str, variant: str, line: str) -> None:
    peers = load_peers(house_root / "peers")
    common, special = (peers[one].file[0].template.splitlines() for one in (name, variant))
    assert special.count(line) == 1
    assert [one for one in special if one and one != line] == [one for one in common if one]
    apart = {"name", "summary", "file"}
    assert peers[name].model_dump(exclude=apart) == peers[variant].model_dump(exclude=apart)


def test_forwarders_go_to_the_upstream(house_root: Path) -> None:
    for one in load_peers(house_root / "peers").values():
        text = " ".join([*one.argv, *(file.template for file in one.file)])
        assert ("127.0.0.2:9090" in render(text, VARIABLES)) == ("forward" in one.roles)


def test_unknown_variables_and_keys_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="'prot' is undefined"):
        render("{{ prot }}", VARIABLES)
    (tmp_path / "x.toml").write_text('schema_version = 1\nnaem = "x"\n')
    with pytest.raises(InputError, match=r"x\.toml: naem: unknown key, did you mean 'name'"):
        load_peers(tmp_path)


def test_a_peer_is_named_as_its_file(tmp_path: Path) -> None:
    lines = [f"{key} = {value!r}" for key, value in peer().model_dump().items() if key in (
        "schema_version", "name", "summary", "remedy")]  # fmt: skip
    (tmp_path / "q.toml").write_text(
        "\n".join([*lines, "binaries=['b']", "roles=['file']", "argv=['b']"])
    )
    with pytest.raises(InputError, match=r"q\.toml: name: 'p' must be the file's name, 'q'"):
        load_peers(tmp_path)


def test_a_missing_binary_is_a_reason_with_its_remedy(tmp_path: Path) -> None:
    there = peer(name="t", binaries=["bin/t"])
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/t").touch(mode=0o755)
    offered = offer_peers({"p": peer(), "t": there}, tmp_path)
    assert offered["t"] == PeerOffer(("file",), None)
    assert offered["p"].lacks == "no binary found (no-such-binary); install it"


def test_what_a_peer_needs_beside_its_binary_is_named(tmp_path: Path) -> None:
    (tmp_path / "t").touch(mode=0o755)
    (tmp_path / "module.so").touch(mode=0o644)
    one = peer(binaries=["./t"], needs=["./module.so", "no-such-program", "./no-module.so"])
    assert one.lacks(tmp_path) == "it needs no-such-program, ./no-module.so, not found"
    assert peer(binaries=["./t"], needs=["./module.so", "sh"]).lacks(tmp_path) is None


def test_the_version_is_the_line_that_holds_one(tmp_path: Path) -> None:
    (tmp_path / "b").touch(mode=0o755)
    text = "socat by its authors\nsocat version 1.7.4.4 on 06 Nov 2022\n"
    executor = FakeExecutor(run=lambda argv: Completed(tuple(argv), 0, text, ""))
    one = peer(binaries=["./b"], version_argv=["{{ binary }}", "-V"])
    assert peer_version(executor, one, tmp_path) == "socat version 1.7.4.4 on 06 Nov 2022"


def script(tmp_path: Path, text: str) -> str:
    """A peer's program: Python with the arguments of `peer()`."""
    program = tmp_path / "server"
    program.write_text(f"#!{sys.executable}\nimport os, socket, sys\n{text}")
    program.chmod(0o755)
    return str(program)


FORKING = """
listener = socket.create_server(("127.0.0.1", int(sys.argv[1])))
while True:
    connection, _ = listener.accept()
    if os.fork() == 0:
        for _ in range(200_000):
            pass
        connection.sendall(b"x")
        os._exit(0)
    connection.close()
    os.wait()
"""


@pytest.fixture
def executor() -> Iterator[HostExecutor]:
    with HostExecutor() as made:
        yield made


def test_a_peer_is_ready_once_it_accepts_whatever_its_upstream_does(
    tmp_path: Path, executor: HostExecutor
) -> None:
    one = peer(binaries=[script(tmp_path, FORKING)], ready={"kind": "tcp"}, roles=["forward"])
    place = Place(tmp_path, tmp_path, (), Loopback(), ("127.0.0.1", 1))
    server = PeerServer.start(executor, one, tmp_path, place)
    with socket.create_connection((server.host, server.port), timeout=30) as connection:
        assert connection.recv(1) == b"x"
    assert server.failure() is None
    server.stop()


def test_cpu_time_of_children_that_ended_is_counted(tmp_path: Path, executor: HostExecutor) -> None:
    one = peer(binaries=[script(tmp_path, FORKING)], ready={"kind": "tcp"}, cpu_processes="tree")
    server = PeerServer.start(executor, one, tmp_path, Place(tmp_path, tmp_path, (), Loopback()))
    try:
        assert server.cpu_pids == ()
        if server.cpu_usage is None:
            pytest.skip("no control group can be made here (doctor: cpu accounting)")
        seen = usage_ns(server.cpu_usage)
        assert seen is not None
        deadline = time.monotonic() + 60
        # A running child is booked at ticks, an ended one in full.
        while (usage_ns(server.cpu_usage) or 0) < seen + 20_000_000:
            assert time.monotonic() < deadline, "CPU time of children does not appear"
            with socket.create_connection((server.host, server.port), timeout=30) as connection:
                connection.recv(1)
    finally:
        server.stop()
    assert not server.cpu_usage.parent.exists()


def test_a_talkative_peer_is_not_stopped_by_a_full_pipe(
    tmp_path: Path, executor: HostExecutor
) -> None:
    talk = "sys.stdout.write('x' * (1 << 20)); sys.stdout.flush()\n" + FORKING
    one = peer(binaries=[script(tmp_path, talk)], ready={"kind": "tcp", "timeout_s": 60})
    PeerServer.start(executor, one, tmp_path, Place(tmp_path, tmp_path, (), Loopback())).stop()


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
