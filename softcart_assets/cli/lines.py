"""Commands for the declarations of the lines of business."""

from __future__ import annotations

from contextlib import suppress
from typing import Annotated, Literal

import typer

from softcart_assets.cli import settings


def derive() -> None:
    """Write the files that are derived from the declarations, such as dbt's sources."""
    from softcart_assets.derive import derive as write_derived

    for path in (written := write_derived()):
        typer.echo(f"Written: {path}")
    if not written:
        typer.echo("Every derived file is up to date.")


def discover(
    prefix: Annotated[
        str, typer.Argument(help="Prefix of the database's settings, as in .env.example.")
    ],
    name: Annotated[
        str | None, typer.Option(help="The source's name. Default: the prefix without SOFTCART_.")
    ] = None,
    strategy: Annotated[
        Literal["cdc", "incremental", "snapshot"],
        typer.Option(help="The load strategy, wherever a table allows it."),
    ] = "cdc",
    views: Annotated[bool, typer.Option("--views", help="Also declare views.")] = False,
    owner: Annotated[str, typer.Option(help="Who answers for the data.")] = "team:data",
) -> None:
    """Print the declaration of a MySQL database's tables: `sources.py` of a line of business."""
    from softcart_assets.connections import MySQLConnection
    from softcart_assets.ingestion.connectors.mysql.discover import as_python
    from softcart_assets.ingestion.connectors.mysql.discover import discover as discover_source
    from softcart_assets.stack import StackError

    # Before the first `up` there is no local stack. The user's own databases need none.
    with suppress(StackError):
        settings.apply(start=False)
    connection = MySQLConnection.from_env(prefix)
    name = name or prefix.removeprefix("SOFTCART_").lower()
    found = discover_source(name, connection, strategy=strategy, views=views, owner=owner)
    typer.echo(as_python(found), nl=False)
