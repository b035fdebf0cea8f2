"""Verdicts on a small made-up machine, one rule a test, and on recordings from the real guest."""

from __future__ import annotations

import pytest

from iolab.trial.judge import judge
from iolab.trial.recording import Recording, Snapshot, Step
from iolab.trial.verdict import Finding, Kind, Outcome, Verdict

from .conftest import kept, load_expected, recording

SOMAXCONN = "/proc/sys/net/core/somaxconn"
IRQ = "/proc/irq/24/smp_affinity"
RX0 = "/sys/class/net/eth0/queues/rx-0/rps_cpus"
MACHINE = {
    SOMAXCONN: "4096",
    "/proc/sys/net/core/default_qdisc": "pfifo_fast",
    "/proc/sys/net/core/rps_sock_flow_entries": "0",
    IRQ: "1",
    RX0: "0",
    "/sys/class/net/eth0/mtu": "1500",
    "/sys/class/net/eth1/mtu": "1500",
    "/sys/class/net/eth0/queues/rx-0/rps_flow_cnt": "0",
    "/sys/class/net/eth0/device/../numa_node": "1",
    "/sys/devices/system/cpu/possible": "0-3",
    "/sys/devices/system/node/node1/cpulist": "2-3",
    "/proc/self/limits": "Max open files   1024   4096   files\n",
    "/proc/interrupts": " 24:   0   0   PCI-MSI 1-edge   virtio4-input.0\n",
}
TC = {"tc qdisc show dev eth0": "qdisc pfifo_fast 0: root refcnt 2 bands 3\n"}
HEAD = '7 execve("/bin/sh", ["sh", "/s"], 0x1 /* 1 var */) = 0\n'


def state(**files: str) -> Snapshot:
    """The machine with some files otherwise; names are given as a mapping's keys."""
    return Snapshot({**MACHINE, **files}, dict(TC))


def step(trace: str, after: Snapshot, kind: str = "run", status: int = 0, stderr: str = "") -> Step:
    return Step(kind, status, f"{HEAD}{trace}\n7 +++ exited with {status} +++", "", stderr, after)


def verdict(trace: str, status: int = 0, before: Snapshot | None = None, **after: str) -> Verdict:
    """What is said of a script with this trace that leaves these files."""
    machine = before or state()
    done = step(trace, state(**after), status=status)
    return judge(Recording("eth0", (machine, machine), (done, done)))


def write(path: str, text: str, error: str = "") -> str:
    result = f"-1 {error} (x)" if error else str(len(text) + 1)
    return f'7 write(1<{path}>, "{text}\\n", {len(text) + 1}) = {result}'


def kinds(said: Verdict) -> set[Kind]:
    return {finding.kind for finding in said.findings}


@pytest.mark.parametrize(
    ("wanted", "error", "after", "outcome"),
    [
        ("65535", "", "65535", Outcome.CHANGED),
        ("4096", "", "4096", Outcome.NOTHING),
        ("9", "", "4096", Outcome.IGNORED),
        ("70000", "", "65535", Outcome.CLAMPED),
        ("-1", "EINVAL", "4096", Outcome.SILENT),
    ],
)
def test_a_knob_is_judged_by_what_was_is_and_was_asked(
    wanted: str, error: str, after: str, outcome: Outcome
) -> None:
    said = verdict(write(SOMAXCONN, wanted, error), **{SOMAXCONN: after})
    (knob,) = said.knobs
    assert (knob.knob, knob.outcome, knob.wanted) == (SOMAXCONN, outcome, wanted)
    assert (knob.before, knob.after) == ("4096", after)
    assert said.good == (outcome in (Outcome.CHANGED, Outcome.NOTHING))


def test_a_script_that_stops_at_a_failure_has_failed_aloud() -> None:
    said = verdict(write(SOMAXCONN, "x", "EINVAL"), status=1)
    assert said.knobs[0].outcome is Outcome.FAILED
    assert Kind.STATUS not in kinds(said)


def test_a_failure_that_is_made_good_later_counts_for_nothing() -> None:
    trace = "\n".join([write(SOMAXCONN, "x", "EINVAL"), write(SOMAXCONN, "9")])
    assert verdict(trace, **{SOMAXCONN: "9"}).knobs[0].outcome is Outcome.CHANGED


def test_what_nobody_asked_for_is_a_side_effect() -> None:
    said = verdict(write(SOMAXCONN, "9"), **{SOMAXCONN: "9", IRQ: "f"})
    assert [(one.knob, one.outcome) for one in said.knobs[1:]] == [(IRQ, Outcome.SIDE_EFFECT)]
    assert "no command of the script names it" in said.knobs[1].detail


