"""docs/engine-options.md names every option of the build, with its default, and no other."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from iolab.describe import Describe, Option
from iolab.sizes import parse_size

PAGE = "docs/engine-options.md"
SKELETON = "--merge"  # how the page names where the skeleton's own option is given


def rows(house_root: Path) -> Iterator[tuple[str, str, str]]:
    """(option, engines, default) of each row of the page's tables."""
    for line in (house_root / PAGE).read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) == 5 and (found := re.fullmatch(r"`(\w+)`", cells[0])):
            yield found[1], cells[1], cells[3]


def documented(house_root: Path, names: list[str]) -> dict[tuple[str, str], str]:
    """The default by engine and option."""
    found: dict[tuple[str, str], str] = {}
    for option, engines, default in rows(house_root):
        for engine in names if engines == "all" else engines.split(", "):
            assert (engine, option) not in found, f"{PAGE}: {option} of {engine} is named twice"
            found[engine, option] = default
    return found


def options(built_describe: Describe) -> dict[tuple[str, str], Option]:
    """The options by engine and name, the skeleton's by the flag that sets it."""
    found = {(engine.name, o.name): o for engine in built_describe.engines for o in engine.options}
    return found | {(SKELETON, o.name): o for o in built_describe.skeleton_options}


def test_every_option_is_on_the_page_and_no_other(
    house_root: Path, built_describe: Describe
) -> None:
    names = [engine.name for engine in built_describe.engines]
    page, build = documented(house_root, names), options(built_describe)
    assert sorted(build.keys() - page.keys()) == [], f"missing in {PAGE}"
    assert sorted(page.keys() - build.keys()) == [], f"unknown in {PAGE}"


def test_defaults_on_the_page_are_the_builds(house_root: Path, built_describe: Describe) -> None:
    names = [engine.name for engine in built_describe.engines]
    page, build = documented(house_root, names), options(built_describe)
    for key in sorted(page.keys() & build.keys()):
        option, text = build[key], page[key]
        given = str(parse_size(text)) if option.type == "size" else text
        assert given == str(option.default), f"{PAGE}: {key}: {text}"


def test_every_option_of_the_page_is_explained(house_root: Path) -> None:
    text = (house_root / PAGE).read_text(encoding="utf-8")
    silent = sorted(
        {
            option
            for option, _, _ in rows(house_root)
            if f"**{option}**" not in text and f"**{option}." not in text
        }
    )
    assert silent == []
