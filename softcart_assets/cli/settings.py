"""Shared by the commands: the settings, and the declared tables that arguments name."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import typer

from softcart_assets.paths import REPOSITORY, softcart_home

if TYPE_CHECKING:
    from softcart_assets.lines.model import Line, Source
    from softcart_assets.stack import Stack


def read_dotenv(*, undeclared: bool = False, checks: bool = True) -> None:
    """Read the settings in `.env`. Settings of the environment take precedence.

    Those of `softcart env` do not: they are ours, and a server that `.env` names is wanted.
    `undeclared`: whether `.env` may name a source that is not declared yet. `checks`: raise
    `SettingError` if a name in `.env` is no setting, or if a setting of a server is missing.
    """
    from dotenv import dotenv_values, load_dotenv

    from softcart_assets.cli.dotenv import check
    from softcart_assets.stack.stack import forget_local

    file = dotenv_values(REPOSITORY / ".env")
    forget_local(file)
    load_dotenv(REPOSITORY / ".env")
    if checks:
        check(file, os.environ, undeclared=undeclared)


def stack() -> Stack:
    """The local stack in the folder that the settings name."""
    from softcart_assets.stack import Stack

    return Stack(softcart_home())


def environment(
    *, start: bool, metastore: bool = False, extras: Iterable[str] = ()
) -> dict[str, str]:
    """The user's settings and those of the local stack. `start`: start its servers first.

    `metastore`: also the Hive metastore. `extras`: what else the stack has from now on.
    Raises `StackError` if the stack cannot be started, or was never started.
    """
    given = {name: value for name, value in os.environ.items() if name.startswith("SOFTCART_")}
    # The local stack leaves out servers that the user names, so it overrides none of them.
    local = stack()
    return given | (local.up(metastore=metastore, extras=extras) if start else local.env())


def apply(*, start: bool, metastore: bool = False, extras: Iterable[str] = ()) -> None:
    """Put all settings into the environment of this process, where connections read them."""
    os.environ |= environment(start=start, metastore=metastore, extras=extras)


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
            # A table without its source is what people type first.
            options = [
                f"{source.name}.{name}"
                for source in sources.values()
                if name in [each.name for each in source.tables]
            ] or [f"{source_name}.{each}" for each in known]
            raise typer.BadParameter(
                f"{name!r} is not declared. There are {', '.join(options or sources)}.",
                param_hint="SOURCE[.TABLE]",
            )
        # The arguments may name a source and one of its tables too.
        tables[source_name] += [
            each for each in ([table] if table else known) if each not in tables[source_name]
        ]
    return [(sources[name], chosen) for name, chosen in tables.items() if chosen]


def lines(name: str | None) -> list[Line]:
    """The line of business of that name. No name: all of them."""
    from softcart_assets.assembly import LINES

    known = [line.name for line in LINES]
    if name and name not in known:
        raise typer.BadParameter(
            f"{name!r} is no line of business. There are {', '.join(known)}.", param_hint="LINE"
        )
    return [line for line in LINES if name in (None, line.name)]


def database(source: Source) -> Any:
    """The connection to a source that the settings name."""
    from softcart_assets.ingestion.connectors import connector

    return connector(source.kind).connection(source.env_prefix)
