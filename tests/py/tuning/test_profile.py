"""Profiles: mistakes are said with file, key and remedy; every shipped one applies."""

from __future__ import annotations

import re
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path

import pytest
from fakehost import PID, FakeHost, WriteProfile, make, snapshot

from iolab.errors import InputError
from iolab.tuning import bench
from iolab.tuning.profile import knob_keys, load_profile, profile_names, without
from iolab.tuning.scene import Scene

SHIPPED = (
    "baseline",
    "latency",
    "many-connections",
    "numa-local",
    "throughput",
    "typical-guide",
)


def room() -> Path:
    return Path(__file__).resolve().parents[3] / "tuning/profiles"


def test_all_shipped_profiles_are_known_here() -> None:
    assert set(profile_names(room())) == set(SHIPPED)


@pytest.mark.parametrize("name", SHIPPED)
def test_every_shipped_profile_applies_and_reverts(
    name: str, machine: Path, tmp_path: Path
) -> None:
    before = snapshot(machine)
    host = make(machine, tmp_path / "state")
    try:
        applied = bench.apply(load_profile(room(), name), Scene(host, limits_pid=PID))
        assert applied.ok, [one for one in applied.results if not one.good]
        assert all(one.good for one in bench.verify(host))
    finally:
        restored = bench.revert(host)
    assert [one for one in restored if one.problem] == []
    assert snapshot(machine) == before


def explanations(name: str) -> Iterator[tuple[str, str]]:
    """Each knob's line with the comment above it, or above the group that a blank line ends."""
    comment, in_table, after_knob = "", False, False
    for line in (room() / f"{name}.toml").read_text().splitlines():
        if line.startswith("#"):
            comment = f"{'' if after_knob else comment} {line.lstrip('# ')}"
            after_knob = False
        elif line.startswith("[") or not line:
            comment, in_table = "", in_table or line.startswith("[")
        elif in_table:
            after_knob = True
            yield line, comment


@pytest.mark.parametrize("name", SHIPPED)
def test_every_knob_says_what_it_does_since_when_and_when_it_hurts(name: str) -> None:
    lines = list(explanations(name))
    assert len(lines) == len(knob_keys(load_profile(room(), name)))
    for line, comment in lines:
        assert re.search(r"\b(since|before) Linux \d", comment, re.IGNORECASE), line
        if name != "baseline":  # the defaults are what others are held against
            assert re.search(r"\bhurts\b", comment, re.IGNORECASE), line


NOT_IN_BASELINE = {
    "sysctl.net.core.rmem_max": "212992 on older kernels, 4 MiB on new ones",
    "sysctl.net.core.wmem_max": "as rmem_max",
    "sysctl.net.ipv4.tcp_rmem": "the largest depends on memory and release",
    "sysctl.net.ipv4.tcp_wmem": "the largest depends on memory",
    "sysctl.net.ipv4.tcp_max_syn_backlog": "depends on memory",
    "sysctl.net.ipv4.tcp_max_tw_buckets": "depends on memory",
    "sysctl.net.core.netdev_budget_usecs": "two ticks: depends on CONFIG_HZ",
    "limits.*": "the shell's own",
    "nic.*": "the driver's choice",
    "irq.*": "the driver's choice, or irqbalance's",
    "steering.*": "the driver may set XPS; needs an interface",
    "cpu.*": "the choice of firmware, governor and distribution",
    "memory.*": "built in, and by the number of nodes",
    "placement.*": "no setting of the host",
}
"""Keys of shipped profiles whose default is not one value on every host, with the reason."""


