"""Commands for the declarations of the lines of business."""

from __future__ import annotations

from contextlib import suppress
from typing import Annotated, Literal

import typer

from softcart_assets.cli import settings
from softcart_assets.paths import REPOSITORY


def derive() -> None:
    """Write the files that are derived from the declarations, such as dbt's sources.

    The file of a source that is no longer declared is deleted.
    """
    from softcart_assets.derive import derive as write_derived

    for path in (changed := write_derived()):
        typer.echo(f"{'Written' if (REPOSITORY / path).exists() else 'Deleted'}: {path}")
    if not changed:
        typer.echo("Every derived file is up to date.")


def discover(
    prefix: Annotated[
        str, typer.Argument(help="Prefix of the database's settings, as in .env.example.")
    ],
    line: Annotated[
        str, typer.Argument(help="Line of business that gets the source. It may be a new one.")
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
    """Write the declaration of a MySQL database, and a tested staging model for each table."""
    from softcart_assets.assembly import LINE_NAME
    from softcart_assets.connections import MySQLConnection
    from softcart_assets.ingestion.connectors.mysql.discover import column_types, constant_of
    from softcart_assets.ingestion.connectors.mysql.discover import discover as discover_source
    from softcart_assets.scaffold import first_files, write_missing
    from softcart_assets.stack import StackError

    name = name or prefix.removeprefix("SOFTCART_").lower()
    for what, given in (("LINE", line), ("--name", name)):
        if not LINE_NAME.fullmatch(given):
            raise typer.BadParameter(
                f"{given!r}: use small letters, digits and _, beginning with a letter.",
                param_hint=what,
            )
    # Before the first `up` there is no local stack. The user's own databases need none.
    with suppress(StackError):
        settings.apply(start=False)
    connection = MySQLConnection.from_env(prefix)
    found = discover_source(name, connection, strategy=strategy, views=views, owner=owner)
    files = first_files(line, found, column_types(found, connection), REPOSITORY)
    for path in (written := write_missing(files, REPOSITORY)):
        typer.echo(f"Written: {path}")
    if not written:
        typer.echo("Every file is there already.")
    declared = REPOSITORY / "softcart_assets" / "lines" / line / "__init__.py"
    if constant_of(found) not in declared.read_text():
        typer.echo(f"Add {constant_of(found)} to `sources` of the LINE in {declared}.")
    typer.echo(
        f"Review softcart_assets/lines/{line}/{name}.py. Then run `softcart derive` and "
        f"`softcart load {name}`."
    )
