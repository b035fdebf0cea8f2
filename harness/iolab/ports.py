"""Ports for servers that must be told theirs."""

from __future__ import annotations

import random
import socket
from pathlib import Path

from iolab.errors import IolabError

_LOWEST = 10_000
_TRIES = 200


def local_port_range(proc: Path = Path("/proc")) -> tuple[int, int] | None:
    """The lowest and the highest port that the kernel gives to clients, None if unknown.

    That of the calling thread's network namespace (net.ipv4.ip_local_port_range).
    """
    try:
        low, high = (proc / "sys/net/ipv4/ip_local_port_range").read_text().split()
        return int(low), int(high)
    except (OSError, ValueError):
        return None


def ephemeral_range(root: Path = Path("/")) -> tuple[int, int]:
    """The ports that the kernel gives to clients (ip_local_port_range); its default if unknown."""
    return local_port_range(root / "proc") or (32768, 60999)


def format_address(address: tuple[str, int]) -> str:
    """`HOST:PORT`, an IPv6 address in brackets."""
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def free_port(host: str, root: Path = Path("/")) -> int:
    """A port of `host` that is free now and that no client's connection will be given.

    Another server may take it before it is used; then that use fails. IolabError when none of
    the many tried is free.
    """
    low, high = ephemeral_range(root)
    below, above = range(_LOWEST, max(low, _LOWEST)), range(high + 1, 65536)
    candidates = below if len(below) >= len(above) else above
    if len(candidates) < _TRIES:  # the kernel's range leaves too few: any that is free must do
        candidates = range(_LOWEST, 65536)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    for port in random.sample(candidates, _TRIES):
        with socket.socket(family) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
            except OSError:
                continue
            return port
    raise IolabError(f"no free port on {host}: {_TRIES} tried", "end what listens there")
