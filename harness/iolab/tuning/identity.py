"""What tells a namespace and an interface from later ones of their names.

Names are used again: a namespace of the same name may be another one, `eth0` may be another device,
and the device that was tuned may be called otherwise or be elsewhere by now. The journal keeps the
cookie of each namespace (SO_NETNS_COOKIE) and, of each interface, its index, which belongs to it
for as long as it lives in its namespace and survives renaming (netdevice(7)), its place on the bus,
and its address. A revert finds what was written again, or says that it is gone.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from iolab.errors import IolabError
from iolab.tuning import couplings
from iolab.tuning.host import Host, Tree
from iolab.tuning.knob import Gone, KnobError, Target
from iolab.tuning.netns import NAMED

_OF_INTERFACE = re.compile(r"(?P<room>proc/sys/net/ip(?:v4|v6)/(?:conf|neigh)/)(?P<name>[^/]+)/")
_WHOLE_HOST = ("limits", "irq", "irqbalance")
"""Families whose `device` is no interface, or whose values stay when the interface goes."""


FoundT = TypeVar("FoundT")
_LOST_BY_MOVING = ("sysctl", "qdisc")
"""What an interface gets anew in another namespace (dev_change_net_namespace, net/core/dev.c)."""


@dataclass(frozen=True)
class Device:
    """An interface. `bus` is its device below /sys/devices, empty for a virtual one."""

    ifindex: str
    bus: str
    address: str


@dataclass(frozen=True)
class Identity:
    """The namespaces and interfaces of a journal. `devices` has namespace and name for keys.

    The namespace that iolab ran in has the empty name.
    """

    cookies: dict[str, str] = field(default_factory=dict)
    devices: dict[tuple[str, str], Device] = field(default_factory=dict)

    def document(self) -> dict[str, Any]:
        """For the journal's first line."""
        devices = [
            {"netns": netns, "name": name, **asdict(device)}
            for (netns, name), device in self.devices.items()
        ]
        return {"cookies": self.cookies, "devices": devices}

    @classmethod
    def of_document(cls, document: dict[str, Any]) -> Identity:
        """The opposite of `document`."""
        devices = {
            (one.pop("netns"), one.pop("name")): Device(**one)
            for one in map(dict, document.get("devices", []))
        }
        return cls(document["cookies"], devices)


def identify(host: Host, targets: Iterable[Target]) -> Identity:
    """Who the namespaces and interfaces of these targets are, now."""
    identity = Identity({"": host.cookie("")})
    for target in targets:
        netns, name = target.netns, interface_of(target)
        if netns not in identity.cookies:
            identity.cookies[netns] = host.cookie(netns)
        device = _device(host.tree(netns), name) if name else None
        if device is not None:
            identity.devices[netns, name] = device
    return identity


def interface_of(target: Target) -> str:
    """The interface whose value this is; empty for what goes with no interface."""
    if target.family in _WHOLE_HOST:
        return ""
    return couplings.interface_of(target.where) or target.device


def lives_in_namespace(target: Target) -> bool:
    """True for what each network namespace has of its own, or may have."""
    return bool(interface_of(target)) or target.where.startswith("proc/sys/net/")


def require_own_namespace(host: Host, identity: Identity, targets: Iterable[Target]) -> None:
    """IolabError when iolab runs in another namespace than the one it tuned as its own.

    Not when that is gone: see Finder.
    """
    then = identity.cookies.get("", "")
    if not any(lives_in_namespace(one) and not one.netns for one in targets):
        return
    if then in ("", host.cookie("")):
        return
    place = _find_namespace(host, then)
    if place is not None:
        raise IolabError(
            "it was applied from within another network namespace, whose values are not those here",
            f"{_enter_command(place)} iolab tune revert",
        )


