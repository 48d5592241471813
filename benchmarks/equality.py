"""Is a copy equal to its source? Both databases compute a checksum of every column."""

from __future__ import annotations

from collections.abc import Sequence

import psycopg

from benchmarks.tables import MadeTable
from softcart_assets.connections import MySQLConnection, PostgresConnection
from softcart_assets.ingestion.connectors.mysql.reader import snapshot
from softcart_assets.ingestion.proof.digest import Checksums, checksums_by
from softcart_assets.ingestion.proof.postgres import POSTGRES
from softcart_assets.ingestion.types import Column
from softcart_assets.lines.model import Source, Table

Truth = dict[str, tuple[list[Column], int, Checksums]]
"""Table → its columns, the number of its rows, and its checksums."""


def source_of(
    tables: Sequence[MadeTable], strategy: str = "snapshot", cursor: str | None = None
) -> Source:
    """The declaration of tables for measurements."""
    declared = [Table(t.name, "", tuple(t.key), strategy, (), cursor=cursor) for t in tables]  # type: ignore[arg-type]
    return Source("bench", "mysql", "", tuple(declared), owner="team:bench")


def truth(connection: MySQLConnection, tables: Sequence[MadeTable]) -> Truth:
    """The columns, row counts and checksums of the source."""
    found: Truth = {}
    source = source_of(tables)
    with snapshot(source, connection, 1) as (reader, *_):
        for table in source.tables:
            columns = list(reader.columns(table, ()))
            found[table.name] = (columns, *reader.checksums(table, columns))
    return found


def make_target_tables(truth: Truth, target: PostgresConnection, schema: str) -> None:
    """Create empty tables with the types of our raw tables, for tools that create none."""
    with target.connect() as session:
        session.execute(f"CREATE SCHEMA {schema}".encode())
        for name, (columns, _, _) in truth.items():
            definitions = ", ".join(f'"{c.name}" {c.target_type}' for c in columns)
            session.execute(f"CREATE TABLE {schema}.{name} ({definitions})".encode())


def differences(
    truth: Truth, tables: Sequence[MadeTable], target: PostgresConnection, schema: str
) -> list[str]:
    """The differences between a copy and its source, in words.

    A column may have another type than ours, if the values are equal.
    """
    found = []
    with target.connect(autocommit=True) as session:
        session.execute("SET max_parallel_workers_per_gather = 4")
        for table in tables:
            columns, rows, checksums = truth[table.name]
            try:
                copied_rows, copied = _checksums(
                    session, f"{schema}.{table.name}", columns, table.key
                )
            except psycopg.errors.UndefinedTable:
                found.append(f"{table.name} is missing")
                continue
            if copied_rows != rows:
                found.append(f"{table.name} has {copied_rows:,} rows instead of {rows:,}")
            found += [
                f"{table.name}.{name} {what}"
                for name, what in copied.items()
                if what != checksums.get(name)
            ]
    return found


def _checksums(
    session: psycopg.Connection, relation: str, columns: Sequence[Column], key: Sequence[str]
) -> tuple[int, Checksums]:
    """The number of rows of a copy, and a checksum per column, read with our types.

    If a column cannot be read with our type, the reason stands instead of its checksum. Only then
    is each column read by itself.
    """

    def select(some: Sequence[Column]) -> tuple[int, Checksums]:
        needed = [c for c in columns if c in some or c.name in key]
        values = ", ".join(f'"{c.name}"::{c.target_type} AS "{c.name}"' for c in needed)

        def ask(sums: str) -> Sequence[object]:
            query = f"SELECT {sums} FROM (SELECT {values} FROM {relation}) AS copied"
            row = session.execute(query.encode()).fetchone()
            assert row
            return row

        return checksums_by(ask, POSTGRES, some, key)

    try:
        return select(columns)
    except psycopg.errors.UndefinedTable:
        raise
    except psycopg.Error:
        pass
    found: Checksums = {}
    rows = 0
    for column in columns:
        try:
            rows, checksum = select([column])
            found |= checksum
        except psycopg.Error as error:
            found[column.name] = (
                f"cannot be read as {column.target_type}: {str(error).splitlines()[0]}"
            )
    return rows, found
