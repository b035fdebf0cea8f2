from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import pytest

from iolab.executor import Completed, ProcessError
from iolab.fake_executor import FakeExecutor, FakeProcess
from iolab.load import UnsupportedError
from iolab.load.iolab_copy import CopyPlaces, IolabCopy, arguments, check_copies
from iolab.model import CopyLoad, Workload

PLACES = CopyPlaces(Path("/d"), Path("/d/sources"), Path("/m"))
BINARY = Path("iolab-copy")
SMALL = Workload("w", 16384, copy=CopyLoad(512, 64, "cold", "tmpfs", True, True))


def executor(lines: list[str], words: str = "", answer: Sequence[str] = ()) -> FakeExecutor:
    def reply(line: str) -> Iterable[str]:
        return answer

    def start(argv: Sequence[str], pid: int) -> FakeProcess:
        return FakeProcess(tuple(argv), pid, list(lines), reply, words)

    return FakeExecutor(start=start)


def opened(fake: FakeExecutor) -> IolabCopy:
    return IolabCopy.open(fake, BINARY, "splice", SMALL, PLACES, 0)


def test_a_session_is_the_workload_in_words_and_runs_slices() -> None:
    fake = executor(['{"ready":true}'], answer=['{"window":{"requests":5}}'])
    session = opened(fake)
    assert session.slice(SMALL, 30, 200) == {"window": {"requests": 5}}
    session.close()
    (process,) = fake.started
    assert process.written == ["slice 30 200", "quit"]
    assert " ".join(process.argv) == (
        "iolab-copy --technique splice --dir /d --source /d/sources --size 16384 --files 512 "
        "--batch 64 --cache cold --to /m --fresh --durable --cpu 0 --slices"
    )


def test_defaults_are_one_file_beside_its_source() -> None:
    words = arguments(BINARY, "mmap,to=mapping", Workload("w", 5, copy=CopyLoad()), PLACES, None)
    assert words[1:3] == ["--technique", "mmap,to=mapping"]
    assert not {"--to", "--fresh", "--durable", "--cpu"} & set(words)


def test_a_reason_not_to_is_told_apart_from_a_failure() -> None:
    fake = executor([], "some noise\nunsupported: copy_file_range: no\n")
    with pytest.raises(UnsupportedError) as caught:
        opened(fake)
    assert str(caught.value) == "copy_file_range: no"
    assert not fake.started[0].alive()
    with pytest.raises(ProcessError) as failed:
        opened(executor([], "iolab-copy: /d: no room"))
    assert not isinstance(failed.value, UnsupportedError)


@pytest.mark.parametrize("line", ["garbage", "[]", '{"ready":false}', '{"error":"no"}'])
def test_what_is_no_ready_line_is_an_error(line: str) -> None:
    with pytest.raises(ProcessError, match=r"not JSON|no result|ready line"):
        opened(executor([line]))


def test_copies_are_checked_in_a_run_of_its_own() -> None:
    answers = [
        Completed((), 0, '{"checks":3}\n', ""),
        Completed((), 3, "", "unsupported: no"),
        Completed((), 1, "", "iolab-copy: 2 wrong copies"),
    ]
    fake = FakeExecutor(run=lambda argv: answers.pop(0))
    assert check_copies(fake, BINARY, "splice", Path("/d")) == {"checks": 3}
    assert fake.ran[0] == ("iolab-copy", "--technique", "splice", "--dir", "/d", "--check")
    assert check_copies(fake, BINARY, "splice", Path("/d")) is None
    with pytest.raises(ProcessError, match="2 wrong copies"):
        check_copies(fake, BINARY, "splice", Path("/d"))
