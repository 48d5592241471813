"""A connection to MySQL or MariaDB, and its rows."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import pymysql
from pymysql.cursors import DictCursor


class Database:
    """One connection, for one thread. It commits at the end of each transaction only."""

    def __init__(self, connection: pymysql.Connection[Any]) -> None:
        self._connection = connection

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """What happens inside is written whole or not at all."""
        self._connection.begin()
        try:
            yield
        except BaseException:
            self._connection.rollback()
            raise
        self._connection.commit()

    def _execute(self, statement: str, values: tuple[Any, ...]) -> int:
        with self._connection.cursor() as cursor:
            return int(cursor.execute(statement, values))

    def _row(self, statement: str, values: tuple[Any, ...]) -> dict[str, Any] | None:
        rows = self._rows(statement, values)
        return rows[0] if rows else None

    def _rows(self, statement: str, values: tuple[Any, ...]) -> list[dict[str, Any]]:
        with self._connection.cursor(DictCursor) as cursor:
            cursor.execute(statement, values)
            return [
                {
                    name: value.replace(tzinfo=UTC) if isinstance(value, datetime) else value
                    for name, value in row.items()
                }
                for row in cursor.fetchall()
            ]


def naive(moment: datetime | None) -> datetime | None:
    """A time as MySQL's DATETIME takes it."""
    return moment.astimezone(UTC).replace(tzinfo=None) if moment else None
