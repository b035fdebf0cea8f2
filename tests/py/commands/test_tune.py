"""The verbs of `tune`, on a machine of files: what they print, refuse and end with."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import click
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "tuning"))  # fakehost.py

import fakehost
from click.testing import CliRunner, Result

from iolab import cli, startup
from iolab.commands import tune
from iolab.errors import InputError, IolabError
from iolab.executor import HostExecutor
from iolab.tuning import journal, leftovers, state
from iolab.tuning.journal import Entry, Journal
from iolab.tuning.knob import Target
from iolab.tuning.lock import locked

PROFILE = 'summary = "a trial"\n[sysctl]\n"net.core.somaxconn" = 65535\n'


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine of files that the verbs take for the host."""
    root = tmp_path / "machine"
    root.mkdir()
    fakehost.build(root)

    @contextmanager
    def host(state: Path) -> Iterator[object]:
        with HostExecutor() as executor:
            yield fakehost.FakeHost(executor, root, state)

    for module in (tune, startup):
        monkeypatch.setattr(module, "host_of", host)
    monkeypatch.setattr(tune, "calling_shell", lambda tree: fakehost.PID)
    monkeypatch.setenv("IOLAB_STATE", str(tmp_path / "state"))
    return root


@pytest.fixture
def profile(tmp_path: Path) -> Path:
    """A profile that changes one sysctl."""
    path = tmp_path / "trial.toml"
    path.write_text(PROFILE)
    return path


def call(*argv: str | Path) -> Result:
    return CliRunner().invoke(cli.cli, ["tune", *map(str, argv)])


def value(machine: Path) -> str:
    return (machine / "proc/sys/net/core/somaxconn").read_text().strip()


def own_somaxconn(machine: Path, netns: str) -> Path:
    """Gives the machine a network namespace with a value of its own, 128; the file of that."""
    path = machine / f"run/netns/{netns}/proc/sys/net/core/somaxconn"
    path.parent.mkdir(parents=True)
    path.write_text("128\n")
    return path


def interrupt(state: Path, machine: Path) -> None:
    """What a run leaves that is killed after its first write."""
    target = Target("sysctl", "net.core.somaxconn", "proc/sys/net/core/somaxconn")
    boot = fakehost.SYSCTLS["kernel/random/boot_id"]
    Journal.create(state, "trial", boot, [Entry(target, "4096", "65535")]).begin(0)
    (machine / "proc/sys/net/core/somaxconn").write_text("65535\n")


def test_plan_apply_status_verify_revert(machine: Path, profile: Path) -> None:
    planned = json.loads(call("plan", profile, "--json").stdout)
    assert planned["applicable"] is True
    (knob,) = planned["knobs"]
    assert (knob["original"], knob["requested"], knob["unchanged"]) == ("4096", "65535", False)
    assert "no profile is applied" in call("status").stdout
    assert call("verify").exit_code == 1
    applied = call("apply", profile, "--json")
    assert applied.exit_code == 0
    assert json.loads(applied.stdout)["state"] == "applied"
    assert value(machine) == "65535"
    assert call("verify").exit_code == 0
    (document,) = json.loads(call("status", "--json").stdout)["profiles"]
    assert (document["state"], document["profile"], document["drift"]) == ("applied", "trial", [])
    reverted = call("revert", "--json")
    assert reverted.exit_code == 0
    assert value(machine) == "4096"
    assert json.loads(reverted.stdout)["knobs"][0]["original"] == "4096"
    assert "nothing to revert" in call("revert").output


def test_dry_runs_write_nothing(machine: Path, profile: Path) -> None:
    assert "65535" in call("apply", "--dry-run", profile).stdout
    assert value(machine) == "4096"
    call("apply", profile)
    assert "4096" in call("revert", "--dry-run").stdout
    assert value(machine) == "65535"


