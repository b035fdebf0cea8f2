"""What options of several verbs are: those with units, and `--json`.

Text goes in, and numbers in the units of the code come out.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from iolab.units import parse_duration, parse_percent

Callback = Callable[[click.Context, click.Parameter, str | None], float | None]
CommandT = TypeVar("CommandT", bound="Callable[..., Any] | click.Command")


def parsed(parse: Callable[[str], float]) -> Callback:
    """A callback for click.option: None stays None, a ValueError of `parse` is a usage error."""

    def callback(ctx: click.Context, param: click.Parameter, value: str | None) -> float | None:
        if value is None:
            return None
        try:
            return parse(value)
        except ValueError as error:
            raise click.BadParameter(str(error), ctx, param) from error

    return callback


_PERCENT = parsed(parse_percent)
_DURATION = parsed(parse_duration)


def percent_option(
    flag: str, *, default: str | None = None, help: str
) -> Callable[[CommandT], CommandT]:
    """An option that takes `2%` and gives a share of 1; with a `default` as one would type it."""
    shown = default is not None
    return click.option(
        flag, callback=_PERCENT, metavar="PERCENT", default=default, show_default=shown, help=help
    )


def budget_option(*, help: str) -> Callable[[CommandT], CommandT]:
    """`--budget`, which takes `10m`; seconds as the parameter `budget_s`, None when not given."""
    return click.option("--budget", "budget_s", callback=_DURATION, metavar="TIME", help=help)


def json_option(*, help: str = "Print JSON.") -> Callable[[CommandT], CommandT]:
    """`--json`, as the parameter `as_json`: the verb's data as JSON on stdout."""
    return click.option("--json", "as_json", is_flag=True, help=help)
