"""Comments on tables and columns in PostgreSQL: what BI tools and people at psql read of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import psycopg
from psycopg import sql

Comments = Mapping[tuple[str, str], str]
"""Comments by table and column. The column is empty for the comment on the table."""


def read(
    session: psycopg.Connection, schema: str, tables: Iterable[str]
) -> dict[tuple[str, str], str]:
    """The comments on these tables or views of a schema and on their columns.

    An empty text stands for no comment. Columns that do not exist are left out.
    """
    rows = session.execute(
        """
        SELECT c.relname, coalesce(a.attname, ''), coalesce(d.description, '')
        FROM pg_class c
        CROSS JOIN LATERAL (
          SELECT 0 AS attnum, NULL AS attname
          UNION ALL
          SELECT attnum, attname FROM pg_attribute
          WHERE attrelid = c.oid AND attnum > 0 AND NOT attisdropped
        ) a
        LEFT JOIN pg_description d
          ON d.objoid = c.oid AND d.classoid = 'pg_class'::regclass AND d.objsubid = a.attnum
        WHERE c.relnamespace = to_regnamespace(%s) AND c.relname = ANY(%s)
        """,
        [sql.Identifier(schema).as_string(), list(tables)],
    ).fetchall()
    return {(table, column): text for table, column, text in rows}


def changes(
    schema: str, there: Comments, wanted: Comments, kind: str = "TABLE"
) -> list[sql.Composed]:
    """The statements that write those comments which are not there yet.

    `there`: what `read` found for these tables. `kind`: TABLE or VIEW. What is wanted for a column
    that does not exist is left out, and so is an empty text: a comment of somebody else's stays
    there. Statements only where something differs, because each locks its table against changes of
    its structure.
    """
    return [
        sql.SQL("COMMENT ON {} {} IS {}").format(
            sql.SQL("COLUMN" if column else kind),
            sql.Identifier(schema, table, *filter(None, [column])),
            sql.Literal(text),
        )
        for (table, column), text in wanted.items()
        if text and there.get((table, column), text) != text
    ]


def write(
    session: psycopg.Connection, schema: str, wanted: Comments, there: Comments | None = None
) -> None:
    """Write those comments on tables that are not there yet. `there`: what `read` found, if it was
    asked for."""
    tables = {table for table, _ in wanted}
    there = read(session, schema, tables) if there is None else there
    for statement in changes(schema, there, wanted):
        session.execute(statement)
