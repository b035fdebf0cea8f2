"""The words of tuning: where a value lives, what is asked of it, and what became of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Protocol

from iolab.errors import InputError, IolabError

if TYPE_CHECKING:
    from iolab.tuning.host import Host
    from iolab.tuning.profile import Profile
    from iolab.tuning.scene import Scene


class KnobError(IolabError):
    """A value that cannot be read or written; the message names the knob and the reason."""


class Gone(KnobError):
    """A process, interface or namespace that is no more, and whose values went with it."""


class Impossible(InputError):
    """What a profile asks by `key` cannot be meant for this host; planning adds the file."""

    def __init__(self, key: str, reason: str, remedy: str) -> None:
        super().__init__(f"{key}: {reason}", remedy)
        self.key = key
        self.reason = reason


@dataclass(frozen=True)
class Target:
    """The place of one value, enough to find it again from a journal.

    `where` is a file relative to the root (`proc/sys/net/core/somaxconn`) or what the family's tool
    calls it; `device` is an interface or a process id; an empty `netns` is the namespace that
    iolab itself runs in.
    """

    family: str
    key: str
    """What people read: the profile's key and, where there are many, which one of them."""
    where: str
    device: str = ""
    netns: str = ""


@dataclass(frozen=True)
class Setting:
    """One value that a profile asks for. `key` is the profile's own key for it."""

    target: Target
    value: str
    key: str


class Outcome(StrEnum):
    """What a knob did with the value it was asked to take."""

    EXACT = "exact"
    CLAMPED = "clamped"
    """Another number than asked for: clamped to a limit, rounded, or not all to be had."""
    IGNORED = "ignored"
    """The write was accepted and the old value stayed."""
    DIFFERENT = "different"
    REFUSED = "refused"
    """The write itself failed; the reason holds the kernel's or the tool's words."""
    UNAVAILABLE = "unavailable"
    """This host, driver or namespace has no such knob; nothing was written."""


class Family(Protocol):
    """One kind of knob. Implementations hold no state: all of it is in the host and the journal."""

    @property
    def name(self) -> str:
        """The name that targets and journals carry."""

    def settings(self, profile: Profile, scene: Scene) -> Iterator[Setting]:
        """What the profile asks of this family here, policies turned into values.

        InputError when the profile cannot be meant for this host, such as a missing interface.
        """

    def collateral(self, profile: Profile, scene: Scene) -> Iterator[Target]:
        """What the kernel may change by itself when these are written; restored as well."""

    def available(self, host: Host, target: Target) -> str | None:
        """None when the knob can be read and written here, otherwise the reason it cannot."""

    def read(self, host: Host, target: Target) -> str:
        """The value now, in the spelling that `write` takes. KnobError when it cannot be read."""

    def write(self, host: Host, target: Target, value: str) -> None:
        """Asks for `value`. KnobError when the kernel or the tool refuses it."""

    def same(self, target: Target, requested: str, effective: str) -> bool:
        """True when `effective` is what `requested` means, however the kernel spells it."""

    def doubt(self, host: Host, target: Target, value: str) -> str:
        """What a reader must know although the value reads back; empty when there is nothing."""

    def shell(self, target: Target, value: str) -> list[str]:
        """The write as lines of POSIX shell; `put` is defined by the script's head."""


def judge(family: Family, target: Target, asked: str, before: str | None, now: str) -> Outcome:
    """The outcome of a write that raised nothing."""
    if family.same(target, asked, now):
        return Outcome.EXACT
    if before is not None and now == before:
        return Outcome.IGNORED
    return Outcome.CLAMPED if _numbers(asked) and _numbers(now) else Outcome.DIFFERENT


def _numbers(text: str) -> bool:
    words = text.split()
    return bool(words) and all(word.lstrip("-").isdigit() for word in words)
