from __future__ import annotations

import json
import math

from iolab.plain import plain
from iolab.verdict import Effect


def test_what_json_cannot_hold_is_null_at_any_depth() -> None:
    value = {"a": (1.5, math.inf, [math.nan, {"b": -math.inf}]), "c": Effect.SLOWER, "d": "x"}
    found = plain(value)
    assert found == {"a": [1.5, None, [None, {"b": None}]], "c": "slower", "d": "x"}
    assert type(found["c"]) is str
    assert json.loads(json.dumps(found, allow_nan=False)) == found