def test_a_feature_that_stands_for_several_moves_them_by_intention() -> None:
    def machine(value: str) -> Snapshot:
        lines = ("tcp-segmentation-offload", "tx-tcp-segmentation", "tx-gso-robust")
        text = "Features:\n" + "".join(f"{name}: {value}\n" for name in lines)
        return Snapshot(dict(MACHINE), {**TC, "ethtool -k eth0": text})

    trace = (
        "7 vfork() = 8\n"
        '8 execve("/sbin/ethtool", ["ethtool", "-K", "eth0", "tso", "off"], 0x1) = 0\n'
        "8 +++ exited with 0 +++"
    )
    done = step(trace, machine("off"))
    said = judge(Recording("eth0", (machine("on"), machine("on")), (done, done)))
    assert [(one.knob.rpartition("/")[2], one.outcome) for one in said.knobs] == [
        ("tcp-segmentation-offload", Outcome.CHANGED),
        ("tx-gso-robust", Outcome.SIDE_EFFECT),
    ]


def test_many_touched_files_of_one_command_are_one_finding() -> None:
    trace = "\n".join(f'7 unlinkat(AT_FDCWD</etc>, "{name}", 0) = 0' for name in "abc")
    assert [one.text for one in verdict(trace).findings] == ["unlinkat: /etc/a and 2 more (sh /s)"]


def test_what_changes_between_two_snapshots_in_a_row_changes_by_itself() -> None:
    first, second = state(**{IRQ: "2"}), state(**{IRQ: "4"})
    done = step(write(SOMAXCONN, "9"), state(**{SOMAXCONN: "9", IRQ: "8"}))
    settled = step(write(SOMAXCONN, "9"), state(**{SOMAXCONN: "9", IRQ: "8"}))
    said = judge(Recording("eth0", (first, second), (done, settled)))
    assert [one.knob for one in said.knobs] == [SOMAXCONN]


def test_mask_and_list_of_an_interrupt_are_one_knob() -> None:
    listed = f"{IRQ}_list"
    before = state(**{listed: "0"})
    said = verdict(write(listed, "0-3"), 0, before, **{listed: "0-3", IRQ: "f"})
    assert [(one.knob, one.outcome) for one in said.knobs] == [(listed, Outcome.CHANGED)]


def test_a_flow_count_without_entries_and_a_default_qdisc_without_a_root_are_inert() -> None:
    count = "/sys/class/net/eth0/queues/rx-0/rps_flow_cnt"
    qdisc = "/proc/sys/net/core/default_qdisc"
    trace = "\n".join([write(count, "4096"), write(qdisc, "fq")])
    said = verdict(trace, **{count: "4096", qdisc: "fq"})
    assert [one.outcome for one in said.knobs] == [Outcome.INERT, Outcome.INERT]
    assert "rps_sock_flow_entries" in said.knobs[0].detail
    assert "eth0 keeps its disciplines" in said.knobs[1].detail


def test_a_limit_dies_with_the_shell() -> None:
    trace = "7 prlimit64(0, RLIMIT_NOFILE, {rlim_cur=4096, rlim_max=4096}, NULL) = 0"
    said = verdict(trace)
    assert [(one.knob, one.outcome) for one in said.knobs] == [("limit/nofile", Outcome.SHELL_ONLY)]
    assert kinds(said) == {Kind.LIMIT}


def test_a_limit_that_is_refused_has_failed_silently_where_the_script_goes_on() -> None:
    trace = "7 prlimit64(0, RLIMIT_NOFILE, {rlim_cur=2000000, rlim_max=9}, NULL) = -1 EPERM (No)"
    said = verdict(trace)
    assert [(one.knob, one.outcome) for one in said.knobs] == [("limit/nofile", Outcome.SILENT)]
    assert kinds(said) == {Kind.STATUS}
    assert verdict(trace, status=2).knobs[0].outcome is Outcome.FAILED


def test_a_script_whose_program_is_missing_is_not_good() -> None:
    trace = '7 write(2</dev/null>, "/s: 2: cpupower: not found\\n", 27) = 27'
    assert [(one.kind, one.text) for one in verdict(trace).findings] == [
        (
            Kind.PROGRAM,
            "cpupower is not on this machine, and the message is thrown away (sh /s)",
        ),
        (Kind.STATUS, "0, although 1 attempt failed"),
    ]
    assert kinds(verdict(trace, status=127)) == {Kind.PROGRAM}


