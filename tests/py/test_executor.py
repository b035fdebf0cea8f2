"""These start real, tiny processes: what is tested is how the kernel treats them."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

import pytest

from iolab.executor import HostExecutor, ProcessError

ECHO = [sys.executable, "-u", "-c", "import sys\nfor line in sys.stdin: print('got', line.strip())"]
# A child with a child of its own that ignores SIGTERM; prints the grandchild's id.
FAMILY = [
    "sh",
    "-c",
    "sh -c 'trap \"\" TERM; echo $$; while :; do sleep 1; done' & wait",
]


def gone(pid: int) -> bool:
    """True once no process of that id runs; init may need a moment to reap it."""
    for _ in range(500):
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            return True
        if state in "ZX":
            return True
        time.sleep(0.01)
    return False


def test_run_returns_code_and_output() -> None:
    with HostExecutor() as executor:
        done = executor.run(["sh", "-c", "echo out; echo err >&2; exit 3"])
    assert (done.code, done.stdout, done.stderr) == (3, "out\n", "err\n")


def test_run_gives_up_after_its_time_and_ends_the_process() -> None:
    with (
        HostExecutor() as executor,
        pytest.raises(ProcessError, match=r"not finished after 0\.2 s\nworking on it"),
    ):
        executor.run(["sh", "-c", "echo working on it >&2; exec sleep 60"], timeout_s=0.2)


def test_a_missing_program_is_named() -> None:
    with HostExecutor() as executor:
        for call in (executor.run, executor.start, executor.stream):
            with pytest.raises(ProcessError, match="no-such-program: cannot be started"):
                call(["/no-such-program"])


def test_conversation_by_lines() -> None:
    with HostExecutor() as executor:
        child = executor.start(ECHO)
        for word in ("a", "b"):
            child.write_line(word)
            assert child.read_line(10) == f"got {word}"
        assert child.alive()
        assert child.stop() == -signal.SIGTERM
        assert not child.alive()
        assert child.stop() == -signal.SIGTERM


def test_silence_and_death_are_reported_with_the_last_words() -> None:
    with HostExecutor() as executor:
        silent = executor.start(["sleep", "60"])
        with pytest.raises(ProcessError, match=r"sleep 60: said nothing for 0.1 s"):
            silent.read_line(0.1)
        dying = executor.start(["sh", "-c", "echo no such engine >&2; exit 2"])
        with pytest.raises(ProcessError, match=r"ended; its last words: no such engine"):
            dying.read_line(10)
        with pytest.raises(ProcessError, match="does not take commands"):
            dying.write_line("hello")
        assert dying.stop() == 2
        assert dying.last_words() == "no such engine"


def test_leaving_the_executor_ends_whole_families() -> None:
    with HostExecutor() as executor:
        child = executor.start(FAMILY)
        grandchild = int(child.read_line(10))
        assert not gone_now(grandchild)
    assert gone(child.pid)
    assert gone(grandchild)


def gone_now(pid: int) -> bool:
    return not Path(f"/proc/{pid}").exists()


def test_children_lead_their_own_group_and_go_to_their_cpus() -> None:
    cpu = min(os.sched_getaffinity(0))
    code = "import os; print(os.getpid() == os.getsid(0), sorted(os.sched_getaffinity(0)))"
    with HostExecutor() as executor:
        done = executor.run([sys.executable, "-c", code], cpus=[cpu])
    assert done.stdout == f"True [{cpu}]\n"


def test_children_die_with_a_harness_that_is_killed(tmp_path: Path) -> None:
    script = tmp_path / "harness.py"
    script.write_text(
        "import time\n"
        "from iolab.executor import HostExecutor\n"
        "with HostExecutor() as executor:\n"
        "    print(executor.start(['sleep', '600']).pid, flush=True)\n"
        "    time.sleep(600)\n"
    )
    with HostExecutor() as executor:
        harness = executor.start([sys.executable, str(script)])
        pid = int(harness.read_line(20))
        os.kill(harness.pid, signal.SIGKILL)
        assert gone(pid)


def test_a_detached_process_outlives_the_executor() -> None:
    with HostExecutor() as executor:
        pid = executor.detach(["sh", "-c", "echo ready; exec sleep 60"])
    try:
        assert os.getsid(pid) == pid
        assert not gone_now(pid)
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def test_a_detached_process_that_fails_says_why() -> None:
    with (
        HostExecutor() as executor,
        pytest.raises(ProcessError, match="ended; its last words: no such device"),
    ):
        executor.detach(["sh", "-c", "echo no such device >&2; exit 1"])
