from __future__ import annotations

from typing import Any

import pytest

from iolab.describe import parse_copy_describe
from iolab.errors import IolabError
from iolab.executor import ProcessError
from iolab.model import CopyLoad, Workload
from iolab.verify_copies import verify_copies
from iolab.wording import limited_by


def test_what_the_tool_found_is_told() -> None:
    right = verify_copies("s", lambda: {"checks": 64, "failures": 0, "failure": None})
    assert right is not None
    assert (right.server, right.checks, right.ok) == ("s", 64, True)
    wrong = verify_copies("s", lambda: {"checks": 64, "failures": 2, "failure": "byte 3 differs"})
    assert wrong is not None
    assert wrong.failures == ("byte 3 differs",)


def test_a_tool_that_fails_is_no_verification_and_one_that_cannot_is_none() -> None:
    def fail() -> dict[str, Any]:
        raise ProcessError("iolab-copy: exit code 1: 3 wrong copies")

    failed = verify_copies("s", fail)
    assert failed is not None
    assert failed.failures == ("iolab-copy: exit code 1: 3 wrong copies",)
    assert verify_copies("s", lambda: None) is None


def test_what_the_copier_says_of_itself_is_read() -> None:
    technique = (
        '{"name":"mmap","usable":true,"reason":null,"options":[{"name":"direct","type":"bool",'
        '"default":"off","unsupported":[{"value":"on","reason":"no alignment"}],"help":""}]}'
    )
    text = f'{{"schema_version":1,"may_clone":true,"techniques":[{technique}]}}'
    found = parse_copy_describe(text).technique("mmap")
    assert found is not None
    assert found.verdict is None
    assert found.check_options([("direct", "true")], "here") == ("no alignment",)
    assert found.check_options([("direct", "off")], "here") == ()
    with pytest.raises(IolabError, match=r"iolab-copy --describe: techniques"):
        parse_copy_describe('{"schema_version":1}')


def test_a_copier_is_limited_by_its_cpu_or_not() -> None:
    copies, gets = Workload("w", 1, copy=CopyLoad()), Workload("w", 1, 2)
    assert limited_by("server", copies) == "CPU"
    assert limited_by("neither", copies) == "not CPU"
    assert limited_by(None, copies) is None
    assert limited_by("server", gets) == "server"
