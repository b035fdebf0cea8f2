"""The command line: one verb per file of `iolab.commands`, and what each kind of failure ends with.

Exit codes: 0 ok, 1 finding or failure (also an interrupted run), 2 usage or wrong input. Of `gate`
1 says "a regression" and nothing else: whatever keeps it from an answer, be it a bug, ends with 2.
"""

from __future__ import annotations

import importlib
import pkgutil
import signal
import sys
import traceback
from types import FrameType
from typing import NoReturn

import click

from iolab import __version__, commands
from iolab.errors import IolabError
from iolab.remains import something_remains
from iolab.tuning.state import journalled

_HELP = "iolab.help"


class Verbs(click.Group):
    """Finds verbs by file name and imports only the one that is called.

    The verb NAME is the click command called NAME in iolab/commands/NAME.py; a dash in NAME is an
    underscore there.
    """

    def list_commands(self, ctx: click.Context) -> list[str]:
        """See click.Group."""
        names = (found.name for found in pkgutil.iter_modules(commands.__path__))
        return sorted(name.replace("_", "-") for name in names)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """See click.Group."""
        if cmd_name not in self.list_commands(ctx):
            return None
        name = cmd_name.replace("-", "_")
        command = getattr(importlib.import_module(f"iolab.commands.{name}"), name)
        assert isinstance(command, click.Command), f"commands/{name}.py defines no {name}"
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """See click.Group. Notes whether the verb is only asked for its help."""
        ctx.meta[_HELP] = bool({"-h", "--help"} & set(args))
        return super().resolve_command(ctx, args)


@click.group(cls=Verbs, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="iolab")
@click.option(
    "--auto-revert", is_flag=True, help="First undo what a killed run left applied, unasked."
)
@click.pass_context
def cli(context: click.Context, auto_revert: bool) -> None:
    """Find which I/O path a server on this machine should use, and say how sure that is.

    Start with `iolab quick`: it checks every engine, measures for a few minutes and writes a
    report.
    """
    verb = context.invoked_subcommand or ""
    if context.meta.get(_HELP) or verb == "tune":  # whose verbs differ in this
        return
    if something_remains():
        from iolab.startup import mind_leftovers  # much to import where there are none, as usual

        mind_leftovers(verb, auto_revert)


def main() -> NoReturn:
    """Runs the verb that the command line names; the only place that turns errors into codes."""
    # SIGINT too: a shell starts background jobs with it ignored, and Python would leave it so.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # nohup(1) asks to outlive a terminal
        signal.signal(signal.SIGHUP, _interrupt)
    try:
        code = cli.main(standalone_mode=False, prog_name="iolab")
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except IolabError as error:
        click.echo(f"iolab: {error}", err=True)
        sys.exit(max(error.exit_code, _failure()))
    except (KeyboardInterrupt, click.Abort):
        click.echo("iolab: interrupted; every process it started has ended", err=True)
        _warn_of_applied()
        sys.exit(_failure())
    except BrokenPipeError:
        # Whoever read our output has left, as `head` does; closing stderr keeps Python quiet.
        sys.stderr.close()
        sys.exit(_failure())
    except Exception:
        traceback.print_exc()
        sys.exit(_failure())
    sys.exit(code if isinstance(code, int) else 0)


def _failure() -> int:
    """What a failure of the verb that was called ends with."""
    verb = next((word for word in sys.argv[1:] if not word.startswith("-")), None)
    return 2 if verb == "gate" else 1


def _warn_of_applied() -> None:
    """An interrupted run has reverted; where that could not be, its host is said to be tuned."""
    if not journalled():
        return
    from iolab.startup import still_applied

    applied = still_applied()
    if applied:
        click.echo(f"iolab: {applied}\n  remedy: iolab tune revert", err=True)


def _interrupt(number: int, frame: FrameType | None) -> None:
    """Any of these signals ends a run as Ctrl-C does: children first, finished blocks kept."""
    raise KeyboardInterrupt
