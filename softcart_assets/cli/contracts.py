"""Commands for the contracts of published tables and extracts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from softcart_assets.cli import settings

if TYPE_CHECKING:
    from softcart_assets.contracts.odcs import Product

contracts = typer.Typer(
    no_args_is_help=True, help="What people may rely on in published tables and extracts."
)


def _products() -> list[Product]:
    from pathlib import Path

    from softcart_assets.assembly import LINES
    from softcart_assets.components.publication import FRESH
    from softcart_assets.connections import EXTRACTS, PostgresConnection, setting
    from softcart_assets.contracts import products
    from softcart_assets.dbt import prepare_manifest, read_manifest
    from softcart_assets.publishing.tables import published_tables
    from spark.jobs import JOBS

    settings.apply(start=True)
    prepare_manifest()
    lineage = {name: job.lineage for name, job in JOBS.items()}
    tables = published_tables(LINES, read_manifest(), lineage)
    hours = int(FRESH.fail_window.to_timedelta().total_seconds() // 3600)
    production = PostgresConnection.from_env("SOFTCART_PRODUCTION")
    return [
        *products.published(LINES, tables, production, hours),
        *products.extracts(LINES, Path(setting(EXTRACTS)), hours),
    ]


@contracts.command()
def check() -> None:
    """Compare the contracts with production and the extracts. Fails if they differ."""
    from softcart_assets.contracts.files import differences

    found = differences(_products())
    for each in found:
        for change in each.changes:
            color = typer.colors.RED if change.weight == "breaking" else typer.colors.YELLOW
            typer.secho(f"{each.path}: {change.text} ({change.weight})", fg=color)
    if found:
        typer.echo("Run `softcart contracts write` if this is meant.")
        raise typer.Exit(1)
    typer.echo("Every contract says what there is.")


@contracts.command()
def write(
    breaking: Annotated[
        list[str] | None,
        typer.Option(help="A table or an extract whose readers know that it changes."),
    ] = None,
) -> None:
    """Write the contracts that differ and raise their versions. Breaking changes must be named."""
    from softcart_assets.contracts import files

    for each in (found := files.write(_products(), breaking or ())):
        typer.echo(f"Written: contracts/{each.path}")
    if not found:
        typer.echo("Every contract says what there is.")
