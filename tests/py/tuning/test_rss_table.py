"""The writer of RSS tables where the kernel refuses; a NIC that takes one is in the guest."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from iolab.tuning import rss_table


def refusal(netns: str, *words: str) -> tuple[int, str]:
    argv = ["ip", "netns", "exec", netns, sys.executable, rss_table.__file__, *words]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    return done.returncode, done.stderr


@pytest.mark.parametrize(
    ("interface", "words"),
    [
        ("v0", "Operation not supported"),  # veth has no table
        ("gone", "No such device"),
        ("sixteen-letters-", "longer than that of any interface"),
    ],
)
def test_the_kernels_refusal_is_said(netns: str, interface: str, words: str) -> None:
    status, said = refusal(netns, interface, "0,1")
    assert status == 1
    assert said.startswith(f"{interface}: RSS table refused: ")
    assert words in said


def test_its_text_fits_between_single_quotes() -> None:
    assert "'" not in Path(rss_table.__file__).read_text()
