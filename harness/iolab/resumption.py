"""A run that goes on: its manifest, with what changed around it since it was last started. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from iolab import manifest_diff
from iolab.manifest_diff import Difference


def continued(
    stored: Mapping[str, Any] | None, fresh: Mapping[str, Any]
) -> tuple[dict[str, Any], list[Difference]]:
    """The manifest of a run that is started once more, and what differs from the start before.

    `stored` is the run's manifest so far, None for a run that begins; `fresh` what it would be if
    the run began now. The circumstances are those of now; `starts` grows, and so does `changes`,
    which keeps what the circumstances were before: a start that changed nothing adds nothing.
    """
    document = dict(fresh)
    if stored is None:
        return document, []
    found = manifest_diff.differences(stored, fresh)
    starts = [*(stored.get("starts") or []), *fresh["starts"]]
    changes = list(stored.get("changes") or [])
    if found:
        changes.append({"start": starts[-1], "differences": [asdict(one) for one in found]})
    document["starts"] = starts
    if changes:
        document["changes"] = changes
    return document, found


def in_words(found: Sequence[Difference]) -> list[str]:
    """A line for each difference, for messages."""
    return [
        f"changed since the last start: {one.group}: {one.key}: {one.base} -> {one.new}"
        for one in found
    ]
