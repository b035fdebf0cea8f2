"""Profiles: TOML files of knobs, checked when they are read, before anything is touched."""

from __future__ import annotations

import re
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, PlainValidator, field_validator

from iolab.errors import InputError, did_you_mean
from iolab.toml import Section, read_toml
from iolab.topology import parse_cpu_list
from iolab.tuning.cpus import Policy

Steering = Literal["off"] | Policy


def _cpu_list(text: str) -> str:
    try:
        parse_cpu_list(text)
    except ValueError:
        raise ValueError("not a CPU list such as 0-3,8") from None
    return text


def _count(least: int, *words: str) -> PlainValidator:
    """A number, or one of `words`; one message for both, where a union would give two."""

    def check(given: Any) -> int | str:
        if isinstance(given, str) and given in words:
            return given
        if isinstance(given, int) and not isinstance(given, bool) and given >= least:
            return given
        alternative = "".join(f" or {word!r}" for word in words)
        raise ValueError(f"{given!r}: expected a number from {least} up{alternative}")

    return PlainValidator(check)


def _indirection(given: Any) -> int | str | tuple[int, ...]:
    """See Rss.indirection."""
    if isinstance(given, str) and (given == "default" or _is_cpu_list(given)):
        return given
    if isinstance(given, int) and not isinstance(given, bool) and given >= 1:
        return given
    weights = tuple(given) if isinstance(given, list | tuple) else ()
    if any(weights) and all(type(one) is int and one >= 0 for one in weights):
        return weights
    raise ValueError(
        f"{given!r}: expected a number from 1 up, 'default', queues such as '2-3', "
        "or weights such as [3, 1]"
    )


def _is_cpu_list(text: str) -> bool:
    try:
        return bool(parse_cpu_list(text))
    except ValueError:
        return False


def _number_or_text(given: Any) -> int | str:
    if isinstance(given, str) or (isinstance(given, int) and not isinstance(given, bool)):
        return given
    raise ValueError(f"{given!r}: expected a number, or a string such as '4096 131072 6291456'")


def _qdisc(given: str) -> str:
    if not re.fullmatch(r"(mq/)?[a-z_0-9]+", given):
        raise ValueError(f"{given!r}: expected a kind such as 'fq', or 'mq/fq' for one a queue")
    return given


_NIC_FILE = re.compile(
    r"mtu|tx_queue_len|gro_flush_timeout|napi_defer_hard_irqs|threaded"
    r"|queues/rx-\d+/(rps_cpus|rps_flow_cnt)"
    r"|queues/tx-\d+/(xps_cpus|xps_rxqs|byte_queue_limits/(limit_min|limit_max|hold_time))"
)


LEAST_MTU = 1280
"""Below, Linux takes IPv6 off an interface (net/ipv6/addrconf.c, NETDEV_CHANGEMTU): addresses and
sysctls that no revert brings back."""


def is_nic_file(name: str) -> bool:
    """Whether `nic.files` takes this file of an interface; `name` is below /sys/class/net/IF."""
    return _NIC_FILE.fullmatch(name) is not None


def _check_mtu(text: str) -> None:
    """ValueError for what is no MTU that could be undone."""
    if not re.fullmatch(r"\d+", text) or int(text) < LEAST_MTU:
        raise ValueError(
            f"mtu: {text!r}: expected a number of bytes from {LEAST_MTU} up; below, the kernel "
            "takes IPv6 off the interface, and no revert brings its addresses back"
        )


CpuList = Annotated[str, AfterValidator(_cpu_list)]
Count = Annotated[int, Field(ge=0)]
Limit = Annotated[int | str, _count(0, "unlimited")]
Ring = Annotated[int | str, _count(1, "max")]


class Limits(Section):
    """Limits of the calling process, inherited by what it starts (setrlimit(2))."""

    nofile: Limit | None = None
    memlock_bytes: Limit | None = None


class Coalesce(Section):
    """Interrupt coalescing, `ethtool -C`: its parameters, with `_` for `-`.

    `_irq` counts while an interrupt is serviced; `_low` and `_high` hold below and above the packet
    rates `pkt_rate_low` and `pkt_rate_high` (packets a second), which are sampled each
    `sample_interval` seconds. `cqe_mode_*` (Linux 5.15) starts the timer anew with each completion,
    `tx_aggr_*` (6.4) concerns packets that a driver sends as one.
    """

    adaptive_rx: bool | None = None
    adaptive_tx: bool | None = None
    cqe_mode_rx: bool | None = None
    cqe_mode_tx: bool | None = None
    rx_usecs: Count | None = None
    rx_frames: Count | None = None
    rx_usecs_irq: Count | None = None
    rx_frames_irq: Count | None = None
    tx_usecs: Count | None = None
    tx_frames: Count | None = None
    tx_usecs_irq: Count | None = None
    tx_frames_irq: Count | None = None
    stats_block_usecs: Count | None = None
    sample_interval: Count | None = None
    pkt_rate_low: Count | None = None
    pkt_rate_high: Count | None = None
    rx_usecs_low: Count | None = None
    rx_frames_low: Count | None = None
    tx_usecs_low: Count | None = None
    tx_frames_low: Count | None = None
    rx_usecs_high: Count | None = None
    rx_frames_high: Count | None = None
    tx_usecs_high: Count | None = None
    tx_frames_high: Count | None = None
    tx_aggr_max_bytes: Count | None = None
    tx_aggr_max_frames: Count | None = None
    tx_aggr_time_usecs: Count | None = None


