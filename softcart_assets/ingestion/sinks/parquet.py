"""Copies computed tables into the staging warehouse: aggregates from the lake, and scores."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from typing import Protocol

import psycopg
import pyarrow as pa
from psycopg import sql

from softcart_assets.ingestion.errors import UnsupportedColumn

_BATCH_ROWS = 20_000


class Rows(Protocol):
    """Rows that come in batches, such as a dataset of Arrow's."""

    @property
    def schema(self) -> pa.Schema:
        """Their columns."""

    def to_batches(self, batch_size: int) -> Iterator[pa.RecordBatch]:
        """The rows, at most so many at once."""


def _target_type(table: str, field: pa.Field) -> str:
    kind = field.type
    if pa.types.is_decimal(kind):
        return f"numeric({kind.precision},{kind.scale})"
    for matches, name in (
        (pa.types.is_int64, "bigint"),
        (pa.types.is_int32, "integer"),
        (pa.types.is_string, "text"),
        (pa.types.is_date32, "date"),
        (pa.types.is_boolean, "boolean"),
        (lambda t: pa.types.is_timestamp(t) and t.tz is not None, "timestamptz"),
    ):
        if matches(kind):
            return name
    raise UnsupportedColumn(
        f"{table}: column {field.name!r} has type {kind}, which has no exact counterpart here."
    )


def replace_table(
    session: psycopg.Connection, schema: str, table: str, rows: Rows, key: Sequence[str] = ()
) -> int:
    """Make `schema.table` hold just these rows, in the session's transaction. Returns their number.

    Rows are streamed in batches. The table is created anew, so columns may differ from before.
    Readers see the old one until the rows are copied. They then wait for the transaction's end,
    which should follow at once. `key`: the columns that tell rows apart.

    Raises `UnsupportedColumn`, and `UniqueViolation`.
    """
    # Beside the old table: to drop that first would lock its readers out for the whole copy.
    name = sql.Identifier(schema, f"next_{uuid.uuid4().hex}")
    columns = sql.SQL(", ").join(
        sql.SQL("{} {}").format(
            sql.Identifier(field.name), sql.SQL(_target_type(f"{schema}.{table}", field))
        )
        for field in rows.schema
    )
    session.execute(sql.SQL("CREATE SCHEMA IF NOT EXISTS {}").format(sql.Identifier(schema)))
    session.execute(sql.SQL("CREATE TABLE {} ({})").format(name, columns))
    with session.cursor() as cursor:
        with cursor.copy(sql.SQL("COPY {} FROM STDIN").format(name)) as copy:
            for batch in rows.to_batches(batch_size=_BATCH_ROWS):
                for row in zip(*(column.to_pylist() for column in batch.columns), strict=True):
                    copy.write_row(row)
        count = cursor.rowcount  # a closed cursor has forgotten it
    if key:
        session.execute(
            sql.SQL("ALTER TABLE {} ADD PRIMARY KEY ({})").format(
                name, sql.SQL(", ").join(map(sql.Identifier, key))
            )
        )
    # A new table has no statistics until autovacuum comes by.
    session.execute(sql.SQL("ANALYZE {}").format(name))
    session.execute(sql.SQL("DROP TABLE IF EXISTS {}").format(sql.Identifier(schema, table)))
    session.execute(sql.SQL("ALTER TABLE {} RENAME TO {}").format(name, sql.Identifier(table)))
    return count
