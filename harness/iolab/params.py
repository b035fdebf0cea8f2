"""Command-line options with units: text in, numbers in the units of the code out."""

from __future__ import annotations

from collections.abc import Callable

import click

from iolab.units import parse_duration, parse_percent

Callback = Callable[[click.Context, click.Parameter, str | None], float | None]


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


PERCENT = parsed(parse_percent)
"""A share of 1 from `2%`."""

DURATION = parsed(parse_duration)
"""Seconds from `10m`."""