def test_a_knob_that_does_not_take_ends_with_one(
    machine: Path, profile: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(fakehost.KERNEL, "proc/sys/*", fakehost.clamp(0, 50_000))
    done = call("apply", profile, "--json")
    assert done.exit_code == 1
    document = json.loads(done.stdout)
    assert document["state"] == "rolled back"
    (knob,) = document["knobs"]
    assert (knob["outcome"], knob["effective"]) == ("clamped", "50000")
    kept = call("apply", "--partial", profile)
    assert kept.exit_code == 1
    assert "50000" in kept.stdout
    assert call("status").exit_code == 1


def test_export_writes_script_and_undo_script(machine: Path, profile: Path, tmp_path: Path) -> None:
    script = tmp_path / "tune.sh"
    assert call("plan", profile, "--export", script).exit_code == 0
    assert "put 65535 /proc/sys/net/core/somaxconn" in script.read_text()
    undo = tmp_path / "tune.sh.undo"
    assert "put 4096 /proc/sys/net/core/somaxconn" in undo.read_text()
    assert script.stat().st_mode & undo.stat().st_mode & 0o111


def test_a_script_that_cannot_be_written_is_named(
    machine: Path, profile: Path, tmp_path: Path
) -> None:
    script = tmp_path / "nowhere/t.sh"
    done = call("plan", profile, "--export", script)
    assert isinstance(done.exception, InputError)
    assert f"--export {script}: No such file or directory" in str(done.exception)


def test_the_limits_of_a_process_that_is_gone_are_in_the_way_by_file_and_key(
    machine: Path, tmp_path: Path
) -> None:
    profile = tmp_path / "trial.toml"
    profile.write_text('summary = "a trial"\n[limits]\nnofile = 4096\n')
    done = call("plan", profile, "--limits-of", "99")
    assert done.exit_code == 1
    assert f"{profile}: limits.nofile: nofile of process 99 (ended): there is no" in done.stderr
    assert call("apply", profile, "--limits-of", "99").exit_code == 1
    profile.write_text('summary = "a trial"\noptional = ["limits.*"]\n[limits]\nnofile = 4096\n')
    assert call("apply", profile, "--limits-of", "99").exit_code == 0


def test_what_is_in_the_way_ends_with_one_and_is_named(machine: Path, profile: Path) -> None:
    profile.write_text(PROFILE + '"net.core.nonsense" = 1\n')
    done = call("plan", profile)
    assert done.exit_code == 1
    assert f"{profile}: sysctl.net.core.nonsense" in done.stderr
    refused = call("apply", profile)
    assert isinstance(refused.exception, IolabError)
    assert value(machine) == "4096"


def test_a_killed_run_is_announced_and_undone_on_request(
    machine: Path, profile: Path, tmp_path: Path
) -> None:
    interrupt(tmp_path / "state", machine)
    interrupted = call("status", "--json")
    assert interrupted.exit_code == 1
    assert json.loads(interrupted.stdout)["profiles"][0]["state"] == "interrupted"
    announced = call("plan", profile)
    assert "profile trial is left applied in part by a run cut short" in announced.stderr
    assert value(machine) == "65535"
    undone = call("--auto-revert", "plan", profile)
    assert "reverted" in undone.stderr
    assert value(machine) == "4096"
    assert journal.load(tmp_path / "state") is None


def test_other_verbs_announce_it_too(machine: Path, tmp_path: Path) -> None:
    interrupt(tmp_path / "state", machine)
    done = CliRunner().invoke(cli.cli, ["compare"])
    assert "left applied in part by a run cut short: iolab tune revert" in done.stderr
    done = CliRunner().invoke(cli.cli, ["run", "--help"])
    assert (done.exit_code, done.stderr) == (0, "")


def test_no_script_is_measured_on_what_a_killed_run_left(machine: Path, tmp_path: Path) -> None:
    interrupt(tmp_path / "state", machine)
    done = call("validate", tmp_path / "x.sh", "--measure")
    assert isinstance(done.exception, IolabError)
    assert "tune validate --measure would measure the host" in str(done.exception)
    assert value(machine) == "65535"


@pytest.mark.parametrize("verb", startup.MEASURING)
def test_what_a_killed_run_left_is_not_measured(machine: Path, tmp_path: Path, verb: str) -> None:
    assert verb in cli.cli.list_commands(click.Context(cli.cli))
    interrupt(tmp_path / "state", machine)
    done = CliRunner().invoke(cli.cli, [verb])
    assert isinstance(done.exception, IolabError)
    assert f"{verb} would measure the host" in str(done.exception)
    assert "iolab tune revert" in str(done.exception)
    assert done.exception.exit_code == (2 if verb == "gate" else 1)
    assert value(machine) == "65535"


def test_any_verb_reverts_it_on_request(machine: Path, profile: Path, tmp_path: Path) -> None:
    for verb in (["run"], ["compare"], ["tune", "plan", str(profile)]):
        interrupt(tmp_path / "state", machine)
        done = CliRunner().invoke(cli.cli, ["--auto-revert", *verb])
        assert "reverted" in done.stderr
        assert value(machine) == "4096"
        assert journal.load(tmp_path / "state") is None


@pytest.mark.parametrize(("answer", "left"), [("y", "4096"), ("n", "65535")])
def test_it_is_offered_on_a_terminal(
    machine: Path, tmp_path: Path, answer: str, left: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupt(tmp_path / "state", machine)
    terminal = SimpleNamespace(isatty=lambda: True)
    monkeypatch.setattr(startup, "sys", SimpleNamespace(stdin=terminal, stderr=terminal))
    done = CliRunner().invoke(cli.cli, ["run"], input=f"{answer}\n")
    assert "revert it now?" in done.stderr
    assert value(machine) == left
    assert isinstance(done.exception, IolabError) == (answer == "n")


def test_what_root_left_is_seen_by_others(
    machine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("IOLAB_STATE")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "mine"))
    monkeypatch.setattr(state, "OF_ROOT", tmp_path / "root")
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    interrupt(tmp_path / "root", machine)
    done = CliRunner().invoke(cli.cli, ["--auto-revert", "run"])
    assert "left applied in part by a run cut short: iolab tune revert, as root" in done.stderr
    assert isinstance(done.exception, IolabError)
    assert done.exception.remedy == "sudo iolab tune revert"
    assert value(machine) == "65535"


def test_others_see_in_the_status_what_root_has_applied(
    machine: Path, tmp_path: Path, profile: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IOLAB_STATE", str(tmp_path / "root"))
    assert call("apply", profile).exit_code == 0
    monkeypatch.delenv("IOLAB_STATE")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "mine"))
    monkeypatch.setattr(state, "OF_ROOT", tmp_path / "root")
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    done = call("status")
    assert done.exit_code == 0
    assert done.stdout == f"trial: applied (journal {tmp_path / 'root/journal.jsonl'})\n"
    assert "nothing to revert" in call("revert").stderr
    assert value(machine) == "65535"


