"""Sysctls that move others when they are written, and those that can never be set back.

A value that moves without being named in a profile has to be journalled and restored all the same.
Names are paths below /proc/sys; `*` in a moved one stands for every entry of that directory.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from iolab.tuning.host import Tree

_ROOM = "proc/sys/"

_MOVES: tuple[tuple[str, tuple[str, ...]], ...] = (
    # net/ipv4/devinet.c, inet_forward_change: a router takes no redirects and forwards everywhere.
    (
        r"net/ipv4/(ip_forward|conf/all/forwarding)",
        ("net/ipv4/ip_forward", "net/ipv4/conf/all/accept_redirects", "net/ipv4/conf/*/forwarding"),
    ),
    # net/ipv4/devinet.c, devinet_copy_dflt_conf: to interfaces whose own value nobody has set.
    (r"net/ipv4/conf/default/(\w+)", (r"net/ipv4/conf/*/\1",)),
    # net/core/neighbour.c, neigh_copy_dflt_parms; several files show one value in two units.
    (r"net/(ipv[46])/neigh/default/(\w+)", (r"net/\1/neigh/*/\2",)),
    (
        r"net/(ipv[46])/neigh/(\w+)/(base_reachable_time|retrans_time)(_ms)?",
        (r"net/\1/neigh/\2/\3", r"net/\1/neigh/\2/\3_ms"),
    ),
    (
        r"net/(ipv[46])/neigh/(\w+)/unres_qlen(_bytes)?",
        (r"net/\1/neigh/\2/unres_qlen", r"net/\1/neigh/\2/unres_qlen_bytes"),
    ),
    # net/ipv6/addrconf.c: `all` writes these to `default` and to every interface.
    (
        r"net/ipv6/conf/all/(forwarding|disable_ipv6|ignore_routes_with_linkdown|addr_gen_mode)",
        (r"net/ipv6/conf/*/\1",),
    ),
    # net/ipv6/addrconf.c, addrconf_sysctl_stable_secret: a secret selects the way it is used.
    (
        r"net/ipv6/conf/(default|all)/stable_secret",
        ("net/ipv6/conf/*/addr_gen_mode",),
    ),
    (r"net/ipv6/conf/([^/]+)/stable_secret", (r"net/ipv6/conf/\1/addr_gen_mode",)),
    # net/ipv4/tcp_cong.c, tcp_set_default_congestion_control: the default is allowed to everyone.
    (r"net/ipv4/tcp_congestion_control", ("net/ipv4/tcp_allowed_congestion_control",)),
    # mm/page-writeback.c and mm/util.c: setting one form of a limit zeroes the other.
    (r"vm/dirty_(background_)?(?:bytes|ratio)", (r"vm/dirty_\1bytes", r"vm/dirty_\1ratio")),
    (r"vm/overcommit_(?:kbytes|ratio)", ("vm/overcommit_kbytes", "vm/overcommit_ratio")),
    (r"vm/nr_hugepages(?:_mempolicy)?", ("vm/nr_hugepages", "vm/nr_hugepages_mempolicy")),
)
"""A sysctl, and what moves with it; groups of the first stand in the second as in re.sub."""

_ONE_WAY = {
    "fs/binfmt_misc/[^/]+": "-1",
    "kernel/kexec_load_disabled": "[1-9]",
    "kernel/kexec_load_limit_panic": "[0-9]+",
    "kernel/kexec_load_limit_reboot": "[0-9]+",
    "kernel/modules_disabled": "[1-9]",
    "kernel/tainted": ".*",
    "kernel/unprivileged_bpf_disabled": "1",
    "kernel/usermodehelper/bset": ".*",
    "kernel/usermodehelper/inheritable": ".*",
    "kernel/yama/ptrace_scope": "3",
    "vm/compact_memory": ".*",
    "vm/drop_caches": ".*",
}
"""Values after which the kernel refuses the old one until the next boot, or which are deeds and no
state (Documentation/admin-guide/sysctl/, security/yama/yama_lsm.c, fs/binfmt_misc.c). Both sides
are regular expressions."""

_NO_VALUE = {"vm/dirty_bytes": "0", "vm/dirty_background_bytes": "0"}
"""What these files show while the ratio counts, and refuse to be written (EINVAL)."""

_FORWARDS = re.compile(r"proc/sys/net/(?:ipv4/ip_forward|ipv[46]/conf/[^/]+/forwarding)")

_OF_INTERFACE = re.compile(r"proc/sys/net/ipv[46]/(?:conf|neigh)/([^/]+)/")


def moved_by(tree: Tree, where: str) -> Iterator[str]:
    """The files that may change when the sysctl file `where` is written, without itself."""
    name = where.removeprefix(_ROOM)
    for cause, effects in _MOVES:
        match = re.fullmatch(cause, name)
        if match is None:
            continue
        for effect in effects:
            for moved in _expand(tree, _ROOM + match.expand(effect)):
                if moved != where and tree.exists(moved):
                    yield moved


def is_one_way(where: str, value: str) -> bool:
    """True when nothing but a boot undoes the write of `value` to the sysctl file `where`."""
    name = where.removeprefix(_ROOM)
    return any(
        re.fullmatch(names, name) and re.fullmatch(values, value.strip())
        for names, values in _ONE_WAY.items()
    )


def restored_by_partner(where: str, value: str) -> bool:
    """True when the kernel shows `value` but takes it only by a write to the partner's file."""
    return _NO_VALUE.get(where.removeprefix(_ROOM)) == value.strip()


def forwards(where: str) -> bool:
    """True for a sysctl file that makes interfaces forward packets, one of them or all."""
    return _FORWARDS.fullmatch(where) is not None


def interface_of(where: str) -> str:
    """The interface whose own setting a sysctl file is; empty when it is none's."""
    match = _OF_INTERFACE.match(where)
    return "" if match is None or match[1] in ("all", "default") else match[1]


def _expand(tree: Tree, pattern: str) -> Iterator[str]:
    head, star, tail = pattern.partition("*")
    if not star:
        yield pattern
        return
    yield from (f"{head}{name}{tail}" for name in tree.names(head))
