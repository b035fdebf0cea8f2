"""Verb `guest`: a command or a shell in a disposable machine with this host's files."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import click

from iolab.console import say
from iolab.executor import HostExecutor
from iolab.guest.parts import find_parts
from iolab.guest.session import Job, open_shell, run_job
from iolab.guest.terminal import own_terminal
from iolab.paths import find_house

_DAY_S = 86_400.0


@click.command(context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@click.option(
    "--interface", default="eth0", show_default=True, metavar="NAME", help="Name of its NIC."
)
@click.option(
    "--timeout",
    "timeout_s",
    type=click.FloatRange(min=1),
    metavar="SECONDS",
    help="Bound for a command, the boot included (default 300); a shell has a day.",
)
@click.option("--emulate", is_flag=True, help="Software emulation even where KVM works.")
@click.argument("command", nargs=-1, metavar="[--] [CMD...]")
def guest(interface: str, timeout_s: float | None, emulate: bool, command: tuple[str, ...]) -> None:
    """Run CMD, or a shell, in a disposable guest; the exit status is the command's.

    The guest has two NUMA nodes of two CPUs, a virtio NIC with four queue pairs on the second
    node, an e1000e, Debian's kernel and this host's files. What it writes stays in its memory; it
    reaches no network. It runs as root, in the current directory, without standard input.
    """
    if not command and not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise click.UsageError("a shell needs a terminal; give a command: iolab guest -- CMD")
    parts = find_parts(find_house().cache)
    directory = shlex.quote(str(Path.cwd()))
    line = shlex.join(command) if command else "${SHELL:-/bin/sh}"
    job = Job(
        f"cd {directory} || cd /\nexec {line}\n",
        interface=interface,
        timeout_s=timeout_s or (300.0 if command else _DAY_S),
        emulate=emulate,
    )
    with HostExecutor() as executor:
        if command:
            status = run_job(executor, parts, job, _pass_on).status
        else:
            say("iolab: the guest boots; exit or Ctrl-D ends it")
            status = open_shell(executor, parts, job, own_terminal())
    raise SystemExit(status)


def _pass_on(stream: str, data: bytes) -> None:
    target = sys.stdout if stream == "stdout" else sys.stderr
    target.buffer.write(data)
    target.flush()
