"""Checks the settings: whether each name in `.env` means something, and each server's are whole.

A name that nobody reads is worse than an error. The local server would be used in the place of the
one that the user has named.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from difflib import get_close_matches

from softcart_assets.assembly import LINES
from softcart_assets.connections import PRODUCTION_DB2, PRODUCTION_MYSQL, SettingError
from softcart_assets.ingestion.connectors import connector
from softcart_assets.stack.derived import dotenv
from softcart_assets.stack.postgres import WAREHOUSES

_ALIKE = 0.85
"""All names share a long beginning, so names that are no typing mistakes are alike, too."""
_OF_COMPOSE = ("PORT", "PASSWORD")
"""What `.env` may have of a server of Docker Compose, whose address stands in its own file."""


def check(file: Collection[str], environment: Mapping[str, str], *, undeclared: bool) -> None:
    """Raise `SettingError` with everything that is wrong with the settings.

    `file`: the names in `.env`. `environment`: all settings, also those of the shell. `undeclared`:
    whether names of a source that is not declared yet are fine.
    """
    wrong = [*([] if undeclared else _unknown(file)), *_halves(environment)]
    if wrong:
        raise SettingError("\n".join(wrong))


def _unknown(names: Collection[str]) -> Iterator[str]:
    # The text explains every setting. A test sees to that.
    known = re.findall(r"^#(SOFTCART_\w+)=", dotenv(LINES.sources, LINES), re.MULTILINE)
    for name in names:
        if name.startswith("SOFTCART_") and name not in known:
            alike = get_close_matches(name, known, 1, _ALIKE)
            remedy = f"Did you mean {alike[0]}?" if alike else "`.env.example` lists all of them."
            yield f".env: {name} is no setting. {remedy}"


def _halves(environment: Mapping[str, str]) -> Iterator[str]:
    for prefix, suffixes in _needed().items():
        names = {suffix: f"{prefix}_{suffix}" for suffix in suffixes}
        given = [name for name in names.values() if environment.get(name)]
        begun = [name for name in given if not name.endswith(_OF_COMPOSE)]
        missing = [name for name in names.values() if name not in given]
        if begun and missing:
            yield (
                f"{begun[0]} is set, but not {' and '.join(missing)}. A server of yours needs "
                f"{', '.join(names.values())}. Without any of them, a local one is used."
            )


def _needed() -> dict[str, list[str]]:
    """The ends of the settings that each server of the user's own needs, by prefix."""
    sources = {
        source.env_prefix: [
            setting.suffix for setting in connector(source.kind).settings if setting.default is None
        ]
        for source in LINES.sources
    }
    needed = ["HOST", "USER", "PASSWORD", "DATABASE"]
    return sources | dict.fromkeys([*WAREHOUSES, PRODUCTION_MYSQL, PRODUCTION_DB2], needed)