class Rss(Section):
    """Receive-side scaling, `ethtool -X`."""

    indirection: Annotated[int | str | tuple[int, ...], PlainValidator(_indirection)] | None = None
    """`default`, evenly over the first N queues or those of a list `2-3,6`, or weights by queue."""
    hash_key: str | None = None

    @field_validator("hash_key")
    @classmethod
    def _key(cls, text: str | None) -> str | None:
        if text is not None and not re.fullmatch(r"[0-9a-f]{2}(:[0-9a-f]{2})+", text):
            raise ValueError("not bytes in lower-case hexadecimal such as 6d:5a:56")
        return text


FlowHash = Annotated[str, Field(pattern=r"^[mvtsdfn]+$")]


class FlowHashes(Section):
    """Header fields that the NIC hashes, the letters of `ethtool -N IF rx-flow-hash`."""

    tcp4: FlowHash | None = None
    udp4: FlowHash | None = None
    tcp6: FlowHash | None = None
    udp6: FlowHash | None = None


class NicTable(Section):
    """What ethtool and tc set."""

    interface: str | None = None
    channels: Annotated[int | str, _count(1, "max", "per-core")] | None = None
    rx_ring: Ring | None = None
    tx_ring: Ring | None = None
    coalesce: Coalesce = Coalesce()
    offloads: dict[str, bool] = Field(default_factory=dict)
    rss: Rss = Rss()
    flow_hash: FlowHashes = FlowHashes()
    ntuple: bool | None = None
    qdisc: Annotated[str, AfterValidator(_qdisc)] | None = None
    """`fq` as root, which replaces mq; `mq/fq` for one below mq for each queue."""
    files: dict[str, Annotated[int | str, PlainValidator(_number_or_text)]] = Field(
        default_factory=dict
    )
    """Single files below /sys/class/net/IF with the value that each is to have."""

    @field_validator("files")
    @classmethod
    def _files(cls, table: dict[str, int | str]) -> dict[str, int | str]:
        for name in table:
            if not is_nic_file(name):
                raise ValueError(
                    f"{name!r}: expected a file such as 'tx_queue_len' or 'queues/rx-0/rps_cpus'"
                )
        _check_mtu(str(table.get("mtu", LEAST_MTU)))
        return table


class SteeringTable(Section):
    """Software steering of packets (Documentation/networking/scaling.rst)."""

    rps: Steering | None = None
    rfs_entries: Count | None = None
    """Flows of the host's table; the queues share as many among them. A power of two."""
    xps: Steering | Literal["rx-queues"] | None = None
    reserve: CpuList = ""

    @field_validator("rfs_entries")
    @classmethod
    def _power(cls, count: int | None) -> int | None:
        if count and count & (count - 1):
            above = 1 << count.bit_length()
            raise ValueError(f"not a power of two: the kernel would take {above}")
        return count


class IrqTable(Section):
    """Affinity of the interface's per-queue interrupts."""

    policy: Policy | None = None
    reserve: CpuList = ""
    irqbalance: Literal["ban", "report", "refuse"] = "ban"
    """A running irqbalance is told to leave these interrupts alone, named, or in the way."""


class CpuTable(Section):
    """Frequency, idle states, hardware threads."""

    governor: str | None = None
    energy_preference: str | None = None
    turbo: bool | None = None
    latency_usec: Count | None = None
    """What /dev/cpu_dma_latency is asked for: exit latency of the deepest idle state allowed."""
    smt: bool | None = None


class MemoryTable(Section):
    """Huge pages and NUMA balancing."""

    thp: Literal["always", "madvise", "never"] | None = None
    thp_defrag: Literal["always", "defer", "defer+madvise", "madvise", "never"] | None = None
    hugepages_2m: Count | None = None
    numa_balancing: bool | None = None


class PlacementTable(Section):
    """Where server and clients are to run; computed, never written to the host."""

    server: Literal["nic-node", "all"] | None = None
    client: Literal["nic-node", "other-node", "all"] | None = None


class Profile(Section):
    """A profile. Its tables hold only what it sets; what is None is left as the host has it."""

    summary: str
    include: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()
    """Patterns of keys (`cpu.*`) that a host may lack: reported then, and no failure."""
    sysctl: dict[str, Annotated[int | str, PlainValidator(_number_or_text)]] = Field(
        default_factory=dict
    )
    limits: Limits = Limits()
    nic: NicTable = NicTable()
    steering: SteeringTable = SteeringTable()
    irq: IrqTable = IrqTable()
    cpu: CpuTable = CpuTable()
    memory: MemoryTable = MemoryTable()
    placement: PlacementTable = PlacementTable()

    @field_validator("sysctl")
    @classmethod
    def _names(cls, table: dict[str, int | str]) -> dict[str, int | str]:
        for name in table:
            if not re.fullmatch(r"[a-z]\w*([./][\w\-]+)+", name):
                raise ValueError(f"{name!r}: not a sysctl's name such as net.core.somaxconn")
        return table


