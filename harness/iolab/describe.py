"""What `iolab-server --describe` says: the only place engine names and options come from."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from iolab.errors import IolabError, did_you_mean
from iolab.sizes import parse_size


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


class Engine(BaseModel):
    """One engine of the build, and whether this kernel can run it."""

    model_config = ConfigDict(frozen=True)
    name: str
    summary: str = ""
    driver: str = ""
    since: str = ""
    sources: tuple[str, ...] = ()
    roles: tuple[str, ...] = ()
    usable: bool = True
    reason: str | None = None
    options: tuple[Option, ...] = ()

    @property
    def serves_files(self) -> bool:
        """True when its bytes come from files (read or mapped), so that they can be compared."""
        return not {"file", "mapping"}.isdisjoint(self.sources)

    def plays(self, role: str) -> bool:
        """True when it can be measured in `role`: one that sends a constant serves no files."""
        return role in self.roles and (role != "file" or self.serves_files)

    def option(self, name: str) -> Option | None:
        """The option of that name, None when the engine has none."""
        return next((option for option in self.options if option.name == name), None)


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


_BOOLS = ("on", "off", "yes", "no", "true", "false", "1", "0")
_SERVER_UNITS = {"k": "KiB", "m": "MiB", "g": "GiB"}


def _server_size(value: str) -> int:
    """Sizes as the server takes them: ours, or with the suffix k, m or g (binary)."""
    unit = _SERVER_UNITS.get(value[-1:].lower()) if value[:-1].isdigit() else None
    return parse_size(value[:-1] + unit) if unit else parse_size(value)


def parse_describe(text: str) -> Describe:
    """The document in `text`; IolabError says what is wrong with it."""
    try:
        return Describe.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"]) or "document"
        raise IolabError(
            f"iolab-server --describe: {place}: {first['msg']}",
            "server and harness are of different versions? Build again",
        ) from error
