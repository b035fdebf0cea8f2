"""One colour and one marker per server, the same in every chart of a report.

The first hues are the Okabe-Ito set, which stays apart under the common colour-vision
deficiencies, without its black and yellow (one of them vanishes on a dark page, the other on a
light one); the rest come from Paul Tol's muted set. A colour is never the only channel: servers
also differ by marker, and the charts write names beside the data wherever there is room.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

BASELINE_COLOUR = "#85858f"

_COLOURS = (
    "#0072b2",  # blue
    "#e69f00",  # orange
    "#009e73",  # bluish green
    "#d55e00",  # vermilion
    "#56b4e9",  # sky blue
    "#cc79a7",  # reddish purple
    "#8a8a2b",  # olive
    "#9a4ba8",  # purple
    "#2fa39b",  # teal
    "#c0566b",  # rose
    "#5b6fd6",  # indigo
    "#7a5c43",  # brown
)

# gnuplot point types of the SVG terminal, filled and hollow twin of each shape.
_SHAPES = ((7, 6), (5, 4), (9, 8), (13, 12), (11, 10), (15, 14))


@dataclass(frozen=True)
class Style:
    """How a server looks: colour as #rrggbb, gnuplot point types filled and hollow."""

    colour: str
    filled: int
    hollow: int

    @property
    def rgb(self) -> int:
        """The colour as the integer that gnuplot's `lc rgb variable` reads."""
        return int(self.colour[1:], 16)


def styles(servers: Iterable[str], baseline: str) -> dict[str, Style]:
    """A style for each server in the order given; the baseline is always the grey square.

    With more servers than colours the hues repeat with another marker.
    """
    out: dict[str, Style] = {}
    nr = 0
    for server in servers:
        if server in out:
            continue
        if server == baseline:
            out[server] = Style(BASELINE_COLOUR, 5, 4)
            continue
        turn, place = divmod(nr, len(_COLOURS))
        filled, hollow = _SHAPES[(place + place // len(_SHAPES) + turn) % len(_SHAPES)]
        out[server] = Style(_COLOURS[place], filled, hollow)
        nr += 1
    return out
