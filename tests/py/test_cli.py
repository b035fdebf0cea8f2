from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from iolab import cli
from iolab.errors import InputError, IolabError

VERBS = {"check", "engines", "quick", "relay-bench", "run", "test", "tune", "verify", "watch"}


def run_main(monkeypatch: pytest.MonkeyPatch, *argv: str) -> int:
    monkeypatch.setattr("sys.argv", ["iolab", *argv])
    monkeypatch.setattr("signal.signal", lambda number, handler: None)
    with pytest.raises(SystemExit) as caught:
        cli.main()
    assert isinstance(caught.value.code, int)
    return caught.value.code


def test_every_verb_has_its_help() -> None:
    runner = CliRunner()
    listing = runner.invoke(cli.cli, ["--help"])
    assert listing.exit_code == 0
    context = cli.cli.make_context("iolab", ["--help"], resilient_parsing=True)
    assert set(cli.cli.list_commands(context)) >= VERBS
    for verb in VERBS:
        assert verb in listing.output
        assert runner.invoke(cli.cli, [verb, "--help"]).exit_code == 0


@pytest.mark.parametrize(
    "argv",
    [
        ("nonsense",),
        ("run",),
        ("run", "quick", "--resume", "x"),
        ("run", "--resume", "x", "--seed", "1"),
        ("selftest", "--resume", "x", "--blocks", "60"),
        ("selftest", "--quick", "--resume", "x"),
        ("run", "--resume", "x", "--dry-run"),
        ("run", "quick", "--budget", "-1"),
        ("test", "--sanitizers", "msan"),
    ],
)
def test_wrong_usage_ends_with_two(monkeypatch: pytest.MonkeyPatch, argv: tuple[str, ...]) -> None:
    assert run_main(monkeypatch, *argv) == 2


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (IolabError("went wrong", "do this"), 1, "went wrong\n  remedy: do this"),
        (InputError("m.toml: run.x"), 2, "m.toml: run.x"),
        (KeyboardInterrupt(), 1, "interrupted"),
    ],
)
def test_failures_end_with_their_code_and_no_traceback(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    error: BaseException,
    code: int,
    words: str,
) -> None:
    def fail() -> None:
        raise error

    monkeypatch.setattr("iolab.commands.engines.open_lab", fail)
    assert run_main(monkeypatch, "engines") == code
    captured = capsys.readouterr()
    assert words in captured.err
    assert captured.out == ""


@pytest.mark.parametrize(
    "error",
    [IolabError("x"), KeyboardInterrupt(), IndexError("a bug"), BrokenPipeError()],
    ids=lambda error: type(error).__name__,
)
def test_a_gate_that_fails_is_no_regression(
    monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    """1 says that the candidate is slower, and nothing but a verdict may say it."""

    def fail() -> None:
        raise error

    monkeypatch.setattr("iolab.commands.gate.find_house", fail)
    monkeypatch.setattr("iolab.commands.engines.open_lab", fail)
    monkeypatch.setattr("sys.stderr", io.StringIO())  # which a broken pipe closes
    assert run_main(monkeypatch, "gate", "--baseline", "HEAD") == 2
    assert run_main(monkeypatch, "engines") == 1


def test_a_tree_that_is_not_built_says_how_to_build(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setenv("IOLAB_BUILD", str(tmp_path))
    assert run_main(monkeypatch, "engines") == 1
    assert "cmake --build" in capsys.readouterr().err


def test_unknown_matrices_are_answered_with_the_known_ones(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    documents = {
        "iolab-server": {"schema_version": 1, "engines": [{"name": "epoll", "sources": ["file"]}]},
        "iolab-copy": {"schema_version": 1, "techniques": [{"name": "splice"}]},
    }
    for name, document in documents.items():
        program = tmp_path / name
        program.write_text(f"#!/bin/sh\necho '{json.dumps(document)}'\n")
        program.chmod(0o755)
    monkeypatch.setenv("IOLAB_BUILD", str(tmp_path))
    assert run_main(monkeypatch, "run", "quikc") == 2
    assert "did you mean 'quick'" in capsys.readouterr().err
    assert run_main(monkeypatch, "engines", "--json") == 0
    listing = json.loads(capsys.readouterr().out)
    assert listing["engines"][0]["name"] == "epoll"
    assert listing["techniques"][0]["name"] == "splice"
    roles = {peer["name"]: peer["roles"] for peer in listing["peers"]}
    assert roles["nginx"] == ["file"]
    assert roles["piping-server"] == ["relay"]
