"""A matrix as text, for tests that change a word of it, and how one is refused."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from iolab.errors import InputError
from iolab.matrix import parse_plan
from iolab.specs import Offer

MATRIX = """
schema_version = 1
name = "m"
summary = "s"
[run]
baseline = "nginx"
baseline_fallback = "epoll"
[servers]
list = ["peer:nginx", "engine:*"]
[[workload]]
name = "1KiB"
size = "1KiB"
connections = 50
"""


def assert_refused(text: str, offer: Offer, words: Iterable[str]) -> None:
    """The matrix `text` is refused with a message that names its file and has all of `words`."""
    with pytest.raises(InputError) as caught:
        parse_plan(text, offer, "m.toml")
    message = str(caught.value)
    missing = [word for word in ("m.toml", *words) if word not in message]
    assert not missing, f"{missing} not in: {message}"
