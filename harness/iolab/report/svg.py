"""Makes gnuplot's SVG fit for a light and a dark page, and readable by a screen reader.

gnuplot writes fixed colours. The page's inks (text, grid, background, hatching) are known values,
so a style block that matches on them can swap them when the reader's system asks for dark; a
viewer that ignores the media query shows the light picture.
"""

from __future__ import annotations

import re
from html import escape

FONT = "DejaVu Sans"

INK = {
    "page": "#ffffff",
    "strong": "#101014",
    "text": "#26262b",
    "muted": "#6a6a75",
    "grid": "#e3e3e8",
    "hatch": "#b9b9c4",
}

_DARK = {
    "page": "#16181c",
    "strong": "#ffffff",
    "text": "#dcdce2",
    "muted": "#9a9aa6",
    "grid": "#2c2f36",
    "hatch": "#4c505a",
}

_RGB = re.compile(r"rgb\(\s*(\d+)\s*,\s*(\d+)\s*,\s*(\d+)\s*\)")
_TITLE = re.compile(r"<title>.*?</title>\s*<desc>.*?</desc>", re.DOTALL)
_FONTS = "system-ui, -apple-system, 'Segoe UI', 'DejaVu Sans', Arial, sans-serif"


def _style() -> str:
    """The style block: fonts, and dark inks under the media query."""
    swaps = []
    for name, light in INK.items():
        dark = _DARK[name]
        for attribute in ("fill", "stroke", "color"):
            swaps.append(f'[{attribute}="{light}"]{{{attribute}:{dark}}}')
    # gnuplot writes the ink of hatching into a style attribute, which only !important overrides.
    swaps.append(f"pattern path{{stroke:{_DARK['hatch']} !important}}")
    strong = INK["strong"]
    return (
        "<style>\n"
        f"text{{font-family:{_FONTS};white-space:pre}}\n"
        f'[fill="{strong}"]{{font-weight:600}}\n'
        f"@media (prefers-color-scheme:dark){{\n{''.join(swaps)}\n}}\n"
        "</style>\n"
    )


def finish(text: str, title: str, alt: str) -> str:
    """gnuplot's SVG with colours normalised to #rrggbb, the style block, a title and a text.

    Raises ValueError when `text` is not what gnuplot's SVG terminal writes.
    """
    if "</desc>" not in text or "</svg>" not in text:
        raise ValueError("not a finished gnuplot SVG")
    text = _RGB.sub(lambda m: f"#{int(m[1]):02x}{int(m[2]):02x}{int(m[3]):02x}", text)
    for ink in INK.values():
        text = text.replace(f'"{ink.upper()}"', f'"{ink}"').replace(f"'{ink.upper()}'", f"'{ink}'")
    head = f"<title>{escape(title)}</title>\n<desc>{escape(alt)}</desc>\n{_style()}"
    text = _TITLE.sub(lambda _: head, text, count=1)
    text = text.replace('font-family="DejaVu Sans"', "")
    return text.replace("<svg \n", '<svg role="img"\n', 1)
