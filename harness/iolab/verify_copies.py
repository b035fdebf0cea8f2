"""Checks a technique before it is timed: copies of many sizes, compared byte for byte by the tool.

The sizes are those at which pages, buffers, pipes and blocks begin and end; an empty file, a sparse
one and batches are among them. Each cell's own session checks once more, between its own places.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from iolab.executor import ProcessError
from iolab.verify import Verification

Check = Callable[[], dict[str, Any] | None]


def verify_copies(label: str, check: Check) -> Verification | None:
    """What `check` finds, None when the technique cannot copy there at all.

    A verification of copies has no digest of its own: each was compared with its source.
    """
    try:
        document = check()
    except ProcessError as error:
        return Verification(label, 0, (str(error),), "")
    if document is None:
        return None
    failures = (str(document["failure"]),) if document["failures"] else ()
    return Verification(label, int(document["checks"]), failures, "")
