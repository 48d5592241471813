"""What the tables of a schema were last made from, in `<schema>._built_from`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import psycopg
from psycopg import sql
from psycopg.types.json import Jsonb


def read(
    session: psycopg.Connection, schema: str, table: str
) -> tuple[int, dict[str, object]] | None:
    """The number of rows of a table, and what it was made from. None if there is none.

    Somebody may have dropped the table. Its note would still be there.
    """
    return session.execute(
        sql.SQL(
            "SELECT row_count, inputs FROM {} WHERE table_name = %s"
            " AND to_regclass(%s || '.' || table_name) IS NOT NULL"
        ).format(_notes(schema)),
        [table, schema],
    ).fetchone()


def note(
    session: psycopg.Connection, schema: str, table: str, inputs: Mapping[str, Any], rows: int
) -> None:
    """Note it, in the transaction that writes the table: a kill in between must not mark old rows
    as made from new inputs.
    """
    session.execute(
        sql.SQL(
            "INSERT INTO {} (table_name, inputs, row_count) VALUES (%s, %s, %s)"
            " ON CONFLICT (table_name)"
            " DO UPDATE SET inputs = excluded.inputs, row_count = excluded.row_count"
        ).format(_notes(schema)),
        [table, Jsonb(inputs), rows],
    )


def _notes(schema: str) -> sql.Identifier:
    return sql.Identifier(schema, "_built_from")
