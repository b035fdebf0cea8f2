"""What sets the circumstances of two runs apart, from their manifests. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from iolab.model import Server
from iolab.plain import plain

# Group -> the places in a manifest that belong to it. A place that is a table is compared key by
# key. What is not named here changes from run to run and says nothing: times, quietness, outcomes.
GROUPS: Mapping[str, tuple[str, ...]] = {
    "host": ("host.hostname", "host.machine", "host.virtual", "host.memory_kib"),
    "kernel": ("host.kernel", "host.kernel_version", "host.kernel_cmdline", "host.clocksource"),
    "CPU": ("host.cpu", "host.numa"),
    "mitigations": ("host.mitigations",),
    "governor": ("host.governor", "host.boost", "host.frequency"),
    "NIC": ("host.nic",),
    "sysctls": ("host.sysctls", "host.transparent_hugepage"),
    "tuning": ("profiles",),
    "system": ("host.os", "host.privileged"),
    "compiler": ("compiler",),
    "flags": ("cflags", "build_type"),
    "versions": ("tools",),
    "placement": ("cpus.server", "cpus.client", "testbed", "memory_limit"),
    "measuring": ("plan.slice_ms", "plan.warmup_ms", "plan.role", "plan.share_connections"),
    "commit": ("git.commit", "git.dirty", "builds", "binaries"),
}

HOST = ("host.hostname", "host.machine", "host.cpu.model", "host.cpu.online", "host.virtual")
"""What makes a host: when one of these differs, it is another one."""


_BUILD = ("compiler", "flags", "commit")
"""The groups that make programs of ours what they are."""


@dataclass(frozen=True)
class Difference:
    """A place at which two manifests differ; None where one of them has nothing."""

    group: str
    key: str
    base: Any
    new: Any


def differences(base: Mapping[str, Any], new: Mapping[str, Any]) -> list[Difference]:
    """Every difference of the circumstances, in the order of GROUPS."""
    base, new = _by_name(base), _by_name(new)
    found = []
    for group, places in GROUPS.items():
        for place in places:
            found += list(_compare(group, place, _dig(base, place), _dig(new, place)))
    return found


def other_host(base: Mapping[str, Any], new: Mapping[str, Any]) -> list[Difference]:
    """Why these are runs of different hosts, [] when they are of one."""
    found: list[Difference] = []
    for place in HOST:
        found += _compare("host", place, _dig(base, place), _dig(new, place))
    return found


def other_yardstick(
    baseline: Server, base: Mapping[str, Any], new: Mapping[str, Any]
) -> str | None:
    """How the baseline of one run differs from that of the other, None when it is the same.

    A peer is another one in another version. What is ours is the same while its binary is, whatever
    the commit; of manifests without that, while commit, compiler and flags are, and nothing that
    was measured is in no commit.
    """
    program = "iolab-copy" if baseline.kind == "technique" else "iolab-server"
    peer = baseline.kind == "peer"
    place = f"tools.{baseline.name}" if peer else f"binaries.{program}"
    before, after = _dig(base, place), _dig(new, place)
    if peer or None not in (before, after):
        return None if before == after else f"{place}: {str(before)[:40]} and {str(after)[:40]}"
    found = [one for one in differences(base, new) if one.group in _BUILD]
    words = [f"{one.key}: {one.base} and {one.new}" for one in found]
    if not words and (_dig(base, "git.dirty") or _dig(new, "git.dirty")):
        words.append("built with changes that are in no commit")
    return "; ".join(words) or None


def _by_name(manifest: Mapping[str, Any]) -> Mapping[str, Any]:
    """A manifest whose applied profiles are tables, so that they are compared knob by knob.

    What counts is the value that was in force; None where the host lacks the knob. A run without
    profiles has none of them, whether its manifest says so or not.
    """
    found = {
        f"{one.get('profile')}@{one.get('testbed')}": {
            str(knob.get("knob")): knob.get("effective") for knob in one.get("knobs") or ()
        }
        for one in manifest.get("profiles") or ()
    }
    return {**manifest, "profiles": found}


def _compare(group: str, key: str, base: Any, new: Any) -> Iterator[Difference]:
    if isinstance(base, Mapping) and isinstance(new, Mapping):
        for name in sorted(base.keys() | new.keys()):
            yield from _compare(group, f"{key}.{name}", base.get(name), new.get(name))
    elif plain(base) != plain(new):  # what was just collected holds tuples, what was stored lists
        yield Difference(group, key, base, new)


def _dig(document: Mapping[str, Any], place: str) -> Any:
    value: Any = document
    for key in place.split("."):
        value = value.get(key) if isinstance(value, Mapping) else None
    return value
