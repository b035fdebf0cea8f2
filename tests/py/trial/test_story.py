from __future__ import annotations

import pytest

from iolab.trial.story import Limit, Story, Touch, canonical, tell
from iolab.trial.trace import parse

SHELL = '7 execve("/bin/sh", ["sh", "/s"], 0x1 /* 1 var */) = 0\n'


def story(*lines: str) -> Story:
    return tell(parse(SHELL + "\n".join(lines)))


def test_a_swallowed_message_belongs_to_the_write_before_it() -> None:
    told = story(
        '7 write(1</proc/irq/24/smp_affinity>, "ff\\n", 3) = -1 EOVERFLOW (Value too large)',
        '7 write(2</dev/null>, "sh: echo: I/O error\\n", 20) = 20',
        '7 write(1</proc/irq/25/smp_affinity>, "f\\n", 2) = 2',
        '7 write(2</dev/pts/0>, "done\\n", 5) = 5',
    )
    refused, taken = told.attempts
    assert (refused.knob, refused.wanted, refused.error) == (
        "/proc/irq/24/smp_affinity", "ff", "EOVERFLOW",
    )  # fmt: skip
    assert (refused.message, refused.hidden, refused.by) == ("sh: echo: I/O error\n", True, "sh /s")
    assert (taken.error, taken.message) == (None, "")


def test_a_closed_standard_error_hides_as_well() -> None:
    told = story(
        '7 write(1</proc/irq/24/smp_affinity>, "ff\\n", 3) = -1 EOVERFLOW (Value too large)',
        '7 write(2, "sh: echo: I/O error\\n", 20) = -1 EBADF (Bad file descriptor)',
    )
    assert told.attempts[0].hidden


def test_a_file_that_cannot_be_opened_is_a_failed_attempt() -> None:
    path = "/sys/class/net/eth0/queues/rx-9/rps_cpus"
    told = story(
        f'7 openat(AT_FDCWD</>, "{path}", O_WRONLY|O_CREAT|O_TRUNC, 0666) = -1 ENOENT (No such)'
    )
    assert [(one.knob, one.wanted, one.error) for one in told.attempts] == [(path, None, "ENOENT")]


def test_a_path_may_be_relative_to_the_working_directory() -> None:
    told = story(
        '7 openat(AT_FDCWD</proc/sys/net>, "core/x", O_WRONLY) = -1 EACCES (Permission denied)'
    )
    assert told.attempts[0].knob == "/proc/sys/net/core/x"


def test_a_command_that_fails_fails_at_what_its_line_says() -> None:
    told = story(
        "7 vfork() = 8",
        '8 execve("/usr/sbin/ethtool", ["ethtool", "-L", "eth0", "combined", "8"], 0x1) = 0',
        '8 write(2</dev/null>, "netlink error\\n", 14) = 14',
        "8 +++ exited with 1 +++",
    )
    (attempt,) = told.attempts
    assert (attempt.knob, attempt.wanted, attempt.error) == (
        "ethtool/eth0/channels/combined", "8", "exit 1",
    )  # fmt: skip
    assert (attempt.message, attempt.hidden) == ("netlink error\n", True)
    assert attempt.by == "ethtool -L eth0 combined 8"


def test_sysctls_count_by_their_writes_and_missing_ones_by_its_message() -> None:
    told = story(
        "7 clone(child_stack=NULL, flags=SIGCHLD) = 8",
        '8 execve("/sbin/sysctl", ["sysctl", "-w", "net.core.somaxconn=9", "net.no.such=1"]) = 0',
        '8 write(3</proc/sys/net/core/somaxconn>, "9\\n", 2) = 2',
        '8 write(2</dev/tty>, "sysctl: cannot stat /proc/sys/net/no/such: No such\\n", 50) = 50',
        "8 +++ exited with 255 +++",
    )
    assert [(one.knob, one.error) for one in told.attempts] == [
        ("/proc/sys/net/core/somaxconn", None),
        ("/proc/sys/net/no/such", "exit 255"),
    ]


