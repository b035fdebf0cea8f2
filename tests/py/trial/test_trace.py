from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iolab.trial.inside import end_of_first, kept_lines, order_of_steps
from iolab.trial.trace import Call, End, parse, split, strings, unquote


def test_a_refused_write_has_its_path_data_and_errno() -> None:
    line = (
        '7 write(1</proc/irq/24/smp_affinity>, "ff\\n", 3) = -1 EOVERFLOW '
        "(Value too large for defined data type)"
    )
    (call,) = parse(line)
    assert isinstance(call, Call)
    assert call.descriptor() == (1, "/proc/irq/24/smp_affinity")
    assert (call.text(1), call.result, call.error) == ("ff\n", -1, "EOVERFLOW")


def test_interrupted_calls_are_put_together_and_stand_where_they_ended() -> None:
    trace = """\
7     execve("/usr/bin/grep", ["grep", "a, (b"], 0x55 /* 9 vars */ <unfinished ...>
8     openat(AT_FDCWD</tmp>, "/proc/stat", O_RDONLY) = 3</proc/stat>
7     <... execve resumed>)             = 0
9     <... read resumed>"x", 1) = 1
7     --- SIGCHLD {si_signo=SIGCHLD} ---
8     +++ exited with 1 +++
7     +++ killed by SIGPIPE +++
"""
    events = parse(trace)
    assert [(one.pid, getattr(one, "name", "end")) for one in events] == [
        (8, "openat"), (7, "execve"), (8, "end"), (7, "end"),
    ]  # fmt: skip
    assert isinstance(events[1], Call)
    assert strings(events[1].args[1]) == ["grep", "a, (b"]
    assert events[2:] == [End(8, 1), End(7, 141)]


def test_a_descriptor_may_be_relative_to_a_directory() -> None:
    (call,) = parse('7 openat(AT_FDCWD</sys/class>, "net", O_RDONLY) = 3</sys/class/net>')
    assert isinstance(call, Call)
    assert call.descriptor(0) == (-100, "/sys/class")


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        (
            '3</a,b>, "x, \\"y", {a=1, b=2}, [1, 2]',
            ["3</a,b>", '"x, \\"y"', "{a=1, b=2}", "[1, 2]"],
        ),
        ("", []),
        ("1</dev/null>", ["1</dev/null>"]),
    ],
)
def test_arguments_are_apart_at_their_own_commas(text: str, parts: list[str]) -> None:
    assert split(text) == parts


@pytest.mark.parametrize(
    ("printed", "meant"),
    [
        (r'"a\tb\n"', "a\tb\n"),
        (r'"\303\244"', "\u00e4"),
        (r'"\0\1012"', "\0A2"),
        ('"cut"...', "cut"),
        ("NULL", "NULL"),
        (r'"say \"no\" \\ "', 'say "no" \\ '),
    ],
)
def test_strings_are_read_as_strace_prints_them(printed: str, meant: str) -> None:
    assert unquote(printed) == meant


@given(st.lists(st.text(st.characters(codec="ascii"), max_size=12), max_size=5))
def test_an_argument_vector_survives_printing_and_reading(words: list[str]) -> None:
    def printed(word: str) -> str:
        return (
            '"'
            + "".join(f"\\{ord(char):03o}" if not char.isalnum() else char for char in word)
            + '"'
        )

    assert strings("[" + ", ".join(map(printed, words)) + "]") == words


@given(st.text())
def test_no_text_breaks_the_reader(text: str) -> None:
    parse(text)
    parse(f"7 write(1</proc/x>, {text}) = 1")
    unquote(f'"{text}')


def test_lookups_of_libraries_are_dropped_with_both_halves() -> None:
    kept = [
        '7 openat(AT_FDCWD</>, "/sys/class/net/eth0/mtu", O_RDONLY) = 3</sys/class/net/eth0/mtu>',
        '7 openat(AT_FDCWD</>, "/etc/x", O_WRONLY|O_CREAT, 0666) = 3</etc/x>',
        '8 execve("/bin/true", ["true"], 0x1 /* 1 var */ <unfinished ...>',
        "8 <... execve resumed>) = 0",
    ]
    dropped = [
        '7 openat(AT_FDCWD</>, "/lib/libc.so.6", O_RDONLY|O_CLOEXEC) = 3</lib/libc.so.6>',
        '7 access("/etc/ld.so.preload", R_OK <unfinished ...>',
        "7 <... access resumed>) = -1 ENOENT (No such file or directory)",
    ]
    trace = "\n".join([kept[0], *dropped, *kept[1:]])
    assert list(kept_lines(trace)) == kept


def test_the_end_of_the_script_is_known_while_its_children_run_on() -> None:
    begun = '12 execve("/bin/sh", ["sh"], 0x1) = 0\n13 +++ exited with 4 +++\n'
    assert end_of_first("") is None
    assert end_of_first(begun) is None
    assert end_of_first(f"{begun}12    +++ exited with 3 +++\n") == 3
    assert end_of_first(f"{begun}12 +++ killed by SIGTERM +++\n") == 143


def test_the_undo_follows_the_first_run_and_two_runs_stand_side_by_side() -> None:
    assert order_of_steps(undo=False) == ["run", "run"]
    assert order_of_steps(undo=True) == ["run", "undo", "run", "run"]
