"""A verdict as tables. Knobs of one kind with the same outcome share a row."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from rich.markup import escape
from rich.table import Table

from iolab.trial.transfer import Part
from iolab.trial.verdict import KnobVerdict, Outcome, Verdict, display

_LONGEST = 32
"""Characters of a value that are shown."""


def knob_table(verdict: Verdict) -> Table:
    """One row a knob, or a group of numbered ones."""
    table = Table()
    for name, width in (("knob", 24), ("verdict", 10), ("was", 9), ("asked", 9), ("has", 9)):
        table.add_column(name, overflow="fold", min_width=width)
    table.add_column("remark", overflow="fold", min_width=20)
    for group in grouped(verdict.knobs):
        first = group[0]
        name = _pattern(first.knob) if len(group) > 1 else display(first.knob)
        values = [
            _common([knob.before for knob in group]),
            _common([knob.wanted for knob in group]),
            _common([knob.after for knob in group]),
        ]
        more = f" ({len(group)} of them)" if len(group) > 1 else ""
        cells = [name + more, str(first.outcome), *values, first.detail]
        table.add_row(*(escape(cell) for cell in cells))
    return table


def finding_table(verdict: Verdict) -> Table:
    """One row a finding."""
    table = Table("finding", "where it shows")
    for finding in verdict.findings:
        table.add_row(str(finding.kind), escape(finding.text))
    return table


def part_table(parts: Sequence[Part]) -> Table:
    """One row a knob of the script, or a group of numbered ones: measured, or why it is not."""
    table = Table("knob", "value", "measured", "remark")
    groups: dict[tuple[str, str | None, bool, str], list[Part]] = {}
    for part in parts:
        reason = re.sub(r"\d+", "#", part.reason)
        key = (_numbered(part.knob), part.value, part.key is not None, reason)
        groups.setdefault(key, []).append(part)
    for (pattern, value, takes_part, _), group in groups.items():
        name = f"{pattern} ({len(group)} of them)" if len(group) > 1 else group[0].knob
        cells = (name, _common([value]), "yes" if takes_part else "no", group[0].reason)
        table.add_row(*(escape(cell) for cell in cells))
    return table


def summary(verdict: Verdict) -> str:
    """One line: how many knobs came out how."""
    counts = dict.fromkeys(Outcome, 0)
    for knob in verdict.knobs:
        counts[knob.outcome] += 1
    parts = [f"{count} {outcome}" for outcome, count in counts.items() if count]
    findings = f"{len(verdict.findings)} finding{'' if len(verdict.findings) == 1 else 's'}"
    return f"{', '.join(parts) or 'no knob'}; {findings}; exit status {verdict.status}"


def grouped(knobs: Sequence[KnobVerdict]) -> Iterator[list[KnobVerdict]]:
    """Knobs that differ in numbers only (queues, interrupts, CPUs) and came out alike."""
    groups: dict[tuple[str, Outcome, str], list[KnobVerdict]] = {}
    for knob in knobs:
        detail = re.sub(r"\d+", "#", knob.detail)
        groups.setdefault((_pattern(knob.knob), knob.outcome, detail), []).append(knob)
    yield from groups.values()


def _pattern(knob: str) -> str:
    """`rx-3` and `/proc/irq/24/` with a star for the number; names such as `ipv4` stay."""
    return display(_numbered(knob))


def _numbered(knob: str) -> str:
    return re.sub(r"(?<=[-/:])\d+(?=/|$)|(?<=/cpu)\d+", "*", knob)


def _common(values: list[str | None]) -> str:
    """The value that all have; `...` where they differ."""
    if len(set(values)) > 1:
        return "..."
    text = "-" if values[0] is None else " ".join(values[0].split())
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."
