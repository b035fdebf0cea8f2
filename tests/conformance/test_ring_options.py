"""Rings: which options go together, and whether the kernel took them."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from client import (
    DEADLINE_S,
    Connection,
    Sanitizer,
    Server,
    make_limited,
    make_request,
    running,
)


def kernel_view(server: Server) -> str:
    """What the kernel says of the server's ring, in /proc (proc(5), io_uring/fdinfo.c)."""
    for entry in Path(f"/proc/{server.proc.pid}/fd").iterdir():
        if "io_uring" in str(entry.readlink()):
            return Path(f"/proc/{server.proc.pid}/fdinfo/{entry.name}").read_text()
    raise AssertionError(f"no ring: {server.describe()}")


CONFIRMED = [
    ("ring_entries=64", "SqMask", r"^SqMask:\s*0x3f$"),
    ("sqpoll=on", "SqThread", r"^SqThread:\s*[1-9]\d*$"),
    ("fixed_files=on", "UserFiles", r"^\s*\d+: (?!<none>|0x)\S+"),
    ("napi=50", "napi_busy_poll_dt", r"^napi_busy_poll_dt:\s*50(000)?$"),
]


def confirm(binary: Path, spec: str, root: Path, field: str, pattern: str) -> None:
    """A ring that has served a request looks as it should."""
    with running(binary, spec, root) as server, server.connect() as conn:
        assert conn.request("/f1024").status == 200
        end = time.monotonic() + DEADLINE_S
        while f"{field}:" not in (view := kernel_view(server)):
            if "NAPI" not in view and field.startswith("napi"):
                pytest.skip("this kernel does not show NAPI of a ring in fdinfo")
            assert time.monotonic() < end, view  # left out while the ring is locked
        assert re.search(pattern, view, re.MULTILINE), view


@pytest.mark.parametrize(("options", "field", "pattern"), CONFIRMED)
def test_the_kernel_confirms_what_the_option_says(
    binary: Path, ring_name: str, root: Path, options: str, field: str, pattern: str
) -> None:
    confirm(binary, f"{ring_name},{options}", root, field, pattern)


def test_the_kernel_confirms_registered_memory(
    binary: Path, ring_copy_name: str, root: Path
) -> None:
    spec = f"{ring_copy_name},fixed_buffers=on"
    confirm(binary, spec, root, "UserBufs", r"^\s*0: 0x[0-9a-f]+/2097152$")


def test_the_kernel_confirms_registered_buffers(
    binary: Path, ring_zc_name: str, root: Path
) -> None:
    spec = f"{ring_zc_name},source=buffers,registered=1m"
    confirm(binary, spec, root, "UserBufs", r"^\s*0: 0x[0-9a-f]+/1048576$")


def serve_many(binary: Path, spec: str, root: Path) -> None:
    """Thirty clients that pipeline files of all kinds of sizes, and read at the same time.

    One after the other would not do: who is not read from may hold what the others wait for.
    """
    names = ["f511", "f65537", "f1", "f4097", "f0", "f1048576", "f16384"]
    bodies = [(root / name).read_bytes() for name in names]
    with running(binary, spec, root) as server, contextlib.ExitStack() as stack:
        conns = [stack.enter_context(server.connect()) for _ in range(30)]

        def fetch(conn: Connection) -> list[bool]:
            conn.send(b"".join(make_request(f"/{name}") for name in names))
            return [conn.response().body == body for body in bodies]

        with ThreadPoolExecutor(len(conns)) as readers:
            assert all(all(right) for right in readers.map(fetch, conns))
        server.until("requests", len(conns) * len(names))


COMBINED = [
    "fixed_files=on,batch=64,ring_entries=64",
    "defer_taskrun=off,fixed_files=on,hold=none",
    "coop_taskrun=on,batch=8,sndbuf=16384",
    "sqpoll=on,fixed_files=on,ring_entries=8",
    "sqpoll=on,sqpoll_idle=1,ring_entries=4,hold=cork",
]
COPY_COMBINED = [
    "cache=memory,fixed_buffers=on",
    "cache=memory,cache_limit=16m,fixed_buffers=on,fixed_files=on,sndbuf=16384",
    "cache=none,fixed_buffers=on,buffer=4m,ring_entries=4",
    "cache=memory,fixed_files=on,bundle=on,batch=64,ring_entries=64",
    "cache=memory,defer_taskrun=off,fixed_files=on",
    "cache=memory,coop_taskrun=on,batch=8",
    "cache=memory,quiet_sends=on,batch=8,ring_entries=4",
    "cache=memory,sqpoll=on,fixed_files=on,ring_entries=8",
]
SPLICE_COMBINED = [
    "linked=off,pipe=4096,fixed_files=on,ring_entries=4",
    "linked=off,sqpoll=on,batch=8",
    "pipe=1m,sndbuf=16384,ring_entries=4,hold=none",
]
ZC_COMBINED = [
    "source=buffers,registered=128k,ring_entries=4",
    "source=buffers,chunk=4096,registered=16384,fixed_files=on,batch=8",
    "source=buffers,chunk=1m,inflight=256k,sqpoll=on",
    "head=sendmsg,chunk=1m,ring_entries=4,fixed_files=on",
    "head=sendmsg,chunk=4096,sndbuf=16384,hold=cork",
    "inflight=256k,chunk=16384,coop_taskrun=on,batch=64",
]


