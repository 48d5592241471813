"""Commands for rows of the sources that could not be copied exactly."""

from __future__ import annotations

from typing import Annotated

import typer

from softcart_assets.cli import settings
from softcart_assets.cli.tables import raw_tables_held, tell

quarantine = typer.Typer(
    help="List, show, replay and erase rows of the sources that could not be copied exactly.",
    no_args_is_help=True,
)


@quarantine.command("list")
def list_entries(
    source: Annotated[str | None, typer.Option(help="Only this source.")] = None,
    table: Annotated[str | None, typer.Option(help="Only this table.")] = None,
    closed: Annotated[bool, typer.Option("--closed", help="Show closed entries instead.")] = False,
) -> None:
    """List rows in quarantine: number, table, key, column, reason."""
    from softcart_assets.connections import staging
    from softcart_assets.ingestion.quarantine import list_quarantine

    settings.apply(start=False)
    rows = list_quarantine(staging(), source, table, closed=closed)
    for row in rows:
        key = "erased" if row.erased_at else "/".join(row.key or ["no key"])
        because = f", {row.closed_because} {row.closed_at:%Y-%m-%d %H:%M}" if row.closed_at else ""
        # The reason names the column, which is printed before it.
        reason = row.reason.removeprefix(f"{row.column_name}: ")
        typer.echo(
            f"{row.id}  {row.source}.{row.table_name}  {key}  {row.column_name}: {reason}{because}"
        )
    typer.echo(f"{len(rows)} row(s) {'have left the' if closed else 'in'} quarantine.")


@quarantine.command("show")
def show_entry(
    entry: Annotated[int, typer.Argument(help="Number of the entry, from `list`.")],
) -> None:
    """Show one row with all its values as text."""
    import json

    from softcart_assets.connections import staging
    from softcart_assets.ingestion.quarantine import show

    settings.apply(start=False)
    found = show(staging(), entry)
    typer.echo(f"{found.source}.{found.table_name}, {found.column_name}: {found.reason}")
    typer.echo(
        f"read at {found.position}, {found.quarantined_at.isoformat()}; "
        f"closed: {found.closed_because or 'no'}"
    )
    if found.erased_at:
        typer.echo(f"erased {found.erased_at.isoformat()}")
    else:
        typer.echo(json.dumps(found.row, indent=2, ensure_ascii=False))


@quarantine.command("replay")
def replay_entries(
    entries: Annotated[list[int], typer.Argument(help="Numbers of entries, from `list`.")],
) -> None:
    """Read rows from their source again. Rows that were corrected there leave the quarantine."""
    from softcart_assets.connections import staging
    from softcart_assets.ingestion.load import LoadRequest, replay
    from softcart_assets.ingestion.quarantine import show
    from softcart_assets.stores import lake_uri

    settings.apply(start=False)
    wanted = {show(staging(), entry).source for entry in entries}
    with raw_tables_held():
        for source, _ in settings.chosen(sorted(wanted)):
            database = settings.database(source)
            request = LoadRequest(
                source, database, staging(), lake_uri(), released=entries, tell=tell
            )
            for result in replay(request):
                typer.echo(
                    f"{source.schema}/{result.table}: {result.inserted} row(s) in, "
                    f"{result.quarantined} still out"
                )


@quarantine.command("erase")
def erase_entries(
    entries: Annotated[
        list[int] | None, typer.Argument(help="Numbers of entries, from `list`.")
    ] = None,
    where: Annotated[
        str | None,
        typer.Option(
            metavar="SOURCE[.TABLE]:COLUMN=VALUE",
            help="All entries, open and closed, whose row has this value.",
        ),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Erase the values permanently (a GDPR request, for example). Column, reason and time are kept.

    Erase the row at the source first. Otherwise the next load finds it again.
    """
    import getpass
    import re

    from softcart_assets.connections import staging
    from softcart_assets.ingestion.quarantine import entries_with, erase

    settings.apply(start=False)
    numbers = list(entries or [])
    if where:
        match = re.fullmatch(r"([^.:=]+)(?:\.([^:=]+))?:([^=]+)=(.*)", where, re.DOTALL)
        if not match:
            raise typer.BadParameter(f"{where!r} is not of the form SOURCE[.TABLE]:COLUMN=VALUE")
        source, table, column, value = match.groups()
        settings.chosen([f"{source}.{table}" if table else source])
        numbers += [
            row.id
            for row in entries_with(staging(), source, column, value, table)
            if not row.erased_at
        ]
    if not numbers:
        typer.echo("There is nothing to erase.")
        return
    listed = ", ".join(map(str, sorted(numbers)))
    if not yes:
        typer.confirm(
            f"Erase the values of {len(numbers)} entries ({listed}) for good?", abort=True
        )
    erased = erase(staging(), numbers, getpass.getuser())
    told = ", ".join(map(str, erased)) or "none. They were erased before, or do not exist."
    typer.echo(f"Erased: {told}")
