"""What a command line of ethtool, tc, ip, ifconfig, modprobe or sysctl sets out to do.

All of them have a page in section 8 of the manual.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

PROGRAMS = ("ethtool", "tc", "ip", "ifconfig", "modprobe", "sysctl")


@dataclass(frozen=True)
class Intent:
    """A knob as values.py names it. `wanted` is None when the command line does not say a value."""

    knob: str
    wanted: str | None
    interface: str | None = None


_SETS = {
    "-L": "channels", "--set-channels": "channels", "-G": "rings", "--set-ring": "rings",
    "-C": "coalesce", "--coalesce": "coalesce", "-K": "features", "--features": "features",
    "--offload": "features", "-A": "pause", "--pause": "pause",
}  # fmt: skip

_FEATURES = {
    "rx": "rx-checksumming", "tx": "tx-checksumming", "sg": "scatter-gather",
    "tso": "tcp-segmentation-offload", "gso": "generic-segmentation-offload",
    "gro": "generic-receive-offload", "lro": "large-receive-offload", "rxvlan": "rx-vlan-offload",
    "txvlan": "tx-vlan-offload", "ntuple": "ntuple-filters", "rxhash": "receive-hashing",
}  # fmt: skip

_FIELDS = {
    "m": "L2DA", "v": "VLAN tag", "t": "L3 proto", "s": "IP SA", "d": "IP DA",
    "f": "L4 bytes 0 & 1 [TCP/UDP src port]", "n": "L4 bytes 2 & 3 [TCP/UDP dst port]",
}  # fmt: skip


def intents(argv: Sequence[str]) -> list[Intent]:
    """The settings that `argv` asks for; none for a command that only looks."""
    program, words = argv[0].rpartition("/")[2], list(argv[1:])
    read = {
        "ethtool": _ethtool, "tc": _tc, "ip": _ip, "ifconfig": _ifconfig, "modprobe": _modprobe,
        "sysctl": _sysctl,
    }  # fmt: skip
    return list(read[program](words)) if program in read else []


def named_interfaces(argv: Sequence[str]) -> list[str]:
    """Interfaces that a command line of these programs names, also one that only looks."""
    program, words = argv[0].rpartition("/")[2], list(argv[1:])
    if program == "ethtool":
        return words[1:2] if words[:1] and words[0].startswith("-") else words[:1]
    if program in ("tc", "ip"):
        name = _after(words, "dev") or (_link(words) if program == "ip" else None)
        return [name] if name else []
    if program == "ifconfig":
        return [word for word in words if not word.startswith("-")][:1]
    return []


def _ethtool(words: list[str]) -> Iterator[Intent]:
    if len(words) < 2 or not words[0].startswith("-"):
        return
    option, interface, rest = words[0], words[1], words[2:]
    start = f"ethtool/{interface}"
    if group := _SETS.get(option):
        for name, value in zip(rest[::2], rest[1::2], strict=False):
            yield Intent(f"{start}/{group}/{_name(group, name)}", value, interface)
    elif option in ("-X", "--set-rxfh-indir", "--rxfh"):
        yield from _rss(start, interface, rest)
    elif option in ("-N", "-U", "--config-nfc", "--config-ntuple") and rest[:1] == ["rx-flow-hash"]:
        fields = "; ".join(_FIELDS.get(letter, letter) for letter in "".join(rest[2:3]))
        yield Intent(f"{start}/flow-hash/{''.join(rest[1:2])}", fields, interface)
    elif re.fullmatch(r"-[sNUEfWP]|--set-.*|--change|--config-.*", option):
        yield Intent(f"{start}/{option.lstrip('-')}", None, interface)


def _name(group: str, name: str) -> str:
    """As ethtool shows it: the long names of features, and `rx-frame-low` for `rx-frames-low`."""
    if group == "coalesce" and name.endswith(("-low", "-high")):
        return name.replace("-frames-", "-frame-")
    return _FEATURES.get(name, name) if group == "features" else name


def _rss(start: str, interface: str, words: list[str]) -> Iterator[Intent]:
    """`hkey` names its value; what a table will be depends on its length in the device."""
    for i, word in enumerate(words):
        if word == "hkey":
            yield Intent(f"{start}/rss/key", "".join(words[i + 1 : i + 2]), interface)
        elif word in ("equal", "weight", "default"):
            yield Intent(f"{start}/rss/indirection", None, interface)
        elif word == "hfunc":
            yield Intent(f"{start}/rss/function", "".join(words[i + 1 : i + 2]), interface)


def _tc(words: list[str]) -> Iterator[Intent]:
    if words[:1] not in (["qdisc"], ["q"]) or len(words) < 2:
        return
    verb, interface = words[1], _after(words, "dev")
    if interface is None or verb in ("show", "list", "ls"):
        return
    parent = "root" if "root" in words else (_after(words, "parent") or "root")
    rest = words[words.index(parent) + 1 :] if parent in words else []
    if rest[:1] == ["handle"]:
        rest = rest[2:]
    wanted = None if verb in ("del", "delete") else " ".join(rest) or None
    yield Intent(f"tc/{interface}/{parent}", wanted, interface)


def _ip(words: list[str]) -> Iterator[Intent]:
    yield from _route(words)
    interface = _link(words)
    if interface is None:
        return
    yield from _link_files(interface, words)


def _ifconfig(words: list[str]) -> Iterator[Intent]:
    for interface in named_interfaces(["ifconfig", *words]):
        yield from _link_files(interface, words)


def _link_files(interface: str, words: list[str]) -> Iterator[Intent]:
    files = {"mtu": "mtu", "txqueuelen": "tx_queue_len", "qlen": "tx_queue_len"}
    for word, file in files.items():
        if value := _after(words, word):
            yield Intent(f"/sys/class/net/{interface}/{file}", value, interface)


def _route(words: list[str]) -> Iterator[Intent]:
    """`ip [-6] route change default via 10.0.2.2 initcwnd 10`: what is asked of a destination."""
    plain = [word for word in words if not word.startswith("-")]
    if len(plain) < 3 or not "route".startswith(plain[0]):
        return
    verb, rest = plain[1], plain[2:]
    if not any(one.startswith(verb) for one in ("add", "append", "change", "replace", "delete")):
        return
    if rest[0] == "to":
        rest = rest[1:]
    several = "nexthop" in rest  # shown as lines of their own
    wanted = None if several or "delete".startswith(verb) else " ".join(rest[1:])
    room = "route6" if "-6" in words or ":" in rest[0] else "route"
    if table := _after(rest, "table"):  # only the main one is in a snapshot
        room = f"{room}/table {table}"
    destination = "default" if rest[0] in ("0.0.0.0/0", "::/0") else rest[0].removesuffix("/32")
    yield Intent(f"{room}/{destination}", wanted, _after(rest, "dev"))


def _link(words: list[str]) -> str | None:
    """The interface of `ip link set [dev] IF ...`, or of `ip link set mtu 9000 dev IF`."""
    plain = [word for word in words if not word.startswith("-")]
    if len(plain) > 2 and "link".startswith(plain[0]) and plain[1] in ("set", "s"):
        return _after(plain, "dev") or plain[2]
    return None


def _modprobe(words: list[str]) -> Iterator[Intent]:
    names = [word for word in words if not word.startswith("-")]
    if names and "-r" not in words and "--remove" not in words:
        yield Intent(f"module/{names[0].replace('-', '_')}", "loaded")


def _sysctl(words: list[str]) -> Iterator[Intent]:
    """`-w` may be left out. Values that it writes from a file show in its writes."""
    for word in words:
        name, equals, value = word.partition("=")
        if equals and not name.startswith("-"):
            yield Intent(sysctl_path(name.strip()), value.strip())


def sysctl_sets(argv: Sequence[str]) -> bool:
    """Whether a command line of sysctl sets anything: `-n KEY`, which asks for one, does not."""
    if any("=" in word and not word.startswith("-") for word in argv[1:]):
        return True
    short = "".join(word[1:] for word in argv[1:] if re.fullmatch(r"-[a-zA-Z]+", word))
    long = {word.partition("=")[0] for word in argv[1:]}
    return not {*short}.isdisjoint("wpf") or not long.isdisjoint(("--write", "--load", "--system"))


def sysctl_path(name: str) -> str:
    """`net.ipv4.tcp_rmem` and `net/ipv4/tcp_rmem` as a file. The first separator decides which.

    In the dotted form a slash stands for a dot of an interface's name (sysctl(8)).
    """
    first = next((char for char in name if char in "./"), ".")
    if first == ".":
        name = name.translate(str.maketrans("./", "/."))
    return f"/proc/sys/{name}"


def _after(words: Sequence[str], word: str) -> str | None:
    """The word that follows `word`."""
    place = words.index(word) + 1 if word in words else len(words)
    return words[place] if place < len(words) else None