@pytest.mark.parametrize("options", COMBINED)
def test_options_together(binary: Path, ring_name: str, root: Path, options: str) -> None:
    serve_many(binary, f"{ring_name},{options}", root)


@pytest.mark.parametrize("options", COPY_COMBINED)
def test_options_of_copying_together(
    binary: Path, ring_copy_name: str, root: Path, options: str
) -> None:
    serve_many(binary, f"{ring_copy_name},{options}", root)


@pytest.mark.parametrize("options", SPLICE_COMBINED)
def test_options_of_splicing_together(
    binary: Path, ring_splice_name: str, root: Path, options: str
) -> None:
    serve_many(binary, f"{ring_splice_name},{options}", root)


@pytest.mark.parametrize("options", ZC_COMBINED)
def test_options_of_zero_copy_together(
    binary: Path, ring_zc_name: str, root: Path, options: str
) -> None:
    serve_many(binary, f"{ring_zc_name},{options}", root)


@pytest.mark.parametrize(
    ("options", "remedy"),
    [
        ("sqpoll=on,defer_taskrun=on", "leave defer_taskrun at auto"),
        ("sqpoll=on,coop_taskrun=on", "choose one"),
        ("coop_taskrun=on,defer_taskrun=on", "leave defer_taskrun at auto"),
    ],
)
def test_what_does_not_go_together_is_refused(
    binary: Path, ring_name: str, root: Path, options: str, remedy: str
) -> None:
    argv = [str(binary), "--engine", f"{ring_name},{options}", "--role", "file"]
    argv += ["--root", str(root), "--listen", "127.0.0.1:0"]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=DEADLINE_S, check=False)
    assert done.returncode == 2
    assert remedy in done.stderr


def test_a_cpu_that_is_not_there_is_named(binary: Path, ring_name: str, root: Path) -> None:
    argv = [str(binary), "--engine", f"{ring_name},sqpoll=on,sqpoll_cpu=8191", "--role", "file"]
    argv += ["--root", str(root), "--listen", "127.0.0.1:0"]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=DEADLINE_S, check=False)
    assert done.returncode == 3
    assert done.stderr.startswith("unsupported: sqpoll_cpu: no such CPU")


@pytest.mark.skipif(os.geteuid() != 0, reason="a server without CAP_IPC_LOCK is made by root")
def test_registered_memory_beyond_the_limit_names_limit_and_option(
    binary: Path, ring_zc_name: str, root: Path, tmp_path: Path, sanitizer: Sanitizer
) -> None:
    if sanitizer.active:
        pytest.skip("a sanitizer wants capabilities of its own (ptrace)")
    limited = make_limited(binary, tmp_path / "limited", 8 << 20)
    argv = [str(limited), "--engine", f"{ring_zc_name},source=buffers,registered=16m"]
    argv += ["--role", "file", "--root", str(root), "--listen", "127.0.0.1:0", "--workers", "1"]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=DEADLINE_S, check=False)
    assert done.returncode == 1
    assert "ulimit -l" in done.stderr
    assert "registered" in done.stderr


def ring_threads(server: Server) -> list[str]:
    """The CPUs that each thread of io-wq may use (Cpus_allowed_list, proc(5))."""
    found = []
    for task in Path(f"/proc/{server.proc.pid}/task").iterdir():
        with contextlib.suppress(FileNotFoundError):  # it has ended meanwhile
            if (task / "comm").read_text().startswith("iou-wrk"):
                status = (task / "status").read_text()
                found += re.findall(r"^Cpus_allowed_list:\s*(\S+)", status, re.MULTILINE)
    return found


@pytest.mark.parametrize("options", ["", ",sqpoll=on"])
def test_threads_of_the_ring_stay_on_the_cpus_of_their_worker(
    binary: Path, ring_splice_name: str, root: Path, options: str
) -> None:
    """Before Linux 6.2 they would be on all of them; since then they inherit the affinity."""
    cpus = sorted(os.sched_getaffinity(0))
    if len(cpus) < 2:
        pytest.skip("with one CPU there is nowhere else to run")
    args = ("--cpus", str(cpus[-1]))
    with running(binary, ring_splice_name + options, root, *args) as server:
        end = time.monotonic() + DEADLINE_S
        while not (threads := ring_threads(server)):
            assert time.monotonic() < end, "a splice needs a thread"
            assert server.get("/f1048576").status == 200
        assert set(threads) == {str(cpus[-1])}
