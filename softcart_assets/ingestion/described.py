"""What the columns of raw tables mean: the source's own as declared, and those of the engine."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress

import psycopg

from softcart_assets import comments
from softcart_assets.connections import PostgresConnection
from softcart_assets.ingestion.connectors import connector
from softcart_assets.lines.model import Source, Table

_ENGINE = {
    "_deleted": "Whether the row has been deleted at the source since.",
    "_loaded_at": "When this form of the row was loaded.",
    "_position": "The source's position that the load brought the table to.",
    "_version": "Grows with each write to the table: the order in which rows came.",
}
_HISTORY = {
    "_committed_at": "When the source committed this version; null where its log was not read.",
    "_version": "Grows with each version: the order in which they arose, as far as it was seen.",
}


def columns(source: Source, table: Table, *, is_history: bool = False) -> dict[str, str]:
    """The description of each column that a raw table, or its history, surely has."""
    found = {column.name: column.description for column in table.columns}
    found |= connector(source.kind).own_columns
    return found | _ENGINE | (_HISTORY if is_history else {})


def describe(
    source: Source, table: Table, names: Iterable[str], *, is_history: bool = False
) -> dict[str, str]:
    """The description of each of these raw columns. Empty: nobody has declared it.

    A column that is made from a declared one, such as the texts of a field of documents, has the
    description of that.
    """
    known = columns(source, table, is_history=is_history)
    names = list(names)
    origins = connector(source.kind).column_origins(names)
    return {
        name: known.get(name) or " ".join(known.get(origin, "") for origin in origins[name]).strip()
        for name in names
    }


def comment(staging: PostgresConnection, source: Source, tables: Sequence[Table]) -> None:
    """Write the descriptions as comments on the columns of raw tables, where they differ.

    It waits for no lock: what it could not write now, the next load writes. It leaves tables of
    another owner as they are.
    """
    of = {table.name: table for table in tables}
    of |= {f"{table.name}_history": table for table in tables if table.history}
    refusals = (
        psycopg.errors.LockNotAvailable,
        psycopg.errors.InsufficientPrivilege,
        # Another load has made the table anew meanwhile.
        psycopg.errors.UndefinedTable,
        psycopg.errors.UndefinedColumn,
    )
    with staging.connect() as session, suppress(*refusals):
        session.execute("SET LOCAL lock_timeout = '100ms'")
        there = comments.read(session, source.schema, of)
        wanted: dict[tuple[str, str], str] = {}
        for name, table in of.items():
            names = [column for found, column in there if found == name and column]
            texts = describe(source, table, names, is_history=name != table.name)
            wanted |= {(name, column): text for column, text in texts.items()}
        comments.write(session, source.schema, wanted, there)
