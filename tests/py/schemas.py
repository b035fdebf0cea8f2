"""The JSON Schemas of what is stored, as validators."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

jsonschema = pytest.importorskip(
    "jsonschema", reason="jsonschema is not installed: it is in setup/requirements-dev.txt"
)
ROOT = Path(__file__).resolve().parents[2]
NAMES = sorted(path.name.split(".")[0] for path in (ROOT / "results/schema").glob("*.json"))


def validator(name: str) -> Any:
    """The validator of results/schema/NAME.schema.json."""
    schema = json.loads((ROOT / f"results/schema/{name}.schema.json").read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def lines(path: Path) -> list[dict[str, Any]]:
    """The JSON documents of a file of lines."""
    return [json.loads(line) for line in path.read_text().splitlines()]


def validate_lines(path: Path, name: str) -> list[dict[str, Any]]:
    """The documents of `path`, each valid by schema NAME."""
    check = validator(name)
    found = lines(path)
    for document in found:
        check.validate(document)
    return found