class Loaded(Section):
    """A profile with its includes merged in. `files` says which file set each key last."""

    name: str
    profile: Profile
    files: dict[str, str]

    def place(self, key: str) -> str:
        """`file: key`, as messages name it."""
        while key not in self.files and "." in key:
            key = key.rpartition(".")[0]
        return f"{self.files.get(key, self.name)}: {key}"

    def is_optional(self, key: str) -> bool:
        """True when a host may lack this knob."""
        return any(fnmatchcase(key, pattern) for pattern in self.profile.optional)


def profile_names(room: Path) -> list[str]:
    """The profiles of a directory."""
    return sorted(path.stem for path in room.glob("*.toml"))


def load_profile(room: Path, name: str) -> Loaded:
    """The profile of a name in `room`, or of a path to a TOML file; includes first, itself last.

    InputError names file and key of what is wrong, and the profiles there are.
    """
    document: dict[str, Any] = {}
    files: dict[str, str] = {}
    _merge_file(room, _find(room, name, "--"), document, files, ())
    loaded = Loaded(name=Path(name).stem, profile=Profile.model_validate(document), files=files)
    _check_once(loaded)
    return loaded


_SAME_FILES = {
    "rps": ("rps_cpus",),
    "rfs_entries": ("rps_flow_cnt",),
    "xps": ("xps_cpus", "xps_rxqs"),
}
"""The files of queues that a key of [steering] sets as well."""


def _check_once(loaded: Loaded) -> None:
    """InputError where a policy and a single file ask for two values of the same thing."""
    for key, names in _SAME_FILES.items():
        for file in loaded.profile.nic.files:
            if getattr(loaded.profile.steering, key) is not None and file.endswith(names):
                raise InputError(
                    f"{loaded.place(f'nic.files.{file}')}: set by steering.{key} as well",
                    "leave one of them out",
                )


_PARAMETERS = ("nic.interface", "irq.reserve", "irq.irqbalance", "steering.reserve")
"""Keys that say where or how others apply, and set nothing themselves."""


def knob_keys(loaded: Loaded) -> tuple[str, ...]:
    """The keys of what a profile sets, in the order of its tables, as messages name them."""
    document = loaded.profile.model_dump(exclude_unset=True, exclude_none=True)
    for key in ("summary", "include", "optional"):
        document.pop(key, None)
    return tuple(key for key in _leaves(document, "") if key not in _PARAMETERS)


def _leaves(table: dict[str, Any], prefix: str) -> Iterator[str]:
    for key, value in table.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield prefix + key


def without(loaded: Loaded, key: str, name: str) -> Loaded:
    """The profile without one of its knobs, under another name; InputError when it has none such.

    What the knob sets is then left as the host has it.
    """
    if key not in knob_keys(loaded):
        known = did_you_mean(key, knob_keys(loaded))
        raise InputError(f"profile {loaded.name}: no knob {key!r} to leave out: {known}")
    document = loaded.profile.model_dump(exclude_unset=True, exclude_none=True)
    table, rest = document, key
    while rest not in table:  # the name of a sysctl has dots of its own
        head, _, rest = rest.partition(".")
        table = table[head]
    del table[rest]
    return Loaded(name=name, profile=Profile.model_validate(document), files=loaded.files)


def _find(room: Path, name: str, place: str) -> Path:
    path = Path(name)
    if path.suffix == ".toml":
        return path if path.is_absolute() or path.exists() else room / path
    path = room / f"{name}.toml"
    if not path.is_file():
        where = "" if place == "--" else f"{place}: include: "
        known = did_you_mean(name, profile_names(room))
        raise InputError(f"{where}profile {name!r}: not found in {room}, {known}")
    return path


def _merge_file(
    room: Path,
    path: Path,
    document: dict[str, Any],
    files: dict[str, str],
    including: tuple[Path, ...],
) -> None:
    """Adds a file's keys to `document`, after those of what it includes."""
    if path.resolve() in including:
        chain = " -> ".join(one.name for one in (*including, path))
        raise InputError(f"{path}: include: includes itself: {chain}")
    profile = read_toml(path, Profile)
    for name in profile.include:
        where = _find(room, name, str(path))
        _merge_file(room, where, document, files, (*including, path.resolve()))
    given = profile.model_dump(exclude_unset=True)
    given["optional"] = (*document.get("optional", ()), *given.get("optional", ()))
    _merge(document, given, files, str(path), "")


def _merge(
    into: dict[str, Any], given: dict[str, Any], files: dict[str, str], file: str, prefix: str
) -> None:
    for key, value in given.items():
        name = f"{prefix}{key}"
        files[name] = file
        if isinstance(value, dict):
            _merge(into.setdefault(key, {}), value, files, file, f"{name}.")
        else:
            into[key] = value
