"""What of a script's knobs a network namespace of this host takes: the kernel is asked, not told.

The namespace is one that was made for the question. What it lacks is left out first, then the rest
is set there and read back: only a value that took can make a difference.

Two values load a module when they are set, a congestion control (tcp_ca_find_autoload,
net/ipv4/tcp_cong.c) and a queue discipline (net/sched/sch_api.c); what is not there already is left
out, for a module is the whole host's and stays.
"""

from __future__ import annotations

from collections.abc import Iterator

from iolab.trial.transfer import Transfer
from iolab.tuning.families.sysctl import path_of
from iolab.tuning.knob import KnobError, Outcome
from iolab.tuning.planning import make_plan
from iolab.tuning.scene import Scene
from iolab.tuning.session import session
from iolab.tuning.state import forget

_CONGESTION = "sysctl.net.ipv4.tcp_congestion_control"
_QDISC = "nic.qdisc"
_WITHOUT_EFFECT = (Outcome.REFUSED, Outcome.IGNORED, Outcome.UNAVAILABLE)


def unfit(moved: Transfer, scene: Scene) -> dict[str, str]:
    """The keys that cannot make a difference in the namespace of `scene`, each with the reason."""
    found = dict(_modules(moved, scene))
    plan = make_plan(moved.loaded("script", ""), scene)
    for key in plan.left_out:
        found.setdefault(key, _why_host(key, scene))
    same: dict[str, list[bool]] = {}
    for item in plan.items:
        if item.problem is not None:
            found.setdefault(item.setting.key, item.problem)
        same.setdefault(item.setting.key, []).append(item.unchanged)
    for key, unchanged in same.items():
        if all(unchanged):
            found.setdefault(key, "a namespace of this host has that value already")
    return found


def untaken(moved: Transfer, scene: Scene) -> dict[str, str]:
    """The keys whose value does not take in the namespace of `scene`, each with the reason.

    They are set there and reverted; one that comes out as another value than asked for has taken.
    """
    loaded = moved.loaded("script", "")
    with session(loaded, scene, partial=True) as tuned:
        results = tuned.applied.results
    forget(scene.host.state)
    took: dict[str, bool] = {}
    why: dict[str, str] = {}
    for one in results:
        key = one.place.rpartition(": ")[2]
        took[key] = took.get(key, False) or one.outcome not in _WITHOUT_EFFECT
        if one.outcome in _WITHOUT_EFFECT:
            why.setdefault(key, " ".join(f"{one.outcome} here: {one.reason}".split()))
    return {key: reason for key, reason in why.items() if not took[key]}


def _why_host(key: str, scene: Scene) -> str:
    where = path_of(key.removeprefix("sysctl."))
    if scene.host.tree().exists(where):
        return "it belongs to the whole host"
    return f"this kernel has no /{where}, or its module is not loaded"


def _modules(moved: Transfer, scene: Scene) -> Iterator[tuple[str, str]]:
    """Values that would load a module, and a congestion control that no namespace may have."""
    if key := moved.keys.get(_CONGESTION):
        reason = _congestion(str(key.value), scene)
        if reason:
            yield _CONGESTION, reason
    if key := moved.keys.get(_QDISC):
        kind = str(key.value).removeprefix("mq/")
        if _would_load(f"sch_{kind}", scene):
            yield _QDISC, _not_loaded(f"sch_{kind}")


def _congestion(name: str, scene: Scene) -> str:
    """Why `name` cannot be the default of a namespace; empty when it can.

    Outside of the host's own namespace it must be unrestricted (Linux 4.15, tcp_cong.c).
    """
    tree = scene.host.tree()
    place = "proc/sys/net/ipv4/tcp_{}_congestion_control"
    try:
        available = tree.read(place.format("available")).split()
        allowed = tree.read(place.format("allowed")).split()
    except OSError as error:
        return f"the kernel does not say which there are: {error.strerror}"
    if name not in available:
        return _not_loaded(f"tcp_{name}")
    if name not in allowed:
        return (
            f"{name} is restricted here: only the host's own namespace may have it, unless "
            "net.ipv4.tcp_allowed_congestion_control lists it"
        )
    return ""


def _not_loaded(module: str) -> str:
    return f"{module} is not loaded, and loading it would change the host: modprobe {module}"


def _would_load(module: str, scene: Scene) -> bool:
    """Whether the kernel would load `module`: it is a file, and not in use yet.

    modprobe(8) lists what it would do, `builtin` for what is part of the kernel. Where it finds
    nothing, the kernel, which calls it, finds nothing either.
    """
    if scene.host.tree().exists(f"sys/module/{module}"):
        return False
    try:
        listed = scene.host.run(["modprobe", "--show-depends", module]).stdout
    except KnobError:
        return False
    return any(line.startswith("insmod") for line in listed.splitlines())
