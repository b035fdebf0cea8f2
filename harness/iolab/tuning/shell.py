"""A plan as a POSIX shell script, and the script that undoes it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from iolab.tuning import rss_table
from iolab.tuning.families import FAMILIES
from iolab.tuning.knob import Target
from iolab.tuning.planning import Plan

_HEAD = """\
#!/bin/sh
# {title}
# Written by iolab tune plan --export for this host and its queues of now.
# Exit status: 0 when every command succeeded, 1 when one failed; the others are run all the same.
# ROOT is for trying it on a tree that imitates /proc and /sys.
ROOT=${{ROOT-}}
failed=0

# put VALUE FILE [NETNS]: one write; the shell's message names the kernel's reason.
put() {{
	if [ -n "${{3-}}" ] && [ -z "$ROOT" ]; then
		# shellcheck disable=SC2016 # for the inner shell
		ip netns exec "$3" sh -c 'printf "%s\\n" "$1" >"$2"' sh "$1" "$2" || complain "$2"
	elif [ -n "${{3-}}" ]; then
		printf '%s\\n' "$1" >"$ROOT/run/netns/$3$2" || complain "$2"
	else
		printf '%s\\n' "$1" >"$ROOT$2" || complain "$2"
	fi
}}

run() {{
	"$@" || complain "$*"
}}

complain() {{
	echo "failed: $1" >&2
	failed=1
}}
"""

_LATENCY = """
# The request holds while the file is open: a background process keeps it.
LATENCY_PID=${LATENCY_PID-/run/iolab-cpu-dma-latency.pid}
hold_latency() {
	( exec 3>"$ROOT/dev/cpu_dma_latency" && printf '0x%08x' "$1" >&3 && exec sleep infinity ) &
	echo $! >"$LATENCY_PID" || complain "$LATENCY_PID"
}

release_latency() {
	[ ! -f "$LATENCY_PID" ] || { run kill "$(cat "$LATENCY_PID")"; rm -f "$LATENCY_PID"; }
}
"""

_RSS_TABLE = """
# An RSS table that ethtool cannot write: a Python program that hands it to the kernel.
RSS_TABLE='{program}'
"""

_PASSES = """
# One value may keep another from coming back, as a governor does with the energy preference: what
# fails is tried again after the others, and complained of the last time only.
left="{steps}"
for pass in first second last; do
	again=
	for step in $left; do
		failed=0
		if [ "$pass" = last ]; then
			"step_$step"
		else
			"step_$step" 2>/dev/null
		fi
		[ "$failed" -eq 0 ] || again="$again $step"
	done
	left=$again
done
[ -z "$left" ] || failed=1
"""

_TAIL = '\n[ "$failed" -eq 0 ]\n'


def export(plan: Plan) -> tuple[str, str]:
    """The script that applies what the plan would write, and its undo script."""
    items = [item for item in plan.items if item.problem is None and not item.unchanged]
    forward = [(item.setting.target, item.setting.value) for item in items]
    back = [
        (item.setting.target, item.original)
        for item in reversed(items)
        if item.original is not None
    ]
    back += [pair for pair in reversed(plan.collateral) if forward]
    return (
        _script(f"applies profile {plan.profile}", "\n".join(_writes(forward))),
        _script(f"undoes profile {plan.profile}", _in_passes(back)),
    )


def _writes(pairs: Iterable[tuple[Target, str]]) -> Iterator[str]:
    for target, value in pairs:
        inside = f", namespace {target.netns}" if target.netns else ""
        lines = FAMILIES[target.family].shell(target, value)
        yield "\n".join([f"\n# {target.key}{inside}", *lines])


def _in_passes(pairs: Iterable[tuple[Target, str]]) -> str:
    """Each write as a function, and the loop that calls them."""
    steps = [f"\nstep_{number}() {{{write}\n}}" for number, write in enumerate(_writes(pairs), 1)]
    numbers = " ".join(str(number) for number in range(1, len(steps) + 1))
    return "\n".join([*steps, _PASSES.format(steps=numbers)])


def _script(title: str, body: str) -> str:
    latency = _LATENCY if "_latency" in body else ""
    table = _RSS_TABLE.format(program=_program()) if "$RSS_TABLE" in body else ""
    return f"{_HEAD.format(title=title)}{latency}{table}{body}\n{_TAIL}"


def _program() -> str:
    """The text of rss_table.py, which has no single quotes."""
    return Path(rss_table.__file__).read_text(encoding="utf-8")
