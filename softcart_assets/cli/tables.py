"""Commands that load raw tables, compare them with their sources and repair them."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Annotated

import typer

from softcart_assets.cli import settings


def tell(line: str) -> None:
    """Print whom a command waits for."""
    typer.echo(line, err=True)


@contextmanager
def raw_tables_held() -> Iterator[None]:
    """Keep builds off the raw tables while they change, as a load in Dagster does.

    The pool of Dagster does not know of this process.
    """
    from softcart_assets.connections import staging
    from softcart_assets.ingestion.raw_tables import raw_tables_held as held

    with held(staging(), exclusive=False, tell=tell):
        yield


def _figures(title: str, columns: list[str], rows: list[list[str]]) -> None:
    """Print a table. All columns but the first and the last hold figures."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(
        title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0)
    )
    for number, column in enumerate(columns):
        table.add_column(
            column, justify="right" if 0 < number < len(columns) - 1 else "left", no_wrap=True
        )
    for row in rows:
        table.add_row(*row)
    # Without a terminal, rich takes 80 columns and would cut the positions.
    Console(width=None if sys.stdout.isatty() else 160).print(table)


_Tables = Annotated[
    list[str] | None,
    typer.Argument(metavar="[SOURCE[.TABLE]]...", help="Default: every table of every source."),
]


def load(
    tables: _Tables = None,
    full: Annotated[
        bool, typer.Option("--full", help="Compare every row. Do not rely on cursors.")
    ] = False,
    restate: Annotated[
        bool,
        typer.Option(
            "--restate",
            help="Also write all rows of the raw tables to the lake again. Use this if the check "
            "`equals_raw` of a lake table fails.",
        ),
    ] = False,
) -> None:
    """Load raw tables from their sources now, without Dagster. Fails if a table was not loaded."""
    from softcart_assets.assembly import LINES
    from softcart_assets.connections import ServerUnreachable, SettingError, staging
    from softcart_assets.ingestion.errors import IngestionError
    from softcart_assets.ingestion.load import LoadRequest
    from softcart_assets.ingestion.load import load as load_tables
    from softcart_assets.ingestion.sinks.ods.keeping import forget_sources
    from softcart_assets.progress import TableProgress
    from softcart_assets.stores import lake_uri

    settings.apply(start=False)
    chosen = settings.chosen(tables or [])
    rows, warnings, failures = [], [], []
    with raw_tables_held(), TableProgress() as progress:
        for source, names in chosen:
            try:
                request = LoadRequest(
                    source,
                    settings.database(source),
                    staging(),
                    lake_uri(),
                    full=full,
                    restate=restate,
                    on_progress=progress.of(source.name),
                    tell=tell,
                )
                for result in load_tables(request, names):
                    name = f"{source.name}.{result.table}"
                    progress.done(name, result.rows_read)
                    warnings += [f"{name}: {each}" for each in result.warnings]
                    figures = (
                        result.rows_read,
                        result.inserted,
                        result.updated,
                        result.deleted,
                        result.quarantined,
                    )
                    rows.append(
                        [
                            name,
                            *(f"{figure:,}" for figure in figures),
                            f"{result.seconds:.1f}",
                            f"{result.rows_per_second:,.0f}",
                            result.position,
                        ]
                    )
            except (IngestionError, ServerUnreachable, SettingError) as error:
                # Told at the end, because the other sources are still loaded, whether some tables
                # failed or the whole source is down or not configured.
                failures.append(str(error))
        # If it cannot be asked, nothing was loaded either, and that is told.
        with suppress(ServerUnreachable, SettingError), staging().connect() as connection:
            forget_sources(connection, [source.name for source in LINES.sources])
    _figures(
        "Loaded",
        ["table", "read", "inserted", "updated", "deleted", "out", "s", "rows/s", "position"],
        rows,
    )
    for line in warnings:
        typer.secho(line, err=True, fg=typer.colors.YELLOW)
    if failures:
        typer.secho("\n".join(failures), err=True, fg=typer.colors.RED)
        raise typer.Exit(1)


