"""docs/ci.md is pasted into other people's pipelines: what is known to break there stays out."""

from __future__ import annotations

import re
from pathlib import Path

TEXT = (Path(__file__).parents[2] / "docs" / "ci.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    """The fenced blocks of a language; of none, those without one."""
    found = re.findall(r"^```(\w*)\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
    return [text for name, text in found if name == language]


def test_the_comment_needs_no_newer_gh_than_debian_12_has() -> None:
    (workflow,) = [text for text in blocks("yaml") if "gh pr comment" in text]
    assert "container: debian:12" in workflow
    assert "--create-if-none" not in workflow  # of 2025; Debian 12 has gh 2.23


def test_a_kept_baseline_has_a_folder_to_go_to() -> None:
    (kept,) = [text for text in blocks("") if "cp -r" in text]
    assert kept.index("mkdir -p results/baselines\n") < kept.index("cp -r")
