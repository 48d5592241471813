"""A MySQL connection for live traffic: queries in one transaction, committed by the caller."""

from __future__ import annotations

import random
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

import pymysql

from seed_data.common.traffic import NothingToDo
from softcart_assets.connections import MySQLConnection


class SQLSession:
    """One connection to a MySQL database. Raises what PyMySQL raises."""

    def __init__(self, server: MySQLConnection, rng: random.Random) -> None:
        self._rng = rng
        self._connection = server.connect()
        self._cursor = self._connection.cursor()

    def close(self) -> None:
        """Disconnect. Changes that are not committed are undone."""
        with suppress(pymysql.MySQLError):  # closed already, while the server was away
            self._connection.close()

    def commit(self) -> None:
        """End the transaction."""
        self._connection.commit()

    def rollback(self) -> None:
        """Undo the transaction."""
        self._connection.rollback()

    def all(self, query: str, *arguments: Any) -> tuple[tuple[Any, ...], ...]:
        """All rows."""
        self._cursor.execute(query, arguments)
        rows: tuple[tuple[Any, ...], ...] = self._cursor.fetchall()
        return rows

    def one(self, query: str, *arguments: Any) -> tuple[Any, ...]:
        """The first row. Raises `NothingToDo` if there is none."""
        self._cursor.execute(query, arguments)
        row: tuple[Any, ...] | None = self._cursor.fetchone()
        if row is None:
            raise NothingToDo
        return row

    def insert(self, statement: str, *arguments: Any) -> int:
        """Insert a row. Returns its AUTO_INCREMENT id."""
        self._cursor.execute(statement, arguments)
        return int(self._cursor.lastrowid)

    def write(self, statement: str, *arguments: Any) -> int:
        """Change rows. Returns how many changed."""
        self._cursor.execute(statement, arguments)
        return int(self._cursor.rowcount)

    def write_many(self, statement: str, rows: Iterable[tuple[Any, ...]]) -> None:
        """Execute the statement for each row."""
        self._cursor.executemany(statement, list(rows))

    def random_id(self, table: str, condition: str = "TRUE", *, newest: int | None = None) -> int:
        """The id of a random row that meets the condition. `newest`: only among the last ids."""
        # A random id and the next row after it. ORDER BY RAND() would read the whole table.
        low, high = self.one(f"SELECT MIN(id), MAX(id) FROM {table}")
        if high is None:
            raise NothingToDo
        if newest is not None:
            low = max(low, high - newest)
        found = self.one(
            f"SELECT id FROM {table} WHERE id >= %s AND {condition} ORDER BY id LIMIT 1",
            self._rng.randint(low, high),
        )
        return int(found[0])