def resnapshot(
    table: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE[.TABLE]", help="A captured table, or all tables of a source."
        ),
    ],
    first: Annotated[
        str | None, typer.Option("--from", help="Only from this value of the leading key column.")
    ] = None,
    last: Annotated[
        str | None, typer.Option("--to", help="Only up to this value of the leading key column.")
    ] = None,
) -> None:
    """Re-read a captured table, or a range of its keys, and repair rows that differ.

    A table that stopped because its columns changed continues with its present columns. For a whole
    source, re-read every table and restart at the end of the log. Use this if the log was purged.
    """
    from softcart_assets.connections import staging
    from softcart_assets.ingestion.capture import resnapshot as read_again
    from softcart_assets.progress import TableProgress
    from softcart_assets.stores import lake_uri

    settings.apply(start=False)
    declared, _ = settings.chosen([table])[0]
    name = table.partition(".")[2] or None
    key_range = (first, last) if first is not None or last is not None else None
    if key_range and not name:
        raise typer.BadParameter("--from and --to need a table: SOURCE.TABLE")
    with TableProgress() as progress:
        results = read_again(
            declared,
            settings.database(declared),
            staging(),
            lake_uri(),
            name,
            key_range,
            on_progress=progress.of(declared.name),
            tell=tell,
        )
    rows = [
        [f"{declared.name}.{each.table}", f"{each.rows_changed:,}", each.position]
        for each in results
    ]
    _figures("Read again", ["table", "rows repaired", "position"], rows)


def reconcile(
    tables: _Tables = None,
    repair: Annotated[
        bool, typer.Option("--repair", help="Load the rows that differ, and no others.")
    ] = False,
) -> None:
    """Compare raw tables with their sources, row by row. Fails if differences remain."""
    from softcart_assets.connections import ServerUnreachable, SettingError, staging
    from softcart_assets.ingestion.connectors import connector
    from softcart_assets.ingestion.errors import IngestionError
    from softcart_assets.ingestion.load import LoadRequest
    from softcart_assets.ingestion.proof.reconcile import reconcile as reconcile_table
    from softcart_assets.progress import TableProgress
    from softcart_assets.stores import lake_uri

    settings.apply(start=False)
    chosen = settings.chosen(tables or [])
    if not tables:
        chosen = [each for each in chosen if connector(each[0].kind).is_comparable]
    rows, told, is_settled = [], [], True
    with raw_tables_held(), TableProgress() as progress:
        for source, names in chosen:
            for name in names:
                try:
                    request = LoadRequest(
                        source,
                        settings.database(source),
                        staging(),
                        lake_uri(),
                        on_progress=progress.of(source.name),
                        tell=tell,
                    )
                    found = reconcile_table(request, name, repair=repair)
                except (IngestionError, ServerUnreachable, SettingError) as error:
                    # Told at the end, because the other tables are still compared.
                    told.append(str(error))
                    is_settled = False
                    continue
                progress.done(f"{source.name}.{name}", found.rows)
                is_settled &= found.is_settled
                verdict = (
                    "equal"
                    if not found.differences
                    else "repaired"
                    if found.is_repaired
                    else "differs"
                )
                counts = (
                    found.missing,
                    found.extra,
                    found.differing,
                    found.unfit,
                    found.quarantined,
                )
                rows.append(
                    [
                        f"{source.name}.{name}",
                        f"{found.rows:,}",
                        *(f"{count:,}" for count in counts),
                        f"{found.seconds:.1f}",
                        verdict,
                        found.position,
                    ]
                )
                told += [
                    f"{source.name}.{name}: {each}" for each in [*found.sample, *found.warnings]
                ]
                if found.before_load:
                    told.append(
                        f"before the load that preceded the comparison: {found.before_load}"
                    )
    _figures(
        "Compared with the source",
        ["table", "rows", "missing", "extra", "differing", "unfit", "out", "s", "", "position"],
        rows,
    )
    for line in told:
        typer.echo(line)
    if not is_settled:
        raise typer.Exit(1)
