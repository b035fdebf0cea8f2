"""What the programs say of themselves: the only place names and options come from.

`iolab-server --describe` lists engines, `iolab-copy --describe` techniques of copying.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from iolab.errors import InputError, IolabError, did_you_mean
from iolab.sizes import parse_size

Document = TypeVar("Document", bound=BaseModel)


class Refusal(BaseModel):
    """A value of an option that does not work here, and why."""

    model_config = ConfigDict(frozen=True)
    value: str
    reason: str


class Option(BaseModel):
    """One option of an engine; `min` and `max` bound numbers and sizes (bytes)."""

    model_config = ConfigDict(frozen=True)
    name: str
    type: str
    default: str | int | None = None
    values: tuple[str, ...] = ()
    min: int | None = None
    max: int | None = None
    help: str = ""
    unsupported: tuple[Refusal, ...] = ()

    def refusal(self, value: str) -> str | None:
        """Why this value cannot be had here, None when it can (as far as was tried)."""
        given = {"yes": "on", "true": "on", "1": "on", "no": "off", "false": "off", "0": "off"}
        if self.type == "bool":
            value = given.get(value, value)
        return next((one.reason for one in self.unsupported if one.value == value), None)

    def check(self, value: str) -> None:
        """ValueError says what is allowed when `value` cannot be right for this option."""
        if self.type == "enum" and value not in self.values:
            raise ValueError(f"{self.name}={value}: {did_you_mean(value, self.values)}")
        if self.type == "bool" and value not in _BOOLS:
            raise ValueError(f"{self.name}={value}: {did_you_mean(value, _BOOLS)}")
        if self.type not in ("int", "size"):
            return
        if self.type == "int":
            if not value.lstrip("-").isdigit():
                raise ValueError(f"{self.name}={value}: a whole number is required")
            number = int(value)
        else:
            number = _server_size(value)
        low, high = self.min, self.max
        if (low is not None and number < low) or (high is not None and number > high):
            raise ValueError(f"{self.name}={value}: allowed are {low} to {high}")


class Technique(BaseModel):
    """One way of the build to move bytes, and whether this kernel can do it."""

    model_config = ConfigDict(frozen=True)
    name: str
    summary: str = ""
    since: str = ""
    usable: bool = True
    reason: str | None = None
    options: tuple[Option, ...] = ()

    @property
    def verdict(self) -> str | None:
        """Why it cannot run here, None when it can."""
        return None if self.usable else (self.reason or "its probe says no, without a reason")

    def option(self, name: str) -> Option | None:
        """The option of that name, None when there is none."""
        return next((option for option in self.options if option.name == name), None)

    def check_options(self, options: Iterable[tuple[str, str]], place: str) -> tuple[str, ...]:
        """The reasons why values among `options` cannot be had here, none when all can.

        InputError, which begins with `place`, when an option or its value does not exist.
        """
        refusals = []
        for key, value in options:
            option = self.option(key)
            if option is None:
                names = [known.name for known in self.options]
                raise InputError(f"{place}: unknown option {key!r}: {did_you_mean(key, names)}")
            try:
                option.check(value)
            except ValueError as error:
                raise InputError(f"{place}: {error}") from error
            refusal = option.refusal(value)
            refusals += [refusal] if refusal is not None else []
        return tuple(refusals)


class Engine(Technique):
    """One engine of the server."""

    driver: str = ""
    sources: tuple[str, ...] = ()
    roles: tuple[str, ...] = ()

    @property
    def serves_files(self) -> bool:
        """True when its bytes come from files (read or mapped), so that they can be compared."""
        return not {"file", "mapping"}.isdisjoint(self.sources)

    def plays(self, role: str) -> bool:
        """True when it can be measured in `role`: one that sends a constant serves no files."""
        return role in self.roles and (role != "file" or self.serves_files)


class Describe(BaseModel):
    """The whole document."""

    model_config = ConfigDict(frozen=True)
    schema_version: Literal[1]
    program: str = "iolab-server"
    version: str = ""
    compiler: str = ""
    cflags: str = ""
    build_type: str = ""
    kernel: str = ""
    roles: tuple[str, ...] = ()
    skeleton_options: tuple[Option, ...] = ()
    engines: tuple[Engine, ...]

    def engine(self, name: str) -> Engine | None:
        """The engine of that name, None when the build has none."""
        return next((engine for engine in self.engines if engine.name == name), None)


class CopyDescribe(BaseModel):
    """What `iolab-copy --describe` says of this kernel and the directories it was given.

    `may_clone`: files can share blocks there, so a copy need not copy anything.
    """

    model_config = ConfigDict(frozen=True)
    schema_version: Literal[1]
    program: str = "iolab-copy"
    version: str = ""
    kernel: str = ""
    may_clone: bool = False
    techniques: tuple[Technique, ...]

    def technique(self, name: str) -> Technique | None:
        """The technique of that name, None when the build has none."""
        return next((one for one in self.techniques if one.name == name), None)


_BOOLS = ("on", "off", "yes", "no", "true", "false", "1", "0")
_SERVER_UNITS = {"k": "KiB", "m": "MiB", "g": "GiB"}


def _server_size(value: str) -> int:
    """Sizes as the server takes them: ours, or with the suffix k, m or g (binary)."""
    unit = _SERVER_UNITS.get(value[-1:].lower()) if value[:-1].isdigit() else None
    return parse_size(value[:-1] + unit) if unit else parse_size(value)


def parse_describe(text: str) -> Describe:
    """The server's document in `text`; IolabError says what is wrong with it."""
    return _parse(Describe, text, "iolab-server")


def parse_copy_describe(text: str) -> CopyDescribe:
    """The copier's document in `text`; IolabError says what is wrong with it."""
    return _parse(CopyDescribe, text, "iolab-copy")


def _parse(model: type[Document], text: str, program: str) -> Document:
    try:
        return model.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"]) or "document"
        raise IolabError(
            f"{program} --describe: {place}: {first['msg']}",
            "program and harness are of different versions? Build again",
        ) from error
