"""One slice: what rate it shows, what CPU time it cost, and whether it is a measurement at all.

A slice is the document that iolab-load prints, see docs/result-format.md.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from iolab import bystanders
from iolab.model import Sample, Status


def usable(sample: Sample) -> bool:
    """True when a slice is a measurement: ok, and no other server worked meanwhile."""
    ok = sample.status is Status.OK and sample.load is not None
    return ok and not bystanders.disturbed(sample)


def unit_rate(load: Mapping[str, Any], unit_bytes: int) -> float:
    """Units (requests, GiB or files) per second in the window of one slice; see `units`."""
    seconds = float(load["window"]["ns"]) / 1e9
    return units(load, unit_bytes) / seconds if seconds > 0 else 0.0


def units(load: Mapping[str, Any], unit_bytes: int) -> float:
    """Units (with fractions) in the window of one slice; `unit_bytes` as of Workload.

    Counted in payload received over that of a unit, because at 16 MiB a window of 200 ms ends in
    the middle of most responses; whole requests only where bodies are empty.
    """
    window = load["window"]
    if unit_bytes > 0:
        return float(window["body_bytes"]) / unit_bytes
    return float(window["requests"])


def server_cpu_ns(load: Mapping[str, Any]) -> float | None:
    """Process CPU time of the server in the window, None when it was not read."""
    value = load["cpu"].get("server_ns")
    return None if value is None else float(value)


def judge_slice(load: Mapping[str, Any], counters: Mapping[str, Any] | None) -> str | None:
    """Why a slice is no measurement, None when it is one.

    Any error or non-2xx disqualifies it, and so does a count that the server (when it counts) does
    not share: of requests and body bytes, or of bytes relayed. Of pairs, what was sent must have
    arrived; of an open loop, every request that was due is answered or abandoned. Counts are
    compared over the whole slice, drain included, when nothing is under way.
    """
    wrong = {key: nr for key, nr in load["errors"].items() if nr}
    if load.get("non_2xx"):
        wrong["non-2xx"] = load["non_2xx"]
    if wrong:
        who = "copier" if load.get("mode") == "copy" else "client"
        return f"{who} saw " + ", ".join(f"{nr} {key}" for key, nr in wrong.items())
    pairs = _moves_pairs(load)
    total = load["total"]
    idle = load.get("open_loop") is not None and load["open_loop"]["due"] == 0
    served = idle or total["body_bytes" if pairs else "requests"] > 0
    if load["window"]["ns"] <= 0 or not served:
        return "no byte arrived" if pairs else "no request was completed"
    if pairs and total["sent_bytes"] != total["body_bytes"]:
        return f"{total['sent_bytes']} bytes were sent, {total['body_bytes']} arrived"
    lost = _forgotten(load)
    if lost is not None:
        return lost
    if counters is None:
        return None
    if pairs and counters.get("transfers_failed"):
        return f"the server counted {counters['transfers_failed']} failed transfers"
    wanted = [last_counted(load)] if pairs else [(k, total[k]) for k in ("requests", "body_bytes")]
    for key, client in wanted:
        server = counters.get(key)
        if server is not None and client != server:
            return f"{key}: client counted {client}, server {server}"
    return None


def _forgotten(load: Mapping[str, Any]) -> str | None:
    """What an open loop does not account for; None when that is nothing, or it is a closed loop."""
    one = load.get("open_loop")
    if one is None:
        return None
    answered = sum(int(nr) for _, nr in load["latency"]["counts"])
    if one["due"] == answered + one["abandoned"]:
        return None
    return f"{one['due']} requests were due, {answered} answered and {one['abandoned']} abandoned"


def last_counted(load: Mapping[str, Any]) -> tuple[str, int]:
    """The server's counter that shows whether it has counted all of a slice, and its value then.

    A forwarder moves, beside the payload, the bytes by which connections greet their upstream.
    """
    total = load["total"]
    if _moves_pairs(load):
        return "relayed_bytes", int(total["body_bytes"]) + int(total.get("greeting_bytes", 0))
    return "requests", int(total["requests"])


def _moves_pairs(load: Mapping[str, Any]) -> bool:
    return load.get("mode") in ("relay", "forward")


def overloaded(loads: Iterable[Mapping[str, Any]]) -> bool:
    """True when most open-loop slices ended in a backlog, each by its own account.

    One stall of the machine makes one such slice; a server that cannot keep up makes all so.
    """
    found = [bool(load["open_loop"]["overload"]) for load in loads if load.get("open_loop")]
    return 2 * sum(found) > len(found)
