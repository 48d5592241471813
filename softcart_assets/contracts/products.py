"""What there is to make contracts of: the published tables and the extracts, as they are now."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import pyarrow.parquet

from softcart_assets.assembly import Lines
from softcart_assets.connections import PostgresConnection
from softcart_assets.contracts.odcs import Column, Product
from softcart_assets.publishing.tables import PublishedTable


class NothingToDescribe(RuntimeError):
    """A table or an extract was not made yet."""


def published(
    lines: Lines, tables: Iterable[PublishedTable], production: PostgresConnection, hours: int
) -> Iterator[Product]:
    """The published tables, from the catalog of the production database.

    `hours`: how old they may become. Raises `NothingToDescribe` for a table that is not there.
    """
    with production.connect() as session:
        for table in tables:
            rows = session.execute(
                """
                SELECT a.attname, format_type(a.atttypid, a.atttypmod),
                       coalesce(col_description(c.oid, a.attnum), ''),
                       coalesce(obj_description(c.oid, 'pg_class'), '')
                FROM pg_class c
                JOIN pg_namespace n ON n.oid = c.relnamespace AND n.nspname = 'production'
                JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
                WHERE c.relname = %s ORDER BY a.attnum
                """,
                [table.name],
            ).fetchall()
            if not rows:
                raise NothingToDescribe(
                    f"production.{table.name} is not there. Publish it first: `softcart demo`."
                )
            yield Product(
                "production",
                table.name,
                table.line,
                lines.line(table.line).owner,
                rows[0][3],
                [Column(name, kind, text, _privacy(table, name)) for name, kind, text, _ in rows],
                hours,
                table.key,
                {each.column: f"{each.dimension}.{each.key}" for each in table.references},
                table.declared.may_be_empty,
            )


def _privacy(table: PublishedTable, column: str) -> str:
    if column in table.sensitive:
        return "sensitive"
    return "pii" if column in table.pii else "none"


def extracts(lines: Lines, folder: Path, hours: int) -> Iterator[Product]:
    """The extracts of the lines, from the schemas of their Parquet files.

    `hours`: how old they may become. Raises `NothingToDescribe` for an extract that is not there.
    """
    for line in lines:
        for extract in line.extracts:
            file = folder / f"{extract.name}.parquet"
            if not file.is_file():
                raise NothingToDescribe(f"{file} is not there. Make it first: `softcart demo`.")
            yield Product(
                "extracts",
                extract.name,
                line.name,
                line.owner,
                extract.description,
                [
                    Column(each.name, str(each.type), extract.columns[each.name])
                    for each in pyarrow.parquet.read_schema(file)
                ],
                hours,
            )
