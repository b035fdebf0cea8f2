"""Server specs: the strings by which matrices and verbs name servers, and what they may name.

A server is named by a spec: `peer:nginx`, `engine:epoll`, `engine:epoll,cache=memory`; a `*` in
the place of the name stands for every peer or every engine that plays the matrix's role (with
options: for every such engine that has them). An option's value may be an axis: braces list values
as they do in a shell, `engine:sendfile,chunk={64KiB,2MiB}` is two servers, and several lists mean
every combination. `build:NAME/engine:...` is one of another build. In
role copy specs are `technique:mmap`, or `technique:mmap,to=mapping`, with the same `*`. What this
machine cannot run stays in the plan as an unsupported server with its reason, and so does an engine
named for a role it has not; a name that does not exist at all is an error.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from iolab.describe import CopyDescribe, Describe, Engine, Technique
from iolab.errors import InputError, did_you_mean
from iolab.model import Role, Server


@dataclass(frozen=True)
class PeerOffer:
    """A known peer: the roles it plays, and the reason it cannot run here (None: it can)."""

    roles: tuple[Role, ...]
    lacks: str | None = None


def _no_copier() -> CopyDescribe:
    raise InputError("role copy: techniques are not known here")


def _no_profiles(name: str) -> tuple[str, ...]:
    raise InputError(f"profile {name!r}: profiles are not known here")


@dataclass(frozen=True)
class Offer:
    """What this machine offers: the engines of the build, the peers and other builds by name.

    `copier` says what techniques of copying there are: asked only when a matrix names one, for the
    answer takes a trial of each. `knobs` gives the keys of what a tuning profile sets; InputError
    when there is none of that name.
    """

    describe: Describe
    peers: Mapping[str, PeerOffer]
    copier: Callable[[], CopyDescribe] = _no_copier
    builds: Mapping[str, Describe] = field(default_factory=dict)
    knobs: Callable[[str], Sequence[str]] = _no_profiles


_WHAT_IS_NAMED = {
    False: "a server is 'engine:NAME[,option=value...]' or 'peer:NAME', and NAME may be '*'; "
    "'build:BUILD/engine:...' is one of another build",
    True: "in role copy a technique is 'technique:NAME[,option=value...]', and NAME may be '*'",
}


MAX_COMBINATIONS = 64
"""Servers that the lists of one spec may mean: each is a process, and a slice in every block."""


def parse_server(spec: str, offer: Offer, role: Role, place: str = "server") -> tuple[Server, ...]:
    """The servers that one spec names in `role`; InputError starts with `place` when none.

    Lists of values are expanded first, the last one varying fastest.
    """
    found = [
        server
        for one in expand_lists(spec, place)
        for server in _parse_one(one, offer, role, place)
    ]
    return tuple(dict.fromkeys(found))


def expand_lists(spec: str, place: str = "server") -> tuple[str, ...]:
    """`spec` once for each combination of the values in its lists, itself when it has none.

    A list stands in the value of an option, as all of it or as a part: `batch={1,8}`,
    `chunk={64,256}KiB`. InputError starts with `place` and names the option.
    """
    parts = _split_lists(spec, place)
    if "{" not in spec and "}" not in spec:
        return (spec,)
    axes = [_axis(part, at, spec, place) for at, part in enumerate(parts)]
    nr = math.prod(len(axis) for axis in axes)
    if nr > MAX_COMBINATIONS:
        sizes = [f"{_key(axis[0])} {len(axis)}" for axis in axes if len(axis) > 1]
        raise InputError(
            f"{place}: {spec!r}: {nr} combinations of values ({', '.join(sizes)}), at most "
            f"{MAX_COMBINATIONS} are allowed: list fewer, or vary one option at a time in specs "
            "of their own"
        )
    return tuple(",".join(chosen) for chosen in itertools.product(*axes))


def _split_lists(spec: str, place: str) -> list[str]:
    """`spec` at the commas that stand outside of braces; InputError when these do not match."""
    parts, inside = [""], False
    for char in spec:
        if char == "," and not inside:
            parts.append("")
            continue
        parts[-1] += char
        if char not in "{}":
            continue
        if inside == (char == "{"):
            wrong = "a list within a list" if inside else "a '}' without its '{'"
            raise InputError(f"{place}: {spec!r}: {_key(parts[-1])}: {wrong}; {_LIST_FORM}")
        inside = not inside
    if inside:
        raise InputError(f"{place}: {spec!r}: {_key(parts[-1])}: '}}' is missing; {_LIST_FORM}")
    return parts


_LIST_FORM = "a list of values is 'option={value,value}'"


def _key(part: str) -> str:
    """What messages call a part of a spec: its option, or the part itself."""
    return part.partition("=")[0]


def _axis(part: str, at: int, spec: str, place: str) -> list[str]:
    """What `part`, number `at` of its spec's parts, stands for: itself with each listed value."""
    key, equals, _ = part.partition("=")
    if "{" in part and (at == 0 or not equals or "{" in key):
        raise InputError(
            f"{place}: {spec!r}: only values of options can be listed, {_LIST_FORM}; give what "
            "else differs a spec of its own"
        )
    pieces = re.split(r"\{([^}]*)\}", part)  # the odd ones stood in braces
    axes = [piece.split(",") if at % 2 else [piece] for at, piece in enumerate(pieces)]
    for values in axes[1::2]:
        if "" in values:
            raise InputError(f"{place}: {spec!r}: {key}: an empty value in its list")
        twice = [value for value in dict.fromkeys(values) if values.count(value) > 1]
        if twice:
            raise InputError(f"{place}: {spec!r}: {key}: {twice[0]!r} is listed twice")
    return ["".join(chosen) for chosen in itertools.product(*axes)]


