"""From a trial's knobs to a profile for a network namespace of this host. Pure.

Of what a script set in the guest, a namespace with a veth device has a part: sysctls below net/,
the root discipline, features and single files of an interface. Masks of CPUs and counts of queues
mean the guest's; they are taken over where this machine is like it, and said to be otherwise.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from iolab.trial.values import cpus, queues
from iolab.trial.verdict import KnobVerdict, Outcome, Verdict, display
from iolab.tuning.cpus import format_list
from iolab.tuning.profile import Loaded, Profile, is_nic_file

TOOK = frozenset({Outcome.CHANGED, Outcome.NOTHING, Outcome.CLAMPED, Outcome.INERT})
"""Outcomes of knobs that the script left with a value of its own choice."""

_ETHTOOL = {
    "channels": "the testbed gives its device a queue for each CPU",
    "rings": "a veth device has no rings of descriptors",
    "coalesce": "a veth device has no interrupts to coalesce",
    "rss": "a veth device hashes nothing for its queues",
    "flow-hash": "a veth device hashes nothing for its queues",
    "pause": "a veth device has no flow control",
}


@dataclass(frozen=True)
class Machine:
    """What masks and numbers of queues are about: CPUs on line, queues of the interface."""

    cpus: frozenset[int]
    rx: int
    tx: int


@dataclass(frozen=True)
class Key:
    """A key of a profile and its value: `("nic", "files")`, `tx_queue_len`, `2000`."""

    table: tuple[str, ...]
    name: str
    value: str | bool

    @property
    def dotted(self) -> str:
        """As settings name it."""
        return ".".join((*self.table, self.name))

    @property
    def text(self) -> str:
        """The value as people write it."""
        return (
            {True: "on", False: "off"}[self.value] if isinstance(self.value, bool) else self.value
        )


@dataclass(frozen=True)
class Part:
    """A knob of the script and its part in a measurement.

    `key` is None when it has none, and `reason` says why; otherwise `reason` is what a reader must
    know of it all the same.
    """

    knob: str
    value: str | None
    key: str | None
    reason: str = ""


@dataclass(frozen=True)
class Transfer:
    """What of a script goes to a namespace. `keys` are those of `parts` that take part."""

    parts: tuple[Part, ...]
    keys: Mapping[str, Key] = field(default_factory=dict)

    def without(self, reasons: Mapping[str, str]) -> Transfer:
        """The same without the keys of `reasons`, which say why."""
        parts = tuple(
            replace(one, key=None, reason=reasons[one.key])
            if one.key is not None and one.key in reasons
            else one
            for one in self.parts
        )
        return Transfer(
            parts, {name: key for name, key in self.keys.items() if name not in reasons}
        )

    def loaded(self, name: str, summary: str) -> Loaded:
        """The profile, under a name for cells and messages."""
        document: dict[str, Any] = {"summary": summary}
        for key in self.keys.values():
            table = document
            for word in key.table:
                table = table.setdefault(word, {})
            table[key.name] = key.value
        files = dict.fromkeys(self.keys, name)
        return Loaded(name=name, profile=Profile.model_validate(document), files=files)


def guest_machine(values: Mapping[str, str], interface: str) -> Machine:
    """The machine of a snapshot (values.flatten)."""
    online = frozenset(cpus(values, "online"))
    return Machine(online, queues(values, interface, "rx"), queues(values, interface, "tx"))


def transfer(
    verdict: Verdict, interface: str, guest: Machine, here: Machine, device: str
) -> Transfer:
    """What of a script's knobs can be set on `device`, the end of a veth pair in a namespace.

    `interface` is the one that the script was meant for. Values that merely followed from others
    (`changed something else`) are no knobs of the script and are not listed.
    """
    mine = [one for one in verdict.knobs if one.outcome is not Outcome.SIDE_EFFECT]
    mover = _Mover(interface, guest, here, device, _disciplines(mine, interface, guest))
    parts: list[Part] = []
    keys: dict[str, Key] = {}
    for one in mine:
        found: Key | str = f"{one.outcome} in the trial"
        if one.outcome in TOOK:
            found = _checked(mover.key(one))
        if isinstance(found, Key):
            keys[found.dotted] = found
            parts.append(Part(display(one.knob), found.text, found.dotted))
        else:
            parts.append(Part(display(one.knob), one.wanted or _value(one), None, found))
    return Transfer(tuple(parts), keys)


def _checked(found: Key | str) -> Key | str:
    """Names and values go as far as profiles can say them."""
    if isinstance(found, Key):
        try:
            Transfer((), {found.dotted: found}).loaded("", "")
        except ValueError as error:
            return f"no profile can say it: {str(error).splitlines()[2].strip()}"
    return found


def _value(one: KnobVerdict) -> str | None:
    """What the script leaves: as the kernel spells it, and as asked where it made another of it."""
    chosen = one.wanted if one.outcome is Outcome.CLAMPED else one.after
    return None if chosen is None else " ".join(chosen.split())


@dataclass(frozen=True)
class _Mover:
    """Finds the key of a knob, or says why there is none."""

    interface: str
    guest: Machine
    here: Machine
    device: str
    disciplines: str | None
    """The discipline below mq that all of the guest's queues were given, as `mq/fq`."""

    def key(self, one: KnobVerdict) -> Key | str:
        room, _, rest = one.knob.lstrip("/").partition("/")
        if one.knob.startswith("/proc/sys/"):
            return self._sysctl(one)
        if one.knob.startswith("/sys/class/net/"):
            return self._file(one)
        if room == "ethtool":
            return self._ethtool(one, rest)
        if room == "tc":
            return self._qdisc(one, rest)
        if room == "module":
            return "a module is the whole host's"
        if room == "limit":
            return "a limit is a process's own"
        if one.knob.startswith("/proc/irq/"):
            return "a veth device has no interrupts"
        if one.knob.startswith(("/sys/", "/proc/")):
            return "it belongs to the whole host"
        return "iolab knows no such knob"

    def _other(self, name: str) -> str | None:
        """Why an interface of the guest is not the testbed's; None when it is."""
        if name == self.interface:
            return None
        return f"of interface {name}, which the testbed has not"

    def _sysctl(self, one: KnobVerdict) -> Key | str:
        path = one.knob.removeprefix("/proc/sys/")
        if not path.startswith("net/"):
            return "it belongs to the whole host"
        match = re.match(r"(net/\w+/(?:conf|neigh)/)([^/]+)(/.*)", path)
        if match and match[2] not in ("all", "default", "lo"):
            if other := self._other(match[2]):
                return other
            path = f"{match[1]}{self.device}{match[3]}"
        value = _value(one)
        return (
            "its value cannot be told" if value is None else Key(("sysctl",), _dotted(path), value)
        )

    def _file(self, one: KnobVerdict) -> Key | str:
        name, _, file = one.knob.removeprefix("/sys/class/net/").partition("/")
        value = _value(one)
        if other := self._other(name):
            return other
        if not is_nic_file(file):
            return "iolab knows no such file of an interface"
        if value is None:
            return "its value cannot be told"
        return self._unlike(file) or Key(("nic", "files"), file, value)

    def _unlike(self, file: str) -> str | None:
        """Why a value made for the guest's CPUs and queues means something else here."""
        guest, here = self.guest, self.here
        if file.endswith(("rps_cpus", "xps_cpus")) and guest.cpus != here.cpus:
            return (
                f"a mask made for CPUs {format_list(guest.cpus)} of the guest; this host has "
                f"{format_list(here.cpus)}"
            )
        if file.startswith("queues/") and (guest.rx, guest.tx) != (here.rx, here.tx):
            return (
                f"made for an interface of {guest.rx} receive and {guest.tx} transmit queues; the "
                f"testbed's has {here.rx} and {here.tx}"
            )
        return None

    def _ethtool(self, one: KnobVerdict, rest: str) -> Key | str:
        name, _, setting = rest.partition("/")
        group, _, feature = setting.partition("/")
        if other := self._other(name):
            return other
        value = _value(one)
        if group == "features" and value in ("on", "off"):
            return Key(("nic", "offloads"), feature, value == "on")
        return _ETHTOOL.get(group, "iolab knows no such setting of ethtool")

    def _qdisc(self, one: KnobVerdict, rest: str) -> Key | str:
        name, _, parent = rest.partition("/")
        if other := self._other(name):
            return other
        if one.wanted is None:
            return "no discipline is set by it"
        kind, _, options = one.wanted.partition(" ")
        if options:
            return f"{kind} with options: only its default form can be set and undone exactly"
        if parent == "root" and kind != "mq":
            return Key(("nic",), "qdisc", kind)
        if self.disciplines is None:
            return "not one discipline for all of the guest's queues"
        return Key(("nic",), "qdisc", self.disciplines)


def _disciplines(knobs: Sequence[KnobVerdict], interface: str, guest: Machine) -> str | None:
    """`mq/fq` when each of the guest's transmit queues was given fq, without options."""
    children = re.compile(rf"tc/{re.escape(interface)}/[0-9a-f]*:[0-9a-f]+")
    kinds = Counter(
        one.wanted for one in knobs if children.fullmatch(one.knob) and one.outcome in TOOK
    )
    if len(kinds) != 1:
        return None
    ((kind, count),) = kinds.items()
    return f"mq/{kind}" if kind and " " not in kind and count == guest.tx else None


def _dotted(path: str) -> str:
    """A path below /proc/sys as sysctl(8) has it: dots of an interface's name become slashes."""
    return path.translate(str.maketrans("./", "/."))
