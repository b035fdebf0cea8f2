"""What a gate writes: JUnit XML, Markdown, JSON, and the headline above them."""

from __future__ import annotations

import re
from dataclasses import replace
from xml.etree import ElementTree

from fakegate import found, rounds

from iolab.gate import CellOutcome, Round, decide
from iolab.gate_pairs import BASE, CANDIDATE
from iolab.gate_report import Gate, junit, markdown
from iolab.verdict import Effect


def gate_of(*outcomes: CellOutcome) -> Gate:
    return Gate(
        "main (0123)", "HEAD|`x` (4567)", 0.05, outcomes,
        (Round("20260102-101112-gate", (), measured_s=61.2),), ("c@1KiB: not in both",), "CPU <1>",
        {name: {"commit": digit * 40, "dirty": False, "compiler": "GNU 12.2 | x", "cflags": "-O2"}
         for name, digit in ((BASE, "0"), (CANDIDATE, "4"))},
    )  # fmt: skip


def all_finals() -> Gate:
    outcomes = [
        *rounds(Effect.SAME, None),
        *rounds(Effect.SLOWER, Effect.SLOWER),
        *rounds(Effect.UNCLEAR, None),
    ]
    return gate_of(*outcomes)


def test_junit_counts_and_explains() -> None:
    text = junit(all_finals())
    root = ElementTree.fromstring(text)
    assert (root.get("tests"), root.get("failures")) == ("3", "1")
    suite = root.find("testsuite")
    assert suite is not None
    assert (suite.get("tests"), suite.get("failures"), suite.get("skipped")) == ("3", "1", "1")
    said = {one.get("name"): one.get("value") for one in suite.iter("property")}
    assert said["candidate.commit"] == "4" * 40
    failure = root.find(".//failure")
    assert failure is not None
    assert "slower, twice" in (failure.get("message") or "")
    assert "again: slower, ratio 0." in (failure.text or "")
    skipped = root.find(".//skipped")
    assert skipped is not None
    assert "budget" in (skipped.get("message") or "")


def test_junit_survives_what_xml_cannot_hold() -> None:
    (plain,) = rounds(Effect.SAME, None)
    text = junit(gate_of(replace(plain, reason="bell \x07 & <tag> \ud800")))
    output = ElementTree.fromstring(text).find(".//system-out")
    assert output is not None
    assert "bell ? & <tag> ?" in (output.text or "")


# What junit-10.xsd of Jenkins' xunit plugin allows: attributes that must be there, those that may
# be, and children. Text is allowed where it says so.
JUNIT = {
    "testsuites": ((), ("name", "time", "tests", "failures", "errors"), ("testsuite",)),
    "testsuite": (
        ("name", "tests", "failures", "errors"),
        (
            "group",
            "time",
            "skipped",
            "timestamp",
            "hostname",
            "id",
            "package",
            "file",
            "log",
            "url",
        ),
        ("testsuite", "properties", "testcase", "system-out", "system-err"),
    ),
    "properties": ((), (), ("property",)),
    "property": (("name", "value"), (), ()),
    "testcase": (
        ("name",),
        ("time", "classname", "group"),
        ("skipped", "error", "failure", "system-out", "system-err"),
    ),
    "failure": ((), ("type", "message"), ()),
    "skipped": ((), ("type", "message"), ()),
    "system-out": ((), (), ()),
}

_MIXED = ("failure", "skipped", "system-out")


def junit_trouble(element: ElementTree.Element) -> list[str]:
    """Where a document is not what consumers of JUnit XML take."""
    if element.tag not in JUNIT:
        return [f"no element {element.tag}"]
    needed, optional, children = JUNIT[element.tag]
    found = [f"{element.tag} lacks {name}" for name in needed if name not in element.attrib]
    found += [f"{element.tag} {n}" for n in element.attrib if n not in (*needed, *optional)]
    found += [f"{element.tag} in {element.tag}" for c in element if c.tag not in children]
    if element.tag not in _MIXED and (element.text or "").strip():
        found.append(f"text in {element.tag}")
    if not re.fullmatch(r"[0-9]{0,9}(\.[0-9]*)?", element.get("time", "")):
        found.append(f"time {element.get('time')}")
    return found + [trouble for child in element for trouble in junit_trouble(child)]


