"""A gate's outcome as JSON, as Markdown for a pull request, and as JUnit XML. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from xml.etree import ElementTree

from iolab.gate import CellOutcome, Final, Round, exit_code
from iolab.units import format_duration, format_percent
from iolab.verdict import Verdict

KIND = "gate"
_UNPRINTABLE = re.compile(r"[^\t\n\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


@dataclass(frozen=True)
class Gate:
    """All that is said of a gate. `base` and `candidate` are what was compared, in words.

    `missing` holds what the baseline runs and the candidate does not, with the reason.
    `builds` is what the manifest says of each: commit, whether it was changed, compiler, flags.
    """

    base: str
    candidate: str
    threshold: float
    outcomes: tuple[CellOutcome, ...]
    rounds: tuple[Round, ...]
    left_out: tuple[str, ...] = ()
    host: str = ""
    builds: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    missing: Mapping[str, str] = field(default_factory=dict)

    @property
    def code(self) -> int:
        """The exit status. What is missing makes no regression, and no pass."""
        code = exit_code(self.outcomes)
        return 2 if code == 0 and self.missing else code

    @property
    def discarded(self) -> tuple[Round, ...]:
        """The untrusted rounds that others replaced: no verdict of theirs counts."""
        return tuple(one.instead_of for one in self.rounds if one.instead_of is not None)

    @property
    def measured_s(self) -> float:
        """The time of all measuring, that of discarded rounds as well."""
        return sum(one.measured_s for one in (*self.rounds, *self.discarded))

    @property
    def headline(self) -> str:
        """The outcome in a sentence."""
        slow = [one.name for one in self.outcomes if one.final is Final.REGRESSION]
        if slow:
            return f"regression: {', '.join(slow)}"
        if self.missing:
            return (
                f"cannot tell: the candidate does not run {', '.join(self.missing)}, which the "
                "baseline runs; --allow-missing if that is meant"
            )
        vague = [one for one in self.outcomes if one.final is Final.UNCLEAR]
        if not self.outcomes:
            return "cannot tell: nothing was compared"
        if vague:
            return f"cannot tell: {', '.join(one.name for one in vague)}{_would_do(vague)}"
        tail = f", {len(self.left_out)} left out" if self.left_out else ""
        nr = len(self.outcomes)
        return f"no regression of {format_percent(self.threshold)} in {nr} cells{tail}"

    def to_json(self) -> dict[str, Any]:
        """The document of gate.json and of `--json`."""
        return {
            "schema_version": 1,
            "kind": KIND,
            "exit_code": self.code,
            "headline": self.headline,
            "base": self.base,
            "candidate": self.candidate,
            "threshold": self.threshold,
            "builds": {name: dict(facts) for name, facts in self.builds.items()},
            "runs": [one.run for one in self.rounds],
            "discarded": [{"run": r.run, "untrusted": r.untrusted} for r in self.discarded],
            "measured_s": round(self.measured_s, 3),
            "missing": dict(self.missing),
            "left_out": list(self.left_out),
            "cells": [
                {
                    "name": one.name,
                    "workload": one.workload,
                    "final": str(one.final),
                    "reason": one.reason,
                    "budget_s": one.budget_s,
                    "first": one.first.to_json(),
                    "again": None if one.again is None else one.again.to_json(),
                }
                for one in self.outcomes
            ],
        }


def _would_do(vague: Sequence[CellOutcome]) -> str:
    """What budget would tell of these cells, as far as one would."""
    times = [one.budget_s for one in vague if one.budget_s is not None]
    if not times:
        return ""
    rest = len(vague) - len(times)
    tail = f", but for {rest} of them no budget does" if rest else ""
    return f"; a budget of about {format_duration(max(times))} would do{tail}"


_MARKS = {Final.PASS: "pass", Final.REGRESSION: "**regression**", Final.UNCLEAR: "unclear"}


def markdown(gate: Gate) -> str:
    """A comment for a pull request."""
    lines = [
        f"### iolab gate: {gate.headline}",
        "",
        f"`{_code(gate.candidate)}` against `{_code(gate.base)}`, measured in the same blocks on "
        f"one machine{f' ({_text(gate.host)})' if gate.host else ''}; threshold "
        f"{format_percent(gate.threshold)}.",
        "",
        "| cell | ratio | interval | p | blocks | verdict | measured again | gate | |",
        "|---|--:|---|--:|--:|---|---|---|---|",
    ]
    for one in gate.outcomes:
        again = "" if one.again is None else _again(one.again)
        cells = [_text(one.name), *_figures(one.first), str(one.first.effect), again]
        lines.append(f"| {' | '.join([*cells, _MARKS[one.final], _text(one.reason)])} |")
    lines += [
        "",
        "Ratio: rate of the candidate over that of the baseline, median over blocks; p after "
        "Holm's correction; intervals hold all at once in 99%. `slower` counts when fresh "
        "processes say so again.",
    ]
    lines += ["", *(f"- {name}: {_built(facts)}" for name, facts in gate.builds.items())]
    lines += [
        f"- **missing**: {_text(name)}: {_text(reason)}" for name, reason in gate.missing.items()
    ]
    lines += [f"- left out: {_text(note)}" for note in gate.left_out]
    runs = ", ".join(f"`{_code(one.run)}`" for one in gate.rounds)
    lines += [f"- discarded: `{_code(r.run)}`: {_text(str(r.untrusted))}" for r in gate.discarded]
    lines += ["", f"Measured {format_duration(gate.measured_s)} in {runs}."]
    return "\n".join(lines) + "\n"


def _built(facts: Mapping[str, Any]) -> str:
    """A build in a line."""
    commit = f"`{_code(str(facts['commit']))}`" if facts.get("commit") else "no commit"
    made = [facts.get("compiler"), facts.get("cflags"), facts.get("build_type")]
    return ", ".join([commit, *(_text(str(part)) for part in made if part)])


def _figures(one: Verdict) -> list[str]:
    found = one.estimate
    if found is None:
        return ["", "", "", ""]
    p = "" if one.adjusted_p is None else f"{one.adjusted_p:.2g}"
    return [f"{found.ratio:.3f}", f"{found.low:.3f} to {found.high:.3f}", p, str(found.blocks)]


def _again(one: Verdict) -> str:
    return f"{one.effect}" if one.estimate is None else f"{one.effect} ({one.estimate.ratio:.3f})"


def _text(text: str) -> str:
    """Text that ends no cell of a table and starts no markup."""
    flat = " ".join(text.split())
    return re.sub(r"([\\|`*_<>\[\]])", r"\\\1", flat)


def _code(text: str) -> str:
    return " ".join(text.split()).replace("`", "'")


def junit(gate: Gate) -> str:
    """JUnit XML: a test case a cell; regressions are failures, what is unclear is skipped.

    What is missing is an error: it could not be tested.
    """
    nr = {final: sum(one.final is final for one in gate.outcomes) for final in Final}
    counts = {
        "tests": str(len(gate.outcomes) + len(gate.missing)),
        "failures": str(nr[Final.REGRESSION]),
        "errors": str(len(gate.missing)),
        "skipped": str(nr[Final.UNCLEAR]),
        "time": f"{gate.measured_s:.3f}",
    }
    # Jenkins' schema, the strictest that is in use, knows no `skipped` of all suites together.
    of_all = {name: value for name, value in counts.items() if name != "skipped"}
    root = ElementTree.Element("testsuites", of_all)
    suite = ElementTree.SubElement(root, "testsuite", {"name": "iolab gate", **counts})
    properties = ElementTree.SubElement(suite, "properties")
    facts = {"base": gate.base, "candidate": gate.candidate, "threshold": str(gate.threshold)}
    for build, said in gate.builds.items():
        facts |= {f"{build}.{key}": str(value) for key, value in said.items()}
    for name, value in facts.items():
        ElementTree.SubElement(properties, "property", {"name": name, "value": _clean(value)})
    for one in gate.outcomes:
        _case(suite, one)
    for name, reason in gate.missing.items():
        place = {"classname": "iolab.gate.missing", "name": _clean(name)}
        case = ElementTree.SubElement(suite, "testcase", place)
        words = {"message": _clean(reason), "type": "missing"}
        ElementTree.SubElement(case, "error", words).text = _clean(reason)
    ElementTree.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ElementTree.tostring(
        root, encoding="unicode"
    )


def _case(suite: ElementTree.Element, one: CellOutcome) -> None:
    place = {"classname": f"iolab.gate.{_clean(one.workload)}", "name": _clean(one.name)}
    case = ElementTree.SubElement(suite, "testcase", place)
    words = [_sentence("first", one.first)]
    if one.again is not None:
        words.append(_sentence("again", one.again))
    message = _clean("; ".join(filter(None, (one.reason, *words))))
    if one.final is Final.REGRESSION:
        failure = ElementTree.SubElement(case, "failure", {"message": message, "type": "slower"})
        failure.text = message
    elif one.final is Final.UNCLEAR:
        ElementTree.SubElement(case, "skipped", {"message": message})
    else:
        ElementTree.SubElement(case, "system-out").text = message


def _sentence(which: str, one: Verdict) -> str:
    ratio, interval, p, blocks = _figures(one)
    if not ratio:
        return f"{which}: {one.effect}: {one.reason}"
    return f"{which}: {one.effect}, ratio {ratio} [{interval}], p {p}, {blocks} blocks"


def _clean(text: str) -> str:
    """Text without what XML 1.0 cannot hold."""
    return _UNPRINTABLE.sub("?", text)
