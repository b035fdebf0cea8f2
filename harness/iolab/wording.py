"""Workloads in words, the same in tables, reports and messages."""

from __future__ import annotations

from iolab.model import CopyLoad, Workload
from iolab.sizes import format_size

PER_SECOND = {"request": "requests/s", "GiB": "GiB/s", "file": "files/s"}
_DIRECTIONS = {"up": "", "down": ", from the upstream", "both": ", both ways at once"}


def nr(number: int, noun: str) -> str:
    """`1 pair`, `50 connections`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def clients(workload: Workload) -> str:
    """Who asks, and how much at a time: `50 connections, 4 deep`, `16 pairs, chunked`.

    Of copies, what is done: `1 file, cold, to tmpfs`, `512 files, 64 at a time, warm, fresh`.
    """
    if workload.copy is not None:
        return _copies(workload.copy)
    if workload.pairs:
        chunked = ", chunked" if workload.chunked else ""
        return f"{nr(workload.pairs, 'pair')}{chunked}{_DIRECTIONS[workload.direction]}"
    depth = f", {workload.pipeline} deep" if workload.pipeline > 1 else ""
    return f"{nr(workload.connections, 'connection')}{depth}{_rate(workload)}"


def _rate(workload: Workload) -> str:
    """`, open loop at 0.5 of the baseline's capacity (12,000/s)`; nothing for a closed loop."""
    if not workload.open_loop:
        return ""
    per_s = f"{workload.rate_per_s:,.0f}/s" if workload.rate_per_s >= 10 else ""
    per_s = per_s or f"{workload.rate_per_s:g}/s"
    even = ", constant arrivals" if workload.arrivals == "constant" else ""
    if not workload.load:
        return f", open loop at {per_s}{even}"
    rate = f" ({per_s})" if workload.rate_per_s else ""
    return f", open loop at {workload.load:g} of the baseline's capacity{rate}{even}"


def limited_by(limiter: str | None, workload: Workload) -> str | None:
    """A limiter of `stats` in words. A copier has no client: the CPU is its limit, or is not."""
    if workload.copy is None or limiter is None:
        return limiter
    return "CPU" if limiter == "server" else "not CPU"


def _copies(copy: CopyLoad) -> str:
    parts = [nr(copy.files, "file")]
    if copy.batch > 1:
        parts.append(f"{copy.batch} at a time")
    parts.append(copy.cache)
    parts += ["to tmpfs"] if copy.target == "tmpfs" else []
    parts += [word for word in ("fresh", "durable") if getattr(copy, word)]
    return ", ".join(parts)


def payload(workload: Workload) -> str:
    """What one response, transfer or file carries."""
    if workload.copy is not None:
        return f"{format_size(workload.size_bytes)} a file"
    if not workload.pairs:
        return f"{format_size(workload.size_bytes)} a response"
    return f"{format_size(workload.size_bytes)} a transfer" if workload.size_bytes else "endless"