def test_junit_is_what_its_consumers_take() -> None:
    for gate_ in (all_finals(), gate_of()):
        root = ElementTree.fromstring(junit(gate_))
        assert junit_trouble(root) == []
    root.set("skipped", "1")
    ElementTree.SubElement(root, "oops")
    assert junit_trouble(root) == [
        "testsuites skipped", "testsuites in testsuites", "no element oops",
    ]  # fmt: skip


def test_both_builds_are_named_whole() -> None:
    document = all_finals().to_json()
    assert document["builds"][CANDIDATE]["commit"] == "4" * 40
    assert document["builds"][BASE]["cflags"] == "-O2"
    text = markdown(all_finals())
    assert f"- candidate: `{'4' * 40}`, GNU 12.2 \\| x, -O2" in text


def test_markdown_says_it_first_and_keeps_its_table_whole() -> None:
    text = markdown(all_finals())
    lines = text.splitlines()
    assert lines[0].startswith("### iolab gate: regression: candidate/a@1KiB")
    rows = [line for line in lines if line.startswith("| candidate/a")]
    assert len(rows) == 3
    assert {row.count(" | ") for row in rows} == {9 - 1}
    assert "**regression**" in rows[1]
    assert "`HEAD|'x' (4567)`" in text
    assert "CPU \\<1\\>" in text
    assert "Measured 62 s in `20260102-101112-gate`." in text


def test_an_untrusted_round_that_was_measured_anew_is_not_hidden() -> None:
    lost = Round("lost-gate", (), untrusted="a#2 to a: 0.9", measured_s=40.0)
    kept = Round("kept-gate", (found(Effect.SAME),), measured_s=60.0, instead_of=lost)
    done = replace(gate_of(*decide(kept, None)), rounds=(kept,))
    document = done.to_json()
    assert document["discarded"] == [{"run": "lost-gate", "untrusted": "a#2 to a: 0.9"}]
    assert (document["measured_s"], document["exit_code"]) == (100.0, 0)
    assert "discarded: `lost-gate`" in markdown(done)


def test_headlines() -> None:
    passed = gate_of(*rounds(Effect.SAME, None))
    assert passed.headline == "no regression of 5% in 1 cells, 1 left out"
    assert replace(passed, left_out=()).headline == "no regression of 5% in 1 cells"
    vague = gate_of(*rounds(Effect.UNCLEAR, None)).headline
    slow = gate_of(*rounds(Effect.SLOWER, Effect.SLOWER))
    for one, code, words in (
        (passed, 2, "cannot tell: the candidate does not run b@1KiB, which the baseline runs; "),
        (slow, 1, "regression: candidate/a@1KiB"),
    ):
        less = replace(one, missing={"b@1KiB": "unknown | engine"})
        assert less.code == less.to_json()["exit_code"] == code
        assert less.headline.startswith(words)
        assert less.to_json()["missing"] == {"b@1KiB": "unknown | engine"}
        assert "- **missing**: b@1KiB: unknown \\| engine" in markdown(less)
        suite = ElementTree.fromstring(junit(less).partition("\n")[2]).find("testsuite")
        assert suite is not None
        assert (suite.get("tests"), suite.get("errors")) == ("2", "1")
        assert [error.get("message") for error in suite.iter("error")] == ["unknown | engine"]
    assert vague.startswith("cannot tell: candidate/a@1KiB; a budget of about")
    capped = replace(rounds(Effect.UNCLEAR, None)[0], name="candidate/b@1KiB", budget_s=None)
    both = gate_of(*rounds(Effect.UNCLEAR, None), capped).headline
    assert both.startswith("cannot tell: candidate/a@1KiB, candidate/b@1KiB; a budget of about")
    assert both.endswith(" would do, but for 1 of them no budget does")
    assert gate_of(capped).headline == "cannot tell: candidate/b@1KiB"
    assert gate_of().headline == "cannot tell: nothing was compared"
    document = all_finals().to_json()
    assert document["exit_code"] == 1
    assert [cell["final"] for cell in document["cells"]] == ["pass", "regression", "unclear"]
