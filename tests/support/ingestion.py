"""Shared by the ingestion tests: declares tables, runs statements, reads raw and source tables."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from softcart_assets.connections import MongoConnection, MySQLConnection, PostgresConnection
from softcart_assets.ingestion.load import LoadRequest, LoadResult, load
from softcart_assets.lines.model import Column, Privacy, Source, Table

OWN_COLUMNS = {"_deleted", "_loaded_at", "_position", "_version"}


def source_of(*tables: Table, kind: str = "mysql") -> Source:
    prefix = "SOFTCART_SHOP" if kind == "mysql" else "SOFTCART_CATALOG"
    return Source("t", kind, "", tables, owner="team:test", prefix=prefix)  # type: ignore[arg-type]


def classify(*, none: str = "", pii: str = "", sensitive: str = "") -> tuple[Column, ...]:
    """Columns from three space-separated lists of names."""
    lists = ((none, Privacy.NONE), (pii, Privacy.PII), (sensitive, Privacy.SENSITIVE))
    return tuple(Column(name, privacy) for names, privacy in lists for name in names.split())


def incremental(name: str, *key: str, cursor: str = "updated_at", history: bool = False) -> Table:
    return Table(name, "", key, "incremental", (), cursor=cursor, history=history)


def snapshot(name: str, *key: str, history: bool = False) -> Table:
    return Table(name, "", key, "snapshot", (), history=history)


def run(mysql: MySQLConnection, *statements: str) -> None:
    with mysql.connect() as connection:
        for statement in statements:
            connection.query(statement)
        connection.commit()


def fill(mysql: MySQLConnection, table: str, rows: Iterable[tuple]) -> None:
    rows = list(rows)
    with mysql.connect() as connection, connection.cursor() as cursor:
        cursor.executemany(f"INSERT INTO {table} VALUES ({', '.join(['%s'] * len(rows[0]))})", rows)
        connection.commit()


def load_all(
    source: Source,
    connection: MySQLConnection | MongoConnection,
    postgres: PostgresConnection,
    lake: str,
    tables: Sequence[str] | None = None,
    **options: Any,
) -> dict[str, LoadResult]:
    request = LoadRequest(source, connection, postgres, lake, **options)
    return {result.table: result for result in load(request, tables)}


def query(postgres: PostgresConnection, sql: str, *parameters: object) -> list[tuple]:
    with postgres.connect() as connection:
        return connection.execute(sql, parameters or None).fetchall()


def raw_rows(postgres: PostgresConnection, table: str, order: str = "1") -> list[tuple]:
    """The current rows of a raw table without the engine's own columns."""
    names = query(
        postgres,
        "SELECT string_agg(quote_ident(column_name), ', ' ORDER BY ordinal_position) FROM "
        "information_schema.columns"
        " WHERE table_schema = 'raw_t' AND table_name = %s AND column_name <> ALL(%s)",
        table,
        list(OWN_COLUMNS),
    )[0][0]
    return query(postgres, f"SELECT {names} FROM raw_t.{table} WHERE NOT _deleted ORDER BY {order}")


def mysql_rows(mysql: MySQLConnection, table: str, order: str = "1") -> list[tuple]:
    with mysql.connect() as connection, connection.cursor() as cursor:
        cursor.execute(f"SELECT * FROM {table} ORDER BY {order}")
        return list(cursor.fetchall())
