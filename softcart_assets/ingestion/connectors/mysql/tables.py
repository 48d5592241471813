"""What MySQL's catalog says of tables, as far as copying and following need it."""

from __future__ import annotations

import re
import time
from collections.abc import Collection, Iterable
from typing import NamedTuple

from softcart_assets.ingestion.connectors.mysql.dialect import MYSQL
from softcart_assets.ingestion.connectors.mysql.session import Session
from softcart_assets.ingestion.errors import SchemaChanged, SourceLost
from softcart_assets.lines.model import Table

TRANSACTIONAL_ENGINES = {"InnoDB", "RocksDB", "ROCKSDB"}
"""Engines whose tables can be read as of one moment."""

_DDL_SECONDS = 20.0
"""A table that somebody alters is asked for again so long."""
_SKIPPED = "1684"
"""The number of MariaDB's warning that information_schema leaves out a table that is altered."""

_NAMES_AND_TEXTS = re.compile(r"`(?:[^`]|``)*`|'(?:[^'\\]|\\.|'')*'")
_CASCADE = re.compile(r"FOREIGN KEY .* ON (?:DELETE|UPDATE) (?:CASCADE|SET NULL)")
_PERIOD = re.compile(r"PERIOD FOR SYSTEM_TIME \(`((?:[^`]|``)+)`, `((?:[^`]|``)+)`\)")


ROW_END = "ROW END"
"""How the catalog writes the expression of the column that ends a row's version."""


def catalog_rows(session: Session, asset: str, query: str) -> list[tuple[str | None, ...]]:
    """Return what information_schema says of one table. Empty: the user can see no such table.

    Raises `SourceLost` if somebody has been altering the table for a long time.
    """
    deadline = time.monotonic() + _DDL_SECONDS
    # MariaDB does not wait for a table under DDL if this session has read others in its snapshot.
    # It returns no row and a warning, as if the table did not exist.
    while not (rows := session.query(query)) and _is_skipped(session):
        if time.monotonic() >= deadline:
            raise SourceLost(
                f"{asset}: another session has been altering the table for {_DDL_SECONDS:.0f} s, "
                "so the server does not describe it. See SHOW PROCESSLIST. When that statement "
                "has finished, run the load again."
            )
        time.sleep(0.1)
    return rows


def _is_skipped(session: Session) -> bool:
    return any(code == _SKIPPED for _, code, _ in session.query("SHOW WARNINGS"))


def definition_of(session: Session, *name: str) -> str:
    """Return a table's CREATE TABLE statement. `name`: the table's, perhaps with its database."""
    path = ".".join(map(MYSQL.quote, name))
    return session.query(f"SHOW CREATE TABLE {path}")[0][1] or ""


def is_cascaded_into(session: Session, table: str) -> bool:
    """Return whether a table's rows change or go when other tables' rows do, by foreign keys."""
    # Not from information_schema: on MariaDB it shows no foreign keys to a user that may only read.
    definition = _NAMES_AND_TEXTS.sub("", definition_of(session, table))
    return bool(_CASCADE.search(definition))


def logs_cascades(session: Session) -> bool:
    """Return whether the binary log has the changes that cascades of foreign keys make.

    MySQL makes them itself from 9.6 on, and logs them. The storage engine's cascades are not
    logged.
    """
    rows = session.query("SHOW VARIABLES LIKE 'innodb_native_foreign_keys'")
    return bool(rows) and rows[0][1] == "OFF"


class Period(NamedTuple):
    """The start and the end of a row's version, in a table with system versioning.

    Hidden columns are in the log alone. Neither the catalog nor a query for all columns has them.
    """

    columns: tuple[str, str]
    is_hidden: bool


def system_period(definition: str) -> Period | None:
    """Return the period of the table that a CREATE TABLE statement makes. None: it has none."""
    if "WITH SYSTEM VERSIONING" not in _NAMES_AND_TEXTS.sub("", definition):
        return None
    declared = _PERIOD.search(definition)
    if not declared:
        return Period(("row_start", "row_end"), is_hidden=True)
    start, end = (name.replace("``", "`") for name in declared.groups())
    return Period((start, end), is_hidden=False)


def unique_keys(session: Session, asset: str, table: str) -> dict[str, set[str]] | None:
    """Return the keys that the server keeps unique: the columns by the name of the index.

    None: there is no such table.
    """
    # Each by itself: in a join, MariaDB takes `t` and `T` for the same table.
    here = f"table_schema = DATABASE() AND table_name = {session.literal(table)}"
    if not catalog_rows(
        session, asset, f"SELECT table_name FROM information_schema.tables WHERE {here}"
    ):
        return None
    ends = session.query(
        f"SELECT column_name FROM information_schema.columns WHERE {here} AND "
        f"generation_expression = '{ROW_END}'"
    )
    keys: dict[str, set[str | None]] = {}
    for index, column in catalog_rows(
        session,
        asset,
        f"SELECT index_name, column_name FROM information_schema.statistics WHERE {here} AND "
        "non_unique = 0",
    ):
        # It is in each key of a table with system versioning, and only tells old rows apart.
        if (column,) not in ends:
            keys.setdefault(str(index), set()).add(column)
    # A part that is an expression has no column.
    unique = {index: columns for index, columns in keys.items() if None not in columns}
    return {index: {str(each) for each in columns} for index, columns in unique.items()}


def check_key(table: Table, asset: str, keys: Iterable[Collection[str]]) -> None:
    """Raise `SchemaChanged` if the declared key holds none of the `keys` that the source keeps
    unique.

    Then rows with the same declared key would overwrite and delete each other
    (airbytehq/airbyte#28698).
    """
    known = [set(key) for key in keys]
    if table.key and not any(key <= set(table.key) for key in known):
        unique = " and ".join(f"({', '.join(sorted(key))})" for key in known)
        raw = asset.replace("/", ".")
        relations = f"{raw}, {raw}_history" if table.history else raw
        raise SchemaChanged(
            f"{asset}: the declared key ({', '.join(table.key)}) is no longer unique. The source "
            f"has {f'the unique key {unique}' if unique else 'no unique key'}. Declare its key, or "
            f"none. Then drop the raw table (DROP TABLE {relations} CASCADE in the staging "
            "warehouse), load again and rebuild the models."
        )