class Finder:
    """Finds the targets of a journal where they are now; asks the host once for each place."""

    def __init__(self, host: Host, identity: Identity) -> None:
        self._host = host
        self._identity = identity
        self._namespaces: dict[str, str | KnobError] = {}
        self._devices: dict[tuple[str, str], tuple[str, str] | KnobError] = {}

    def find(self, target: Target) -> Target:
        """The target under its names of now.

        Gone when its namespace or interface is no more, and the value with it; KnobError when it
        lives on where it cannot be reached from here.
        """
        if not lives_in_namespace(target):
            return target
        name = interface_of(target)
        if not name:
            return replace(target, netns=self._namespace(target.netns))
        key = (target.netns, name)
        if key not in self._devices:
            self._devices[key] = _kept(lambda: self._interface(*key))
        netns, here = _or_raise(self._devices[key])
        if target.family in _LOST_BY_MOVING and netns != self._namespace(target.netns):
            raise Gone(f"interface {name} is in another network namespace, which gave it new ones")
        return renamed(target, netns, here)

    def _namespace(self, then: str) -> str:
        """The name of now of a namespace."""
        if then not in self._namespaces:
            self._namespaces[then] = _kept(lambda: self._look_for_namespace(then))
        return _or_raise(self._namespaces[then])

    def _look_for_namespace(self, then: str) -> str:
        cookie = self._identity.cookies.get(then, "")
        try:
            if cookie in ("", self._host.cookie(then)):
                self._host.tree(then)
                return then
        except KnobError:  # gone, or a file is left where it was mounted
            if not cookie:
                raise
        place = _find_namespace(self._host, cookie)
        named = f"network namespace {then}" if then else "the network namespace of then"
        if place is None:
            raise Gone(f"{named} is gone")
        if place.parent != NAMED:
            raise KnobError(f"{named} has no name now but lives on: {place}")
        return place.name

    def _interface(self, then: str, name: str) -> tuple[str, str]:
        """Namespace and name of now of an interface."""
        device = self._identity.devices.get((then, name))
        try:
            netns = self._namespace(then)
        except Gone:
            if device is None or not device.bus:
                raise
            # What is on a bus outlives its namespace, in the first one (default_device_exit_net).
            return self._elsewhere(name, device, None)
        tree = self._host.tree(netns)
        if device is None:
            if tree.exists(f"sys/class/net/{name}"):
                return netns, name
            raise Gone(f"interface {name} is gone")
        for here in (name, *tree.names("sys/class/net")):
            found = _device(tree, here)
            if found and (found.ifindex, found.bus) == (device.ifindex, device.bus):
                return netns, here
        return self._elsewhere(name, device, netns)

    def _elsewhere(self, name: str, device: Device, netns: str | None) -> tuple[str, str]:
        """An interface that left its namespace; one on a bus by its place there, others by address.

        The index may have changed on the way (dev_change_net_namespace, net/core/dev.c). One that
        is found on the bus in its old namespace was made anew, by its driver: see there.
        """
        for there in ("", *self._host.namespaces()):
            if there == netns:
                continue
            tree = self._tree(there)
            for here in tree.names("sys/class/net") if tree is not None else []:
                found = _device(tree, here) if tree is not None else None
                if found is not None and _same_elsewhere(found, device):
                    return there, here
        anew = netns is not None and self._made_anew(device, netns)
        if device.bus and not anew and self._has_driver(device):
            raise KnobError(
                f"interface {name} is in a network namespace without a name",
                "bring it back (ip link set IF netns ...), then iolab tune revert",
            )
        raise Gone(f"interface {name} (index {device.ifindex}) is gone")

    def _made_anew(self, device: Device, netns: str) -> bool:
        """True when another interface of the same device is where that one was."""
        tree = self._host.tree(netns)
        found = (_device(tree, here) for here in tree.names("sys/class/net"))
        return any(one is not None and one.bus == device.bus for one in found)

    def _has_driver(self, device: Device) -> bool:
        """True while a driver serves the device, which then has an interface somewhere."""
        return self._host.tree().exists(f"{device.bus}/driver")

    def _tree(self, netns: str) -> Tree | None:
        try:
            return self._host.tree(netns)
        except IolabError:  # gone meanwhile, or not ours to enter
            return None


def renamed(target: Target, netns: str, name: str) -> Target:
    """The same value of an interface that is called `name` and is in `netns` now."""
    old = interface_of(target)
    where = _OF_INTERFACE.sub(lambda found: f"{found['room']}{name}/", target.where, count=1)
    prefix = f"sys/class/net/{old}/"
    if where.startswith(prefix):
        where = f"sys/class/net/{name}/{where.removeprefix(prefix)}"
    return replace(target, where=where, device=name if target.device else "", netns=netns)


def _kept(look: Callable[[], FoundT]) -> FoundT | KnobError:
    """What is found, or why it is not, to be remembered."""
    try:
        return look()
    except KnobError as error:
        return error


def _or_raise(found: FoundT | KnobError) -> FoundT:
    if isinstance(found, KnobError):
        raise found
    return found


def _same_elsewhere(found: Device, device: Device) -> bool:
    if device.bus or found.bus:
        return found.bus == device.bus
    return found.address == device.address and device.address.strip("0:") != ""


def _device(tree: Tree, name: str) -> Device | None:
    """None when there is no such interface."""
    place = f"sys/class/net/{name}"
    try:
        bus = tree.real(f"{place}/device") if tree.exists(f"{place}/device") else ""
        return Device(tree.read(f"{place}/ifindex"), bus, tree.read(f"{place}/address"))
    except OSError:
        return None


def _find_namespace(host: Host, cookie: str) -> Path | None:
    """See Host.find_namespace; KnobError when some cannot be looked into."""
    try:
        return host.find_namespace(cookie)
    except OSError as error:
        raise KnobError(
            f"the network namespace it was applied in cannot be looked for: {error}", "as root?"
        ) from error


def _enter_command(place: Path) -> str:
    return f"ip netns exec {place.name}" if place.parent == NAMED else f"nsenter --net={place}"