def _parse_one(spec: str, offer: Offer, role: Role, place: str) -> tuple[Server, ...]:
    """The servers of a spec without lists."""
    kind, colon, rest = spec.partition(":")
    kinds = ("technique",) if role == "copy" else ("engine", "peer")
    if kind == "build" and colon and role != "copy":
        return _of_build(spec, rest, offer, role, place)
    if not colon or kind not in kinds:
        raise InputError(f"{place}: {spec!r}: {_WHAT_IS_NAMED[role == 'copy']}")
    name, *pairs = rest.split(",")
    options = _options(pairs, spec, place)
    if kind == "technique":
        return _techniques(name, options, offer.copier(), place)
    if kind == "peer":
        return _peers(name, options, offer, role, place)
    if name == "*":
        return _every_engine(options, offer, role, place)
    engine = offer.describe.engine(name)
    if engine is None:
        names = [known.name for known in offer.describe.engines]
        raise InputError(f"{place}: unknown engine {name!r}: {did_you_mean(name, names)}")
    return (_engine_server(engine, options, role, place),)


def _of_build(spec: str, rest: str, offer: Offer, role: Role, place: str) -> tuple[Server, ...]:
    """The servers of `build:NAME/engine:...`, their options checked against that build."""
    build, slash, inner = rest.partition("/")
    if not slash or not inner.startswith("engine:"):
        raise InputError(f"{place}: {spec!r}: a server of a build is 'build:NAME/engine:...'")
    if build not in offer.builds:
        raise InputError(
            f"{place}: {spec!r}: unknown build {build!r}: {did_you_mean(build, offer.builds)}"
        )
    theirs = Offer(offer.builds[build], offer.peers)
    return tuple(replace(server, build=build) for server in _parse_one(inner, theirs, role, place))


def _options(pairs: Sequence[str], spec: str, place: str) -> tuple[tuple[str, str], ...]:
    """The `option=value` parts of a spec, in the order given."""
    options: dict[str, str] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key:
            raise InputError(f"{place}: {spec!r}: {pair!r} is not option=value")
        if key in options:
            raise InputError(f"{place}: {spec!r}: option {key!r} is given twice")
        options[key] = value
    return tuple(options.items())


def _peers(
    name: str, options: tuple[tuple[str, str], ...], offer: Offer, role: Role, place: str
) -> tuple[Server, ...]:
    if options:
        raise InputError(f"{place}: peer:{name}: a peer takes no options, its TOML file sets it up")
    able = sorted(known for known, peer in offer.peers.items() if role in peer.roles)
    if name == "*":
        return tuple(Server("peer", known, (), offer.peers[known].lacks) for known in able)
    if name not in offer.peers:
        raise InputError(f"{place}: unknown peer {name!r}: {did_you_mean(name, offer.peers)}")
    if name not in able:
        raise InputError(
            f"{place}: peer:{name}: it does not play role {role}; those that do: "
            f"{', '.join(able) or 'none'}"
        )
    return (Server("peer", name, (), offer.peers[name].lacks),)


def _every_engine(
    options: tuple[tuple[str, str], ...], offer: Offer, role: Role, place: str
) -> tuple[Server, ...]:
    """Every engine that plays `role`, with `options` every one that has all of them."""
    servers = [
        _engine_server(engine, options, role, place)
        for engine in offer.describe.engines
        if engine.plays(role) and all(engine.option(key) for key, _ in options)
    ]
    if not servers:
        keys = ", ".join(key for key, _ in options)
        tail = f" and has the option {keys}" if keys else ""
        raise InputError(f"{place}: no engine plays role {role}{tail}")
    return tuple(servers)


def _techniques(
    name: str, options: tuple[tuple[str, str], ...], copier: CopyDescribe, place: str
) -> tuple[Server, ...]:
    """The techniques of that name; `*` with options is every one that has all of them."""
    known = [technique.name for technique in copier.techniques]
    if name == "*":
        able = [t for t in copier.techniques if all(t.option(key) for key, _ in options)]
        if not able:
            keys = ", ".join(key for key, _ in options)
            raise InputError(f"{place}: no technique has the option {keys}")
        return tuple(_technique_server(one, options, place) for one in able)
    found = copier.technique(name)
    if found is None:
        raise InputError(f"{place}: unknown technique {name!r}: {did_you_mean(name, known)}")
    return (_technique_server(found, options, place),)


def _technique_server(
    technique: Technique, options: tuple[tuple[str, str], ...], place: str
) -> Server:
    """A technique with its options, which are checked against what the build declares."""
    refusals = technique.check_options(options, f"{place}: technique:{technique.name}")
    reason = technique.verdict or next(iter(refusals), None)
    return Server("technique", technique.name, options, reason)


def _engine_server(
    engine: Engine, options: tuple[tuple[str, str], ...], role: Role, place: str
) -> Server:
    """The server of an engine, its options checked against what the build declares."""
    engine.check_options(options, f"{place}: engine:{engine.name}")
    reason = engine.verdict
    if role not in engine.roles:
        reason = f"it does not play role {role}: it moves bytes from {', '.join(engine.sources)}"
    return Server("engine", engine.name, options, reason)
