"""Commands for the running totals of the operational data store."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from softcart_assets.cli import settings
from softcart_assets.cli.tables import tell

if TYPE_CHECKING:
    from softcart_assets.lines.model import Source

ods = typer.Typer(
    help="Compare running totals with raw, or compute them anew.", no_args_is_help=True
)


@ods.command("check")
def check_totals(
    source: Annotated[
        str | None, typer.Argument(metavar="[SOURCE]", help="Only totals of this source.")
    ] = None,
) -> None:
    """Compare each total with a recount from raw. Fails if any differs."""
    from softcart_assets.connections import staging
    from softcart_assets.ingestion.sinks.ods.rebuild import check, chosen

    settings.apply(start=False)
    wrong = 0
    for each, _ in settings.chosen([source] if source else []):
        if source:
            _tell_without_totals(each)
        for total in chosen(each, None):
            found = check(staging(), each, total)
            wrong += bool(found.wrong)
            differs = f"{found.wrong:,} rows differ from raw" if found.wrong else "as raw has it"
            typer.echo(f"{total.name}: {found.rows:,} rows at {found.position}, {differs}")
            for example in found.examples:
                typer.echo(f"  {example}")
    if wrong:
        typer.echo("`softcart ods rebuild` computes totals anew.", err=True)
        raise typer.Exit(1)


@ods.command("rebuild")
def rebuild_totals(
    source: Annotated[str, typer.Argument(metavar="SOURCE", help="The source of the totals.")],
    total: Annotated[str | None, typer.Option(help="Only this total.")] = None,
) -> None:
    """Compute totals anew from raw, while a stream goes on. Readers see the old ones until then."""
    from softcart_assets.connections import staging
    from softcart_assets.ingestion.sinks.ods.rebuild import chosen, rebuild

    settings.apply(start=False)
    [(declared, _)] = settings.chosen([source])
    try:
        wanted = chosen(declared, total)
    except KeyError as error:
        raise typer.BadParameter(str(error.args[0])) from None
    _tell_without_totals(declared)
    for each in wanted:
        rows = rebuild(staging(), declared, each, tell=tell)
        typer.echo(f"{each.name}: {rows:,} rows")


def _tell_without_totals(source: Source) -> None:
    # Otherwise silence would pass for a comparison without a difference.
    if not source.totals:
        typer.echo(f"Source {source.name!r} declares no running totals.")
