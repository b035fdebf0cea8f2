"""What a script takes for granted of the machine, seen where the guest is otherwise."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from iolab.trial.intents import named_interfaces
from iolab.trial.recording import Snapshot
from iolab.trial.story import Attempt, Command, Story
from iolab.trial.values import (
    cpu_list,
    cpu_mask,
    cpus,
    interfaces,
    interrupt_names,
    local_cpus,
    queues,
)
from iolab.trial.verdict import Finding, Kind

_QUEUE = re.compile(r"/sys/class/net/([^/]+)/queues/(rx|tx)-(\d+)/")
_SEARCHERS = ("grep", "egrep", "fgrep", "awk", "gawk", "mawk", "sed")
_CPU_LISTS = re.compile(r"/(local_cpulist|cpulist|online|possible|present)$")
_MASKS = re.compile(r"smp_affinity$|/rps_cpus$|/xps_cpus$")
_RANGE_WORDS = re.compile(r"\d+-\d+")


@dataclass(frozen=True)
class Scene:
    """The machine the script ran on: values before and after, and the snapshot before."""

    interface: str
    before: Mapping[str, str]
    after: Mapping[str, str]
    snapshot: Snapshot


def assumptions(story: Story, scene: Scene) -> Iterator[Finding]:
    """Every wrong assumption that shows."""
    yield from _interface_names(story, scene)
    yield from _interrupt_names(story, scene)
    yield from _queue_numbers(story, scene)
    yield from _cpu_numbers(story, scene)
    yield from _cpu_ranges(story)
    yield from _cpu_is_queue(story, scene)
    yield from _hash_keys(story, scene)
    yield from _modules(story, scene)
    yield from _programs(story)
    yield from _limits(story)
    yield from _managed(story, scene)


def _interface_names(story: Story, scene: Scene) -> Iterator[Finding]:
    """Names in paths and in command lines that no interface of the machine has."""
    paths = [one.path for one in story.lookups] + [one.knob for one in story.attempts]
    found = [re.match(r"(?:/sys/class/net|ethtool|tc)/([^/*]+)", path) for path in paths]
    named = {match[1] for match in found if match}
    for command in story.commands:
        named |= set(named_interfaces(command.argv))
    known = set(interfaces(scene.before))
    for name in sorted(named - known - {"bonding_masters"}):
        yield Finding(
            Kind.INTERFACE, f"no interface is called {name}; here are {', '.join(sorted(known))}"
        )


def _interrupt_names(story: Story, scene: Scene) -> Iterator[Finding]:
    """A search for the interface's name in /proc/interrupts that finds nothing.

    grep(1) says so by its status; of other programs it shows in that no interrupt is set.
    """
    names = interrupt_names(scene.snapshot).values()
    reads = any(one.path == "/proc/interrupts" for one in story.lookups)
    if not reads or any(scene.interface in name for name in names):
        return
    placed = any(one.knob.startswith("/proc/irq/") for one in story.attempts)
    for command in story.commands:
        in_vain = command.status == 1 or not placed
        if in_vain and _searches_for(command, scene.interface):
            device = sorted(name for name in names if "-input." in name)
            example = f"; a virtio NIC's are called {device[0]}" if device else ""
            yield Finding(Kind.INTERRUPT, f"no interrupt is named after {scene.interface}{example}")
            return


def _searches_for(command: Command, interface: str) -> bool:
    program = command.argv[0].rpartition("/")[2]
    return program in _SEARCHERS and any(interface in word for word in command.argv[1:])


def _queue_numbers(story: Story, scene: Scene) -> Iterator[Finding]:
    """Directories of queues that do not exist."""
    beyond: dict[tuple[str, str], set[int]] = {}
    for attempt in story.attempts:
        match = _QUEUE.match(attempt.knob)
        if match is None or attempt.error not in ("ENOENT", "EACCES"):
            continue
        if int(match[3]) >= queues(scene.before, match[1], match[2]):
            beyond.setdefault((match[1], match[2]), set()).add(int(match[3]))
    for (interface, direction), numbers in sorted(beyond.items()):
        count = queues(scene.before, interface, direction)
        text = f"{direction}-{max(numbers)} of {interface}, which has {count} {direction} queues"
        yield Finding(Kind.QUEUES, text)
    yield from _channels(story, scene)


def _channels(story: Story, scene: Scene) -> Iterator[Finding]:
    known = interfaces(scene.before)
    for attempt in story.attempts:
        match = re.fullmatch(r"ethtool/([^/]+)/channels/(\w+)", attempt.knob)
        wanted = attempt.wanted or ""
        if match and match[1] in known and wanted.isdigit():
            most = scene.before.get(f"ethtool/{match[1]}/channels-maximum/{match[2]}")
            if most is None:
                yield Finding(Kind.QUEUES, f"{match[1]} has no {match[2]} channels")
            elif most.isdigit() and int(wanted) > int(most):
                text = f"{wanted} {match[2]} channels of {match[1]}, which has at most {most}"
                yield Finding(Kind.QUEUES, text)


def _cpu_numbers(story: Story, scene: Scene) -> Iterator[Finding]:
    """EOVERFLOW for a mask and ERANGE for a list say: CPUs beyond the last (lib/bitmap.c)."""
    present = cpus(scene.before)
    for attempt in story.attempts:
        wanted = attempt.wanted or ""
        if attempt.error == "EOVERFLOW":
            yield Finding(Kind.CPUS, f"mask {wanted} on a machine of {len(present)} CPUs")
        elif attempt.error == "ERANGE" and attempt.knob.endswith("_list"):
            yield Finding(Kind.CPUS, f"list {wanted} on a machine of {len(present)} CPUs")
        elif attempt.error == "EINVAL" and _only_missing(attempt, present):
            yield Finding(Kind.CPUS, f"{wanted} names no CPU of this machine")


def _only_missing(attempt: Attempt, present: set[int]) -> bool:
    wanted = attempt.wanted or ""
    if not re.search(r"affinity|_cpus$|cpulist$", attempt.knob):
        return False
    named = cpu_mask(wanted) if _MASKS.search(attempt.knob) else cpu_list(wanted)
    return bool(named) and not named & present


def _cpu_ranges(story: Story) -> Iterator[Finding]:
    """A range such as `2-3` that was taken for a single CPU.

    It shows as a range in a mask file, or as a refused mask after a list of CPUs was read: shells
    compute `1 << 2-3` without complaint.
    """
    lists = [one for one in story.lookups if one.error is None and _CPU_LISTS.search(one.path)]
    for attempt in story.attempts:
        if attempt.error is None or not re.search(r"affinity|_cpus$", attempt.knob):
            continue
        wanted = attempt.wanted or ""
        if _MASKS.search(attempt.knob) and _RANGE_WORDS.search(wanted):
            text = f"{wanted} is a range, and {attempt.knob} takes a mask"
            yield Finding(Kind.CPU_RANGE, text)
            continue
        sources = [one.path for one in lists if one.at < attempt.at]
        if sources and attempt.error in ("EOVERFLOW", "EINVAL"):
            text = f"{wanted or 'nothing'} was made of {sources[-1]}, which may hold ranges"
            yield Finding(Kind.CPU_RANGE, text)
            return


def _cpu_is_queue(story: Story, scene: Scene) -> Iterator[Finding]:
    """Queue N for CPU N, on a NIC whose own CPUs are others."""
    chosen: dict[str, dict[int, set[int]]] = {}
    for attempt in story.attempts:
        match = _QUEUE.match(attempt.knob)
        if match and attempt.knob.endswith("/xps_cpus") and attempt.error is None:
            chosen.setdefault(match[1], {})[int(match[3])] = cpu_mask(attempt.wanted or "")
    for interface, masks in chosen.items():
        far = cpus(scene.before) - local_cpus(scene.before, interface)
        identity = len(masks) > 1 and all(mask == {queue} for queue, mask in masks.items())
        if identity and far & set(masks):
            yield Finding(
                Kind.CPU_IS_QUEUE,
                f"XPS gives queue N of {interface} to CPU N; CPUs {_words(far)} are on another"
                " node than the NIC, and its interrupts need not follow that order",
            )


def _hash_keys(story: Story, scene: Scene) -> Iterator[Finding]:
    for attempt in story.attempts:
        if attempt.knob.endswith("/rss/key") and attempt.error is not None:
            wanted = len((attempt.wanted or "").split(":"))
            has = scene.before.get(attempt.knob)
            if has is None:
                yield Finding(Kind.HASH_KEY, "the NIC says no hash key")
            elif wanted != len(has.split(":")):
                text = f"{wanted} bytes for a NIC that takes {len(has.split(':'))}"
                yield Finding(Kind.HASH_KEY, text)


def _modules(story: Story, scene: Scene) -> Iterator[Finding]:
    """ENOENT for a name that a module would bring, and modprobe that fails."""
    for attempt in story.attempts:
        if attempt.error is None:
            continue
        if attempt.knob.startswith("module/"):
            yield Finding(Kind.MODULE, f"{attempt.knob[7:]} cannot be loaded")
        elif attempt.error == "ENOENT" and attempt.wanted:
            if attempt.knob.endswith(("/tcp_congestion_control", "/default_qdisc")):
                text = f"{attempt.wanted} is not in the kernel, and no module brings it"
                yield Finding(Kind.MODULE, text)
        elif attempt.knob.startswith("tc/") and "kind is unknown" in attempt.message:
            text = f"no module brings the discipline {(attempt.wanted or '').partition(' ')[0]}"
            yield Finding(Kind.MODULE, text)
    for lookup in story.lookups:
        if "nf_conntrack" in lookup.path and lookup.error == "ENOENT":
            yield Finding(Kind.MODULE, f"{lookup.path} exists only with nf_conntrack")


def _programs(story: Story) -> Iterator[Finding]:
    """What a program that is not there was to set was not set, whatever knobs these are."""
    for one in story.missing:
        unheard = ", and the message is thrown away" if one.hidden else ""
        yield Finding(Kind.PROGRAM, f"{one.name} is not on this machine{unheard} ({one.by})")


def _limits(story: Story) -> Iterator[Finding]:
    for limit in story.limits:
        if limit.error is None and limit.resource != "RLIMIT_CORE":
            text = f"{limit.resource} {limit.soft} holds for the script's own children only"
            yield Finding(Kind.LIMIT, text)


def _managed(story: Story, scene: Scene) -> Iterator[Finding]:
    """EIO: irq_can_set_affinity_usr() refuses (kernel/irq/manage.c), as for queues of disks.

    Timers, which no interrupt controller can move, are refused in the same way.
    """
    names = interrupt_names(scene.snapshot)
    refused = {
        int(match[1])
        for attempt in story.attempts
        if attempt.error in ("EIO", "EPERM")
        and (match := re.match(r"/proc/irq/(\d+)/smp_affinity", attempt.knob))
    }
    if refused:
        shown = ", ".join(f"{number} ({names.get(number, '?')})" for number in sorted(refused))
        yield Finding(Kind.MANAGED, f"the kernel alone places interrupts {shown}")


def _words(numbers: set[int]) -> str:
    return ", ".join(str(number) for number in sorted(numbers))