SYSCTL = (
    "7 clone(child_stack=NULL, flags=SIGCHLD) = 8",
    '8 execve("/sbin/sysctl", [{}], 0x1) = 0',
    '8 newfstatat(AT_FDCWD</>, "/proc/sys/net/ipv4/tcp_tw_recycle", 0x1, 0) = -1 ENOENT (No such)',
)
RECYCLE = "/proc/sys/net/ipv4/tcp_tw_recycle"


def sysctl(arguments: str, *more: str) -> Story:
    """What is told of a run of sysctl that looks for a key in vain."""
    words = ", ".join(f'"{word}"' for word in ("sysctl", *arguments.split()))
    head, execve, look = SYSCTL
    return story(head, execve.format(words), look, *more)


@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [
        ("-e -w net.ipv4.tcp_tw_recycle=1", "1"),
        ("-q -e net.ipv4.tcp_tw_recycle=1", "1"),
        ("-ep /tmp/x", None),
        ("--system", None),
    ],
)
def test_a_key_that_sysctl_is_told_to_do_without_was_tried(
    arguments: str, wanted: str | None
) -> None:
    told = sysctl(arguments, "8 +++ exited with 0 +++")
    assert [(one.knob, one.wanted, one.error) for one in told.attempts] == [
        (RECYCLE, wanted, "ENOENT")
    ]


def test_who_only_asks_for_a_key_has_not_tried_to_set_it() -> None:
    said = f"sysctl: cannot stat {RECYCLE}: No such file or directory\\n"
    told = sysctl(
        "-n net.ipv4.tcp_tw_recycle",
        f'8 write(2</dev/null>, "{said}", 70) = 70',
        "8 +++ exited with 255 +++",
    )
    assert told.attempts == []


CHILD = "7 clone(child_stack=NULL, flags=SIGCHLD) = 8"


@pytest.mark.parametrize(
    ("lines", "hidden"),
    [
        (  # dash, which writes a message in parts
            (
                '7 write(2</dev/null>, "/s: 3: ", 7) = 7',
                '7 write(2</dev/null>, "cpupower: not found", 19) = 19',
                '7 write(2</dev/null>, "\\n", 1) = 1',
            ),
            True,
        ),
        (  # bash, which has a child by then
            (
                CHILD,
                '8 write(2</dev/pts/0>, "/s: line 3: cpupower: command not found\\n", 40) = 40',
                "8 +++ exited with 127 +++",
            ),
            False,
        ),
        (
            (
                CHILD,
                '8 execve("/usr/bin/cpupower", ["/usr/bin/cpupower"], 0x1) = -1 ENOENT (No such)',
                '8 write(2</dev/null>, "/s: 3: /usr/bin/cpupower: not found\\n", 36) = 36',
                "8 +++ exited with 127 +++",
            ),
            True,
        ),
        (
            (
                CHILD,
                '8 execve("/usr/bin/env", ["env", "cpupower"], 0x1) = 0',
                '8 execve("/usr/sbin/cpupower", ["cpupower"], 0x1) = -1 ENOENT (No such)',
                '8 execve("/usr/bin/cpupower", ["cpupower"], 0x1) = -1 ENOENT (No such)',
                "8 +++ exited with 127 +++",
            ),
            False,
        ),
    ],
    ids=["dash", "bash", "path", "env"],
)
def test_a_program_that_is_not_there_is_missed_once(lines: tuple[str, ...], hidden: bool) -> None:
    assert [(one.name, one.hidden) for one in story(*lines).missing] == [("cpupower", hidden)]


@pytest.mark.parametrize(
    "lines",
    [
        ('7 write(2</dev/pts/0>, "/s: line 1: type: cpupower: not found\\n", 40) = 40',),
        ('7 write(2</dev/pts/0>, "key: not found, left out\\n", 25) = 25',),
        (  # it is in another directory of PATH
            CHILD,
            '8 execve("/usr/sbin/cpupower", ["cpupower"], 0x1) = -1 ENOENT (No such)',
            '8 execve("/usr/bin/cpupower", ["cpupower"], 0x1) = 0',
            "8 +++ exited with 127 +++",
        ),
        (  # not said by a shell
            CHILD,
            '8 execve("/bin/x", ["x"], 0x1) = 0',
            '8 write(2</dev/pts/0>, "x: rule: not found\\n", 19) = 19',
            "8 +++ exited with 1 +++",
        ),
    ],
)
def test_what_is_found_or_only_asked_for_is_not_missed(lines: tuple[str, ...]) -> None:
    assert story(*lines).missing == []


