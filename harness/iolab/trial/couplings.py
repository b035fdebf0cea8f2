"""Settings that move with others: why a knob changed that no command of the script names."""

from __future__ import annotations

import re
from collections.abc import Iterable

_COUPLINGS = (
    (
        r"ethtool/[^/]+/channels/",
        r".*affinity.*|.*/rss/.*|.*/queues/.*|tc/.*",
        "a change of channels makes the driver place interrupts, RSS and XPS anew",
    ),
    (
        r"tc/[^/]+/root",
        r"tc/.*",
        "a new root takes the disciplines of the queues with it",
    ),
    (
        r"ethtool/[^/]+/(features|rss|flow-hash)/",
        r"ethtool/.*",
        "one feature of a NIC moves others",
    ),
    (
        r"/proc/sys/net/ipv[46]/conf/(all|default)/",
        r"/proc/sys/net/ipv[46]/conf/.*",
        "conf/all and conf/default are copied to interfaces",
    ),
    (
        r"/proc/sys/net/ipv4/ip_forward",
        r"/proc/sys/net/ipv4/conf/.*/(forwarding|accept_redirects)",
        "a router forwards on every interface and takes no redirects",
    ),
    (
        r"/sys/class/net/[^/]+/mtu",
        r"/proc/sys/net/ipv6/conf/[^/]+/mtu",
        "IPv6 follows the MTU of the interface",
    ),
    (
        r"/proc/sys/vm/dirty_",
        r"/proc/sys/vm/dirty_.*",
        "bytes and ratio exclude each other",
    ),
    (
        r"/proc/sys/vm/|.*hugepages",
        r"/proc/sys/vm/.*|.*hugepages.*",
        "memory settings move each other",
    ),
)
"""Knob that was set, knob that moves with it, and why."""

_OF_A_MODULE = re.compile(
    r"module/.*|/sys/module/.*|/proc/sys/net/ipv4/tcp_(available|allowed)_congestion_control"
)


def why_moved(asked: Iterable[str], knob: str) -> str | None:
    """The reason, as far as one of the knobs `asked` for explains it; None when none does."""
    causes = list(asked)
    for cause, effect, reason in _COUPLINGS:
        if re.fullmatch(effect, knob) and any(re.match(cause, one) for one in causes):
            return reason
    return None


def comes_or_goes(asked: Iterable[str], knob: str) -> bool:
    """True for the files of a queue where channels were asked for: they are what that means."""
    channels = any(re.match(r"ethtool/[^/]+/channels/", one) for one in asked)
    return channels and "/queues/" in knob


def is_part(asked: Iterable[str], knob: str) -> bool:
    """True for a feature of a NIC that an asked one stands for, as `tso` does for IPv4 and IPv6."""
    whole = re.sub(r"/tx-tcp[^/]*-segmentation$", "/tcp-segmentation-offload", knob)
    return whole != knob and whole in set(asked)


def is_of_a_module(knob: str) -> bool:
    """True for what comes with a module that the kernel loads by itself: no fault of a script."""
    return _OF_A_MODULE.fullmatch(knob) is not None
