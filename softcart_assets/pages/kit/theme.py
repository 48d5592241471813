"""The colours of pages and pictures."""

from __future__ import annotations

from typing import Final

FONT: Final = (
    "system-ui, -apple-system, 'Segoe UI', Roboto, 'Liberation Sans', 'Noto Sans', sans-serif"
)

THEMES: Final = {
    "light": {
        "paper": "#f5f6f8",
        "card": "#ffffff",
        "ink": "#17202c",
        "muted": "#566273",
        "line": "#e1e5ea",
        "accent": "#2a55c4",
        "tint": "#e6ecfa",
        "previous": "#8f9bab",
        "good": "#0a7447",
        "bad": "#b3261e",
        "cold": "#eff3fb",
        "hot": "#17357f",
    },
    "dark": {
        "paper": "#0e131a",
        "card": "#171e28",
        "ink": "#e7ecf2",
        "muted": "#a2afbf",
        "line": "#2b3543",
        "accent": "#86abff",
        "tint": "#22304a",
        "previous": "#71809a",
        "good": "#62d39c",
        "bad": "#ff938a",
        "cold": "#1c2532",
        "hot": "#bcd2ff",
    },
}


def variables() -> str:
    """The themes as CSS variables. Paper is always light."""
    blocks = {
        name: "".join(f"--{key}:{color};" for key, color in colors.items())
        for name, colors in THEMES.items()
    }
    return (
        f":root{{--font:{FONT};{blocks['light']}}}"
        f"@media screen and (prefers-color-scheme:dark){{:root{{{blocks['dark']}}}}}\n"
    )
