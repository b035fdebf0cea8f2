"""What those who read slices take for granted of them, looked at once: when a slice is measured,
and when its line is read. Pure.

The JSON Schemas in results/schema/ say all of what is stored. These are the members without which
statistics, limiters, curves or exports would not know what to do; a slice that lacks one is named,
before anything is computed from it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_Kinds = tuple[type, ...]
_NUMBER: _Kinds = (int, float)
_WHOLE: _Kinds = (int,)
_FLAG: _Kinds = (bool,)
_TEXT: _Kinds = (str,)
_LIST: _Kinds = (list,)
_TABLE: _Kinds = (dict,)
_NULL: _Kinds = (type(None),)
_NAMES = {
    _NUMBER: "number", _WHOLE: "whole number", _FLAG: "boolean", _TEXT: "text", _LIST: "list",
    _TABLE: "object",
}  # fmt: skip

_LINE = {
    "block": _WHOLE, "order": _WHOLE, "cell": _TEXT, "status": _TEXT, "reason": _TEXT + _NULL,
    "started_unix_ns": _WHOLE, "wall_ns": _WHOLE, "load": _TABLE + _NULL,
    "server_counters": _TABLE + _NULL,
}  # fmt: skip
_RECORD = {"cell": _TEXT, "workload": _TEXT, "server": _TEXT, "status": _TEXT}
_WRK = {**_RECORD, "pair": _WHOLE, "requests_per_s": _NUMBER + _NULL}
_SYSCALLS = {
    **_RECORD, "reason": _TEXT + _NULL, "requests": _WHOLE, "traced": _TABLE + _NULL,
    "server_counters": _TABLE + _NULL,
}  # fmt: skip

_WINDOW = {"ns": _NUMBER, "requests": _NUMBER, "body_bytes": _NUMBER}
_CPU = {"client_ns": _NUMBER, "server_ns": _NUMBER + _NULL, "client_share": _NUMBER}
_HISTOGRAM = {
    "scheme": _TEXT, "sub_bucket_bits": _WHOLE, "counts": _LIST, "min": _WHOLE + _NULL,
    "max": _WHOLE + _NULL,
}  # fmt: skip
_OPEN_LOOP = {"due": _WHOLE, "abandoned": _WHOLE, "overload": _FLAG, "lateness": _TABLE}
_BACKLOG = ("backlog_begin", "backlog_halfway", "backlog_end")
_EXTRA = {
    "kernel": _TABLE, "bystanders": _TABLE, "memory": _TABLE, "harness_cpu_ns": _NUMBER,
    "profiles_ns": _NUMBER,
}  # fmt: skip
_KERNEL = {"ns": _NUMBER, "tick_ns": _NUMBER}
_GROUPS = (
    "cpus", "softnet", "tcp", "tcp_client", "devices", "link_mbit", "pressure_us", "server",
    "client", "time_wait", "ports",
)  # fmt: skip
_PORTS = {"range": _WHOLE, "held": _WHOLE, "held_first": _WHOLE, "time_wait": _WHOLE}
_BYSTANDERS = {"ns": _NUMBER, "cpu_ns": _TABLE}


class Unfit(ValueError):
    """A slice that cannot be read; the message names the member, as in `no key 'load.cpu'`."""


def check_line(line: Mapping[str, Any]) -> None:
    """Unfit when a line of samples.jsonl lacks what every slice has, measured or not."""
    _check(line, "", _LINE)


def check_wrk(record: Mapping[str, Any]) -> None:
    """Unfit when a line of wrk.jsonl lacks what the report makes rows of."""
    _check(record, "", _WRK)


def check_syscalls(record: Mapping[str, Any]) -> None:
    """Unfit when a line of syscalls.jsonl lacks what the report makes rows of.

    `switches` may be missing, as in earlier versions.
    """
    _check(record, "", _SYSCALLS)
    if record["traced"] is not None:
        _check(record["traced"], "traced", {"total": _WHOLE})
        _check_counts(record["traced"], "traced")
    check_counters(record["server_counters"] or {})
    if record.get("switches") is not None:
        _check(record, "", {"switches": _TABLE})
        _check_counts(record["switches"], "switches")


def check_load(load: Mapping[str, Any]) -> None:
    """Unfit when the document of a load generator lacks what is made of a slice that is ok.

    Latencies may be missing, as of wrk or of copies, but not in an open loop.
    """
    _check(load, "load", {"window": _TABLE, "cpu": _TABLE})
    _check(load["window"], "load.window", _WINDOW)
    _check(load["cpu"], "load.cpu", _CPU)
    offered = load.get("open_loop")
    if offered is not None or load.get("closed_loop") is False:
        _check(load, "load", {"open_loop": _TABLE, "latency": _TABLE})
        _check_open_loop(load["open_loop"])
    if "latency" in load:
        _check(load, "load", {"latency": _TABLE})
        _check_histogram(load["latency"], "load.latency")


def check_extra(extra: Mapping[str, Any]) -> None:
    """Unfit when what stands beside the document of the load generator is not as it was written.

    Earlier versions wrote less; what is not there at all is no fault.
    """
    _check(extra, "", {key: kinds for key, kinds in _EXTRA.items() if key in extra})
    if "kernel" in extra:
        there = {key: _TABLE for key in _GROUPS if key in extra["kernel"]}
        _check(extra["kernel"], "kernel", _KERNEL | there)
        for key in there:
            _check_counts(extra["kernel"][key], f"kernel.{key}")
        for side, ports in extra["kernel"].get("ports", {}).items():
            _check(extra["kernel"]["ports"], "kernel.ports", {side: _TABLE})
            _check(ports, f"kernel.ports.{side}", _PORTS)
    if "bystanders" in extra:
        _check(extra["bystanders"], "bystanders", _BYSTANDERS)
        _check_counts(extra["bystanders"]["cpu_ns"], "bystanders.cpu_ns")


def check_counters(counters: Mapping[str, Any]) -> None:
    """Unfit when a counter of a server, or one of a table of them, is no number."""
    known = {key: value for key, value in counters.items() if value is not None}
    _check_counts(known, "server_counters")


def _check_open_loop(offered: Mapping[str, Any]) -> None:
    _check(offered, "load.open_loop", _OPEN_LOOP)
    _check_histogram(offered["lateness"], "load.open_loop.lateness")
    if any(key in offered for key in _BACKLOG):  # since they are written, all of them are
        _check(offered, "load.open_loop", dict.fromkeys(_BACKLOG, _WHOLE))


def _check_histogram(found: Mapping[str, Any], place: str) -> None:
    """Without a value there is no smallest and no largest one."""
    _check(found, place, _HISTOGRAM)
    if found["counts"]:
        _check(found, place, {"min": _WHOLE, "max": _WHOLE})


def _check_counts(found: Mapping[str, Any], place: str) -> None:
    """Numbers, and tables of them."""
    for key, value in found.items():
        if isinstance(value, dict):
            _check_counts(value, f"{place}.{key}")
        else:
            _check(found, place, {key: _NUMBER})


def _check(document: Mapping[str, Any], place: str, members: Mapping[str, _Kinds]) -> None:
    for key, kinds in members.items():
        name = f"{place}.{key}" if place else key
        if key not in document:
            raise Unfit(f"no key {name!r}")
        value = document[key]
        # bool is an int to Python, and none to JSON.
        if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
            raise Unfit(f"{name} is no {_words(kinds)}")


def _words(kinds: _Kinds) -> str:
    if kinds[-1:] == _NULL:
        return f"{_words(kinds[:-1])} or null"
    return _NAMES[kinds]
