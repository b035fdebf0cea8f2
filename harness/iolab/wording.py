"""Workloads in words, the same in tables, reports and messages."""

from __future__ import annotations

from iolab.model import Workload
from iolab.sizes import format_size

PER_SECOND = {"request": "requests/s", "GiB": "GiB/s"}
_DIRECTIONS = {"up": "", "down": ", from the upstream", "both": ", both ways at once"}


def nr(number: int, noun: str) -> str:
    """`1 pair`, `50 connections`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def clients(workload: Workload) -> str:
    """Who asks, and how much at a time: `50 connections, 4 deep`, `16 pairs, chunked`."""
    if workload.pairs:
        chunked = ", chunked" if workload.chunked else ""
        return f"{nr(workload.pairs, 'pair')}{chunked}{_DIRECTIONS[workload.direction]}"
    depth = f", {workload.pipeline} deep" if workload.pipeline > 1 else ""
    return f"{nr(workload.connections, 'connection')}{depth}"


def payload(workload: Workload) -> str:
    """What one response or transfer carries."""
    if not workload.pairs:
        return f"{format_size(workload.size_bytes)} a response"
    return f"{format_size(workload.size_bytes)} a transfer" if workload.size_bytes else "endless"
