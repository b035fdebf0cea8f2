"""Errors that a user can act on; everything else is a bug and keeps its traceback."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class IolabError(Exception):
    """A failure with its place in the message and, where one is known, the remedy.

    `exit_code` is what the command line ends with: 1 for findings and failures.
    """

    exit_code = 1

    def __init__(self, message: str, remedy: str | None = None) -> None:
        """`remedy` is a sentence or a command to type, shown on a line of its own."""
        super().__init__(message)
        self.message = message
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.message}\n  remedy: {self.remedy}" if self.remedy else self.message


class InputError(IolabError):
    """Wrong input: a matrix, a peer file or an argument. Ends with exit code 2, as usage errors."""

    exit_code = 2


def did_you_mean(word: str, allowed: Iterable[str]) -> str:
    """A clause that lists what is allowed, the nearest spelling first when one is near."""
    names = [str(name) for name in allowed]
    if not names:
        return "nothing is allowed here"
    near = difflib.get_close_matches(word, names, n=1, cutoff=0.6)
    hint = f"did you mean {near[0]!r}? " if near else ""
    return f"{hint}allowed: {', '.join(names)}"
