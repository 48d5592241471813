"""What the commands share: the settings, and the declared tables that arguments name."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from softcart_assets.connections import MongoConnection, MySQLConnection
    from softcart_assets.lines.model import Source
    from softcart_assets.stack import Stack

REPOSITORY = Path(__file__).resolve().parents[2]


def read_dotenv() -> None:
    """Take the settings in `.env`, as far as the environment does not have them."""
    if (REPOSITORY / ".env").exists():
        from dotenv import load_dotenv

        load_dotenv(REPOSITORY / ".env")


def stack() -> Stack:
    """The local stack that the settings lead to."""
    from softcart_assets.stack import Stack, default_home

    return Stack(default_home())


def environment(*, start: bool) -> dict[str, str]:
    """The user's settings and those of the local stack, which is started if wanted."""
    given = {name: value for name, value in os.environ.items() if name.startswith("SOFTCART_")}
    local = stack()
    return given | (local.up() if start else local.env())


def apply(*, start: bool) -> None:
    """Put all settings into the environment of this process, where connections read them."""
    os.environ |= environment(start=start)


def chosen(names: list[str]) -> list[tuple[Source, list[str]]]:
    """The sources and tables that `SOURCE` and `SOURCE.TABLE` name. No names: all of them."""
    from softcart_assets.assembly import LINES

    sources = {source.name: source for source in LINES.sources}
    tables: dict[str, list[str]] = {name: [] for name in sources}
    for name in names or tables:
        source_name, _, table = name.partition(".")
        known = (
            [each.name for each in sources[source_name].tables] if source_name in sources else []
        )
        if source_name not in sources or (table and table not in known):
            options = [f"{source_name}.{each}" for each in known] or list(sources)
            raise typer.BadParameter(f"{name!r} is not declared. There are {', '.join(options)}.")
        tables[source_name] += [
            each for each in ([table] if table else known) if each not in tables[source_name]
        ]
    return [(sources[name], chosen) for name, chosen in tables.items() if chosen]


def database(source: Source) -> MySQLConnection | MongoConnection:
    """The connection to a source that the settings name."""
    from softcart_assets.connections import MongoConnection, MySQLConnection

    kind = MongoConnection if source.kind == "mongodb" else MySQLConnection
    return kind.from_env(source.env_prefix)
