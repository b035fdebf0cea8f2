"""Reads what `strace -f -y` writes: system calls with their arguments, and the ends of processes.

Calls that another process interrupted (`<unfinished ...>`, `<... NAME resumed>`) are put together
again and stand where they ended.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

_LINE = re.compile(r"(\d+) +(.*)")
_RESUMED = re.compile(r"<\.\.\. (\w+) resumed>(.*)")
_RETURN = re.compile(r"(.*)\) += (-?\d+|\?|0x[0-9a-f]+)(.*)", re.DOTALL)
_ERRNO = re.compile(r" (E[A-Z0-9]+) \(")
_EXITED = re.compile(r"\+\+\+ exited with (\d+) \+\+\+")
_KILLED = re.compile(r"\+\+\+ killed by SIG(\w+)")
_ESCAPE = re.compile(r"\\([0-7]{1,3}|x[0-9a-f]{2}|.)", re.DOTALL)
_ESCAPES = {"n": 10, "t": 9, "r": 13, "v": 11, "f": 12, "a": 7, "b": 8, "e": 27}
_DESCRIPTOR = re.compile(r"(\d+|AT_FDCWD)(?:<(.*)>)?$", re.DOTALL)


@dataclass(frozen=True)
class Call:
    """A finished system call. `args` are as strace prints them; `error` is the errno's name."""

    pid: int
    name: str
    args: tuple[str, ...]
    result: int | None
    error: str | None

    def text(self, index: int) -> str:
        """An argument that is a string; empty when there is none."""
        return unquote(self.args[index]) if index < len(self.args) else ""

    def descriptor(self, index: int = 0) -> tuple[int | None, str]:
        """An argument that is a descriptor, and the path behind it (`-y`); -100 is AT_FDCWD."""
        match = _DESCRIPTOR.match(self.args[index]) if index < len(self.args) else None
        if match is None:
            return None, ""
        return -100 if match[1] == "AT_FDCWD" else int(match[1]), match[2] or ""


@dataclass(frozen=True)
class End:
    """A process ended. `status` is 128 + N when signal N killed it; for unknown names 255."""

    pid: int
    status: int


Event = Call | End


def parse(trace: str) -> list[Event]:
    """The events of a trace in order. Lines of another form (signals) are passed over."""
    return list(_events(trace))


def _events(trace: str) -> Iterator[Event]:
    unfinished: dict[int, str] = {}
    for line in trace.splitlines():
        match = _LINE.match(line)
        if match is None:
            continue
        pid, text = int(match[1]), match[2]
        if text.startswith("+++"):
            yield from _end(pid, text)
            continue
        if text.endswith("<unfinished ...>"):
            unfinished[pid] = text.removesuffix("<unfinished ...>").rstrip()
            continue
        if resumed := _RESUMED.match(text):
            begun = unfinished.pop(pid, None)
            if begun is None:
                continue
            text = begun + resumed[2]
        call = _call(pid, text)
        if call is not None:
            yield call


def _end(pid: int, text: str) -> Iterator[End]:
    if match := _EXITED.match(text):
        yield End(pid, int(match[1]))
    elif match := _KILLED.match(text):
        yield End(
            pid, {"HUP": 129, "INT": 130, "KILL": 137, "PIPE": 141, "TERM": 143}.get(match[1], 255)
        )


def _call(pid: int, text: str) -> Call | None:
    name, opening, rest = text.partition("(")
    match = _RETURN.match(rest)
    if not opening or not name.isidentifier() or match is None:
        return None
    result = None if match[2] == "?" else int(match[2], 0)
    error = _ERRNO.match(match[3])
    return Call(pid, name, tuple(split(match[1])), result, error[1] if error else None)


def split(text: str) -> list[str]:
    """Arguments apart at commas, but not inside strings, brackets or the path of a descriptor."""
    parts, depth, start, i = [], 0, 0, 0
    while i < len(text):
        char = text[i]
        if char == '"':
            i = _string_end(text, i)
        elif char in "([{" or (char == "<" and i and (text[i - 1].isdigit() or text[i - 1] == "D")):
            depth += 1
        elif char in ")]}" or (char == ">" and depth):
            depth -= 1
        elif char == "," and depth == 0:
            parts.append(text[start:i].strip())
            start = i + 1
        i += 1
    last = text[start:].strip()
    return [*parts, last] if last else parts


def _string_end(text: str, start: int) -> int:
    """Index of the quote that ends the string beginning at `start`."""
    i = start + 1
    while i < len(text) and text[i] != '"':
        i += 2 if text[i] == "\\" else 1
    return i


def unquote(argument: str) -> str:
    """A C string as strace prints it, `"..."` or cut off as `"..."...`; other text as it is."""
    if not argument.startswith('"'):
        return argument
    body = argument[1 : _string_end(argument, 0)]
    out, last = bytearray(), 0
    for match in _ESCAPE.finditer(body):
        out += body[last : match.start()].encode()
        out.append(_byte(match[1]))
        last = match.end()
    out += body[last:].encode()
    return out.decode(errors="replace")


def _byte(escape: str) -> int:
    if escape[0] in "01234567":
        return int(escape, 8) & 255
    if escape[0] == "x":
        return int(escape[1:], 16)
    return _ESCAPES.get(escape, ord(escape) & 255)


def strings(argument: str) -> list[str]:
    """The elements of an array of strings: `["ls", "-l"]`."""
    inner = argument.strip()
    if not inner.startswith("["):
        return []
    return [unquote(part) for part in split(inner[1 : inner.rfind("]")])]
