"""Reading TOML through pydantic models, with messages that name file, key and what is allowed."""

from __future__ import annotations

import tomllib
import typing
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import ErrorDetails

from iolab.errors import InputError, did_you_mean

ModelT = TypeVar("ModelT", bound="Section")


class Section(BaseModel):
    """Base of every table of a TOML file: frozen, and an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=False)


def read_toml(path: Path, model: type[ModelT]) -> ModelT:
    """`path` as a `model`; InputError names the file and every wrong key or value in it."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 text ({error})") from error
    return parse_toml(text, model, str(path))


def parse_toml(text: str, model: type[ModelT], place: str) -> ModelT:
    """`text` as a `model`; `place` is what messages call it."""
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"{place}: not TOML: {error}") from error
    try:
        return model.model_validate(document)
    except ValidationError as error:
        lines = [f"{place}: {_explain(detail, model)}" for detail in error.errors()]
        raise InputError("\n".join(lines)) from error


def _explain(detail: ErrorDetails, model: type[BaseModel]) -> str:
    """One problem in the words of the file: key, what is wrong, what is allowed."""
    loc = [part for part in detail["loc"] if isinstance(part, int | str)]
    key = _key(loc)
    if detail["type"] == "extra_forbidden":
        allowed = _keys_at(model, loc[:-1])
        return f"{key}: unknown key, {did_you_mean(str(loc[-1]), allowed)}"
    if detail["type"] == "missing":
        return f"{key}: missing, it is required"
    if detail["type"] == "literal_error":
        allowed_values = str(detail.get("ctx", {}).get("expected", ""))
        names = allowed_values.replace(" or ", ", ").replace("'", "").split(", ")
        return f"{key}: {detail['input']!r}: {did_you_mean(str(detail['input']), names)}"
    message = detail["msg"].removeprefix("Value error, ")
    message = message[:1].lower() + message[1:]
    given = detail["input"]
    shown = f" (given: {given!r})" if isinstance(given, str | int | float | bool) else ""
    return f"{key}: {message}" if detail["type"] == "value_error" else f"{key}: {message}{shown}"


def _key(loc: list[int | str]) -> str:
    """`run.slice_ms`, `workload[2].size`: indices count from 1, as people count tables."""
    text = ""
    for part in loc:
        if isinstance(part, int):
            text += f"[{part + 1}]"
        else:
            text += f".{part}" if text else part
    return text or "top level"


def _keys_at(model: type[BaseModel], loc: list[int | str]) -> list[str]:
    """The keys that the table at `loc` may have."""
    here: type[BaseModel] = model
    for part in loc:
        if isinstance(part, int):
            continue
        field = next(
            (info for name, info in here.model_fields.items() if part in (name, info.alias)), None
        )
        inner = _inner_model(field.annotation) if field is not None else None
        if inner is None:
            return []
        here = inner
    return sorted(info.alias or name for name, info in here.model_fields.items())


def _inner_model(annotation: Any) -> type[BaseModel] | None:
    """The model inside an annotation such as `tuple[WorkloadTable, ...]` or `X | None`."""
    inner_types = typing.get_args(annotation)
    if not inner_types and isinstance(annotation, type):
        return annotation if issubclass(annotation, BaseModel) else None
    for inner in inner_types:
        found = _inner_model(inner)
        if found is not None:
            return found
    return None
