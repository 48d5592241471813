"""The schema `ingestion` in the staging warehouse: what was loaded, up to where, and what was not.

The files in `migrations` define its tables. This module reads what a table's last load left.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql

from softcart_assets import locks
from softcart_assets.ingestion.position import latest
from softcart_assets.migrations import migrate

_MIGRATIONS = {
    # In this order: the views of the second read tables of the first.
    "ingestion": Path(__file__).parent / "migrations",
    "ods": Path(__file__).parent / "sinks" / "ods" / "migrations",
}

RAW_TABLES_LOCK = "softcart raw tables"
"""The advisory lock that raw tables are loaded under, shared, and models are built under, alone."""


def capture_lock(source: str) -> str:
    """Return the name of the advisory lock that a source's log is applied under."""
    return f"softcart capture {source}"


def prepare(connection: psycopg.Connection, raw_schema: str) -> None:
    """Bring the bookkeeping tables to this release and create the schema of the raw tables.

    Can be called at any time.
    """
    for schema, folder in _MIGRATIONS.items():
        migrate(connection, schema, folder)
    with connection.transaction():
        # Two sessions that create the same thing at once would fail each other.
        locks.take(connection, f"softcart schema {raw_schema}", until="transaction")
        name = sql.Identifier(raw_schema)
        connection.execute(sql.SQL("CREATE SCHEMA IF NOT EXISTS {}").format(name))


@dataclass(frozen=True)
class LastLoad:
    """The state after a table's last committed load."""

    load_id: str
    position: str
    cursor_value: str | None
    # PostgreSQL knows the columns' types in raw, but not their types at the source.
    columns: list[dict[str, Any]]
    rows_total: int


def last_load(connection: psycopg.Connection, source: str, table: str) -> LastLoad | None:
    """Return the last committed load of a table. None if there was none."""
    row = connection.execute(
        "SELECT load_id, p.position, p.cursor_value, l.columns, l.rows_total"
        " FROM ingestion.positions p JOIN ingestion.loads l USING (source, table_name, load_id)"
        " WHERE source = %s AND table_name = %s",
        (source, table),
    ).fetchone()
    return LastLoad(*row) if row else None


def loaded_positions(connection: psycopg.Connection, source: str) -> dict[str, str]:
    """Return the position of each loaded table of a source.

    It is the position of the last load, or the place up to which the table's log is applied.
    """
    # The stream's position counts for live tables only. A stopped table stays at its own.
    rows = connection.execute(
        "SELECT table_name, p.position, c.position, CASE c.state WHEN 'live' THEN s.position END"
        " FROM ingestion.positions p LEFT JOIN ingestion.captures c USING (source, table_name)"
        " LEFT JOIN ingestion.streams s USING (source) WHERE source = %s",
        (source,),
    )
    return {str(table): latest(*filter(None, positions)) for table, *positions in rows}


def versions(connection: psycopg.Connection, source: str) -> dict[str, str]:
    """Return the version of each loaded table of a source. It is another one after every change.

    A bounded run or the stream applies the log to all followed tables, but records a load only of
    those it was asked for: the counters in `ingestion.captures` hold what came to the others since.
    """
    rows = connection.execute(
        # The name of a load and not its number: in a new database, numbers start again.
        "SELECT table_name, coalesce(l.load_id, p.load_id),"
        " coalesce(c.rows_inserted + c.rows_updated + c.rows_deleted, 0)"
        " FROM ingestion.positions p LEFT JOIN LATERAL (SELECT load_id FROM ingestion.loads"
        " WHERE (source, table_name) = (p.source, p.table_name) AND is_changed"
        " ORDER BY number DESC LIMIT 1) l ON true"
        " LEFT JOIN ingestion.captures c USING (source, table_name) WHERE p.source = %s",
        (source,),
    )
    return {table: f"{load}+{more}" if more else load for table, load, more in rows}