def test_limits_set_are_told_from_limits_asked_for() -> None:
    told = story(
        "7 prlimit64(0, RLIMIT_STACK, NULL, {rlim_cur=8192*1024, rlim_max=RLIM64_INFINITY}) = 0",
        "7 prlimit64(0, RLIMIT_NOFILE, {rlim_cur=1024*1024, rlim_max=1024*1024}, NULL) = 0",
        "7 setrlimit(RLIMIT_MEMLOCK, {rlim_cur=RLIM64_INFINITY, rlim_max=1}) = -1 EPERM (No)",
    )
    assert told.limits == [
        Limit("RLIMIT_NOFILE", 1 << 20, None, "sh /s"),
        Limit("RLIMIT_MEMLOCK", -1, "EPERM", "sh /s"),
    ]


def test_what_is_no_setting_of_the_kernel_is_touched() -> None:
    told = story(
        '7 openat(AT_FDCWD</>, "/etc/sysctl.conf", O_WRONLY|O_APPEND) = 3</etc/sysctl.conf>',
        '7 openat(AT_FDCWD</>, "/tmp/x", O_WRONLY|O_CREAT, 0666) = 3</tmp/x>',
        '7 unlinkat(AT_FDCWD</etc>, "motd", 0) = 0',
        "7 kill(1, SIGTERM) = 0",
        "7 kill(7, SIGTERM) = 0",
        "7 kill(2, 0) = 0",
        '7 write(3</proc/sysrq-trigger>, "b", 1) = 1',
        "7 vfork() = 8",
        '8 execve("/bin/systemctl", ["systemctl", "stop", "irqbalance"], 0x1) = 0',
        "8 +++ exited with 0 +++",
    )
    assert [(one.action, one.object) for one in told.touches] == [
        ("write", "/etc/sysctl.conf"),
        ("unlinkat", "/etc/motd"),
        ("kill SIGTERM", "process 1"),
        ("write", "/proc/sysrq-trigger"),
        ("run", "systemctl stop irqbalance"),
    ]
    assert told.touches[0] == Touch("write", "/etc/sysctl.conf", "sh /s")


def test_limits_that_a_program_raises_for_itself_are_its_own_affair() -> None:
    told = story(
        "7 vfork() = 8",
        '8 execve("/bin/systemctl", ["systemctl", "status"], 0x1) = 0',
        "8 prlimit64(0, RLIMIT_NOFILE, {rlim_cur=512*1024, rlim_max=512*1024}, NULL) = 0",
        "8 +++ exited with 0 +++",
    )
    assert told.limits == []


def test_what_runs_on_after_the_script_is_left_running() -> None:
    lines = [
        "7 vfork() = 8",
        '8 execve("/usr/sbin/irqbalance", ["irqbalance"], 0x1) = 0',
        "7 +++ exited with 0 +++",
    ]
    assert [(one.action, one.object) for one in story(*lines).touches] == [
        ("leave running", "irqbalance")
    ]
    assert story(*lines, "8 +++ exited with 0 +++").touches == []


def test_files_of_sys_have_one_name() -> None:
    device = "/sys/devices/pci0000:80/0000:80:00.0/virtio4/net/eth0/queues/rx-0/rps_cpus"
    assert canonical(device) == "/sys/class/net/eth0/queues/rx-0/rps_cpus"
    assert canonical("/sys/devices/virtual/block/loop0/queue/nr_requests") == (
        "/sys/block/loop0/queue/nr_requests"
    )
    assert canonical("/proc/sys//net/core/somaxconn") == "/proc/sys/net/core/somaxconn"