def test_what_namespaces_took_along_is_cleaned_up(
    machine: Path, profile: Path, tmp_path: Path
) -> None:
    for name in ("gone", "here"):
        own_somaxconn(machine, name)
        assert call("apply", profile, "--netns", name, "--only-netns").exit_code == 0
    shutil.rmtree(machine / "run/netns/gone")
    done = CliRunner().invoke(cli.cli, ["compare"])
    assert "profile trial is not applied any more: its values went with" in done.stderr
    states = tmp_path / "state/netns"
    assert [path.name for path in states.iterdir()] == ["here"]
    assert (states / "here/journal.jsonl").exists()
    assert call("revert").exit_code == 0
    shutil.rmtree(machine / "run/netns/here")
    with locked(states / "here"):  # somebody is at it
        CliRunner().invoke(cli.cli, ["compare"])
        assert (states / "here").exists()
    CliRunner().invoke(cli.cli, ["compare"])
    assert not (states / "here").exists()


def test_the_lock_of_a_namespace_that_is_there_is_left_to_whoever_tunes_it(
    machine: Path, profile: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = machine / "run/netns/here/proc/sys/net/core/somaxconn"
    own.parent.mkdir(parents=True)
    own.write_text("128\n")
    assert call("apply", profile, "--netns", "here", "--only-netns").exit_code == 0
    assert call("revert").exit_code == 0
    taken = []

    @contextmanager
    def taking(state: Path) -> Iterator[None]:
        taken.append(state.name)
        yield

    monkeypatch.setattr(leftovers, "locked", taking)
    for _ in range(2):
        CliRunner().invoke(cli.cli, ["compare"])
        shutil.rmtree(machine / "run/netns/here", ignore_errors=True)
    assert taken == ["here"]  # the second time, when it was gone


def test_a_reboot_leaves_no_journal_behind(machine: Path, tmp_path: Path) -> None:
    interrupt(tmp_path / "state", machine)
    (machine / "proc/sys/kernel/random/boot_id").write_text("another\n")
    done = CliRunner().invoke(cli.cli, ["run"])
    assert done.exit_code == 2  # for want of a matrix
    assert "is not applied any more: its values were lost with an earlier boot" in done.stderr
    assert journal.load(tmp_path / "state") is None


def test_a_profile_that_somebody_applied_may_be_measured(machine: Path, profile: Path) -> None:
    assert call("apply", profile).exit_code == 0
    done = CliRunner().invoke(cli.cli, ["run"])
    assert done.exit_code == 2  # for want of a matrix
    assert "left" not in done.stderr


def test_an_interrupted_verb_says_what_it_left_applied(
    machine: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def interrupted(**_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("signal.signal", lambda number, handler: None)
    monkeypatch.setattr(cli.cli, "main", interrupted)
    for left in ("", "profile trial is still applied, in part or whole"):
        if left:
            interrupt(tmp_path / "state", machine)
        with pytest.raises(SystemExit):
            cli.main()
        said = capsys.readouterr().err
        assert ("still applied" in said, "iolab tune revert" in said) == (bool(left), bool(left))
        assert left in said


def test_namespaces_and_the_host_stand_side_by_side(
    machine: Path, profile: Path, tmp_path: Path
) -> None:
    values = {}
    for name in ("left", "right"):
        values[name] = own_somaxconn(machine, name)
        applied = call("apply", profile, "--netns", name, "--only-netns")
        assert applied.exit_code == 0
    assert call("apply", profile).exit_code == 0
    assert [one.read_text() for one in values.values()] == ["65535\n"] * 2
    assert len(json.loads(call("status", "--json").stdout)["profiles"]) == 3
    assert len(json.loads(call("verify", "--json").stdout)["knobs"]) == 3
    assert call("revert", "--netns", "right").exit_code == 0
    assert [one.read_text() for one in values.values()] == ["65535\n", "128\n"]
    interrupt(tmp_path / "state/netns/right", machine)
    assert "profile trial is left" in call("plan", profile).stderr
    assert call("revert").exit_code == 0
    assert [one.read_text() for one in values.values()] == ["128\n"] * 2
    assert value(machine) == "4096"


def test_a_journal_that_cannot_be_reverted_stops_no_other(
    machine: Path, profile: Path, tmp_path: Path
) -> None:
    """One is corrupt, one is being changed; the host's own is reverted all the same."""
    for name in ("corrupt", "locked"):
        own_somaxconn(machine, name)
        assert call("apply", profile, "--netns", name, "--only-netns").exit_code == 0
    assert call("apply", profile).exit_code == 0
    states = tmp_path / "state/netns"
    (states / "corrupt/journal.jsonl").write_text("{}\n")
    with locked(states / "locked"):
        status = call("status", "--json")
        assert status.exit_code == 1
        states_of = [one["state"] for one in json.loads(status.stdout)["profiles"]]
        assert states_of == ["being changed", "applied"]
        done = call("revert", "--json")
    assert done.exit_code == 1
    assert value(machine) == "4096"
    failures = json.loads(done.stdout)["failures"]
    assert ["corrupt/journal.jsonl" in failures[0], "another iolab" in failures[1]] == [True, True]
    assert "corrupt/journal.jsonl: not a journal" in done.stderr
    assert call("verify").exit_code == 1
    (states / "corrupt/journal.jsonl").unlink()
    assert call("revert").exit_code == 0


def test_the_profiles_of_the_tree_are_listed(machine: Path) -> None:
    listing = json.loads(call("profiles", "--json").stdout)
    assert "typical-guide" in {one["name"] for one in listing["profiles"]}


def test_usage() -> None:
    assert call("plan").exit_code == 2
    assert call("plan", "typical-guide", "--only-netns").exit_code == 2