@pytest.mark.parametrize("name", SHIPPED)
def test_the_baseline_has_every_default_that_a_shipped_profile_changes(name: str) -> None:
    fixed = set(knob_keys(load_profile(room(), "baseline")))
    missing = [
        key
        for key in set(knob_keys(load_profile(room(), name))) - fixed
        if not any(fnmatchcase(key, pattern) for pattern in NOT_IN_BASELINE)
    ]
    assert missing == []


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("sysctls = 1", "sysctls: unknown key, did you mean 'sysctl'?"),
        ("[nic]\nchanels = 1", "nic.chanels: unknown key, did you mean 'channels'?"),
        ("[sysctl]\nnonsense = 1", "sysctl: 'nonsense': not a sysctl's name"),
        ('[irq]\npolicy = "local"', "irq.policy: 'local': did you mean 'local-node'?"),
        ('[irq]\npolicy = "all"\nreserve = "a-b"', "irq.reserve: not a CPU list such as 0-3,8"),
        ("[steering]\nrfs_entries = 1000", "rfs_entries: not a power of two: the kernel would"),
        ('[nic.rss]\nhash_key = "6d5a"', "nic.rss.hash_key: not bytes in lower-case"),
        ("[cpu]\nlatency_usec = -1", "cpu.latency_usec"),
        ('[cpu]\nturbo = "perhaps"', "cpu.turbo: input should be a valid boolean"),
        ('[nic]\nchannels = "many"', "nic.channels: 'many': expected a number from 1 up or 'max'"),
        ("[nic]\nrx_ring = 0", "nic.rx_ring: 0: expected a number from 1 up or 'max'"),
        ('[nic]\nqdisc = "fq codel"', "nic.qdisc: 'fq codel': expected a kind such as 'fq'"),
        ('[limits]\nnofile = "all"', "limits.nofile: 'all': expected a number from 0 up or 'unl"),
        ('[sysctl]\n"net.core.somaxconn" = [1]', "sysctl.net.core.somaxconn: [1]: expected a"),
        ('include = ["nosuch"]', "include: profile 'nosuch': not found"),
        ('include = ["trial"]', "include: includes itself: trial.toml -> trial.toml"),
    ],
)
def test_mistakes_are_named_with_file_and_key(
    text: str, words: str, write_profile: WriteProfile
) -> None:
    with pytest.raises(InputError) as caught:
        write_profile(text)
    assert words in str(caught.value)
    assert "trial.toml" in str(caught.value)


def test_an_unknown_profile_is_answered_with_the_known_ones() -> None:
    with pytest.raises(InputError, match="did you mean 'latency'"):
        load_profile(room(), "latencey")


def test_includes_come_first_and_tables_are_merged(tmp_path: Path) -> None:
    (tmp_path / "base.toml").write_text(
        'summary = "base"\noptional = ["cpu.*"]\n[sysctl]\n"a.b" = 1\n"a.c" = 1\n'
        "[nic.offloads]\ngro = true\n"
    )
    (tmp_path / "top.toml").write_text(
        'summary = "top"\ninclude = ["base"]\noptional = ["nic.*"]\n[sysctl]\n"a.b" = 2\n'
    )
    loaded = load_profile(tmp_path, "top")
    assert loaded.profile.summary == "top"
    assert loaded.profile.sysctl == {"a.b": 2, "a.c": 1}
    assert loaded.profile.nic.offloads == {"gro": True}
    assert loaded.is_optional("cpu.governor")
    assert loaded.is_optional("nic.qdisc")
    assert not loaded.is_optional("sysctl.a.b")
    assert loaded.place("sysctl.a.b") == f"{tmp_path}/top.toml: sysctl.a.b"
    assert loaded.place("sysctl.a.c") == f"{tmp_path}/base.toml: sysctl.a.c"


def test_a_missing_interface_is_answered_with_those_there_are(
    host: FakeHost, write_profile: WriteProfile
) -> None:
    loaded = write_profile('[steering]\nrps = "all"')
    with pytest.raises(
        InputError, match=r"trial\.toml: steering\.rps: interface 'eth7': not found\n.*eth0"
    ):
        bench.apply(loaded, Scene(host, interface="eth7"))
    assert host.changes == 0


@pytest.mark.parametrize("name", SHIPPED)
def test_a_profile_without_a_knob_has_all_others(name: str) -> None:
    loaded = load_profile(room(), name)
    keys = knob_keys(loaded)
    for key in keys:
        less = without(loaded, key, f"{name}~{key}")
        assert knob_keys(less) == tuple(one for one in keys if one != key)
        assert less.profile.optional == loaded.profile.optional
    with pytest.raises(InputError, match=r"no knob 'nic\.speed' to leave out"):
        without(loaded, "nic.speed", "x")


def test_what_only_qualifies_others_is_no_knob(write_profile: WriteProfile) -> None:
    text = '[nic]\ninterface = "eth0"\n[irq]\npolicy = "all"\nreserve = "0"\n'
    assert knob_keys(write_profile(text)) == ("irq.policy",)
