"""Finds the applications of the lines of business: packages `softcart_assets/<line>_app/`."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

_END = "_app"


def applications() -> dict[str, Any]:
    """The module `commands` of each application, by the name of its line.

    It has `serve`, the function of `softcart serve <line>`, and `commands`, those of `softcart
    <line>`. It imports the application when one of these is called. `seeded()` is
    called when the demo has filled the sources. `opened()` tells what people can open after the
    demo, one line of text each.
    """
    package = __name__.partition(".")[0]
    folders = sorted(Path(__file__).parents[1].glob(f"*{_END}/commands.py"))
    return {
        path.parent.name.removesuffix(_END): importlib.import_module(
            f"{package}.{path.parent.name}.commands"
        )
        for path in folders
    }