@pytest.mark.parametrize(
    ("trace", "kind", "word"),
    [
        (write(IRQ, "ff", "EOVERFLOW"), Kind.CPUS, "mask ff on a machine of 4 CPUs"),
        (write(f"{IRQ}_list", "0-7", "ERANGE"), Kind.CPUS, "list 0-7"),
        (write(IRQ, "0-7", "EINVAL"), Kind.CPU_RANGE, "0-7 is a range"),
        (write(IRQ, "1", "EIO"), Kind.MANAGED, "24 (virtio4-input.0)"),
        (
            '7 openat(AT_FDCWD</>, "/sys/class/net/eth0/queues/rx-7/rps_cpus", O_WRONLY|O_CREAT)'
            " = -1 EACCES (Permission denied)",
            Kind.QUEUES,
            "rx-7 of eth0, which has 1",
        ),
        (
            '7 openat(AT_FDCWD</>, "/sys/class/net/ens5/mtu", O_RDONLY) = -1 ENOENT (No such)',
            Kind.INTERFACE,
            "no interface is called ens5; here are eth0, eth1",
        ),
        (
            '7 openat(AT_FDCWD</>, "/proc/interrupts", O_RDONLY) = 3</proc/interrupts>\n'
            '7 execve("/bin/grep", ["grep", "eth0", "/proc/interrupts"], 0x1) = 0\n'
            "7 +++ exited with 1 +++",
            Kind.INTERRUPT,
            "virtio4-input.0",
        ),
        (
            write("/proc/sys/net/ipv4/tcp_congestion_control", "bbr", "ENOENT"),
            Kind.MODULE,
            "bbr",
        ),
        (
            '7 openat(AT_FDCWD</>, "/etc/rc.local", O_WRONLY) = 3</etc/rc.local>',
            Kind.TOUCHES,
            "/etc/rc.local",
        ),
        (write("/sys/class/net/eth1/mtu", "9000"), Kind.TOUCHES, "eth1, not eth0"),
    ],
)  # fmt: skip
def test_a_wrong_assumption_is_named(trace: str, kind: Kind, word: str) -> None:
    found = [one for one in verdict(trace).findings if one.kind is kind]
    assert found
    assert word in found[0].text


def test_a_search_that_finds_its_interrupts_assumes_nothing_wrong() -> None:
    trace = (
        '7 openat(AT_FDCWD</>, "/proc/interrupts", O_RDONLY) = 3</proc/interrupts>\n'
        "7 vfork() = 8\n"
        '8 execve("/bin/grep", ["grep", "-E", "virtio4-input|eth0", "/proc/interrupts"], 0) = 0\n'
        f"8 +++ exited with 0 +++\n{write(IRQ, '4')}"
    )
    assert verdict(trace, **{IRQ: "4"}).good


def test_a_second_run_that_differs_is_not_idempotent() -> None:
    first = step(write(SOMAXCONN, "8192"), state(**{SOMAXCONN: "8192"}))
    second = step(write(SOMAXCONN, "16384"), state(**{SOMAXCONN: "16384"}), status=3)
    said = judge(Recording("eth0", (state(), state()), (first, second)))
    texts = [one.text for one in said.findings if one.kind is Kind.REPEAT]
    assert texts == [
        "net.core.somaxconn: 8192 after one run, 16384 after the next",
        "exit status 0 of one run, 3 of the next",
    ]


def test_an_undo_script_must_restore_everything() -> None:
    changed = state(**{SOMAXCONN: "9", IRQ: "f"})
    run = step("\n".join([write(SOMAXCONN, "9"), write(IRQ, "f")]), changed)
    undo = step(write(SOMAXCONN, "4096"), state(**{IRQ: "f"}), kind="undo")
    said = judge(Recording("eth0", (state(), state()), (run, undo, run, run)))
    assert list(said.findings) == [Finding(Kind.UNDO, f"{IRQ}: was 1, is f after the undo")]


def test_success_in_spite_of_failures_is_a_finding_of_its_own() -> None:
    said = verdict(write(SOMAXCONN, "x", "EINVAL"))
    assert Finding(Kind.STATUS, "0, although 1 attempt failed") in said.findings


def test_a_script_that_does_nothing_is_good_and_has_no_knobs() -> None:
    said = verdict("")
    assert (said.good, said.knobs, said.findings) == (True, (), ())


@pytest.mark.parametrize("name", kept())
def test_recordings_of_the_shipped_scripts_are_judged_as_expected(name: str) -> None:
    (expected,) = [one for one in load_expected() if one.name == name]
    assert expected.contradictions(judge(recording(name))) == []


def test_recordings_are_kept_of_most_scripts() -> None:
    assert len(kept()) >= 8


def test_an_affinity_that_a_later_change_of_channels_moves_is_undone_by_the_script() -> None:
    trace = (
        f"{write(IRQ, '8')}\n"
        "7 vfork() = 8\n"
        '8 execve("/sbin/ethtool", ["ethtool", "-L", "eth0", "combined", "2"], 0x1) = 0\n'
        "8 +++ exited with 0 +++"
    )
    first, other, queue = verdict(trace, **{IRQ: "3", RX0: "1"}).knobs
    assert (first.knob, first.outcome) == (IRQ, Outcome.UNDONE)
    assert "place interrupts" in first.detail
    assert other.outcome is Outcome.UNREADABLE  # no ethtool in this machine's snapshots
    assert (queue.knob, queue.outcome) == (RX0, Outcome.SIDE_EFFECT)
