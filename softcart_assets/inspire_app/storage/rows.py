"""A connection to MySQL or MariaDB, and its rows."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import wraps
from random import uniform
from typing import Any, Final, ParamSpec, TypeVar

import pymysql
from pymysql.cursors import DictCursor

_Given = ParamSpec("_Given")
_Result = TypeVar("_Result")

_LOST: Final = frozenset({1205, 1213})
"""MySQL's errors of a transaction that waited too long for another one, or lost a deadlock."""
_TRIES: Final = 20
_LONGEST_SECONDS: Final = 10.0
"""After so long, nobody waits for another try."""
_PAUSE_SECONDS: Final = 0.05


def again_after_deadlock(method: Callable[_Given, _Result]) -> Callable[_Given, _Result]:
    """A method that is one transaction, and is done again if the server took it back.

    When two transactions wait for each other, the server ends one of them. Nobody is to blame.
    """

    @wraps(method)
    def tried(*args: _Given.args, **named: _Given.kwargs) -> _Result:
        ends = time.monotonic() + _LONGEST_SECONDS
        for _ in range(_TRIES - 1):
            try:
                return method(*args, **named)
            except pymysql.OperationalError as error:
                if error.args[0] not in _LOST or time.monotonic() > ends:
                    raise
            time.sleep(uniform(0, _PAUSE_SECONDS))
        return method(*args, **named)

    return tried


class Database:
    """One connection, for one thread. It commits at the end of each transaction only."""

    def __init__(self, connection: pymysql.Connection[Any]) -> None:
        self._connection = connection
        self._is_inside = False

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """What happens inside is written whole or not at all."""
        # The server would commit the first at the beginning of the second.
        assert not self._is_inside, "there is a transaction already"
        self._connection.begin()
        self._is_inside = True
        try:
            yield
        except BaseException:
            self._connection.rollback()
            raise
        finally:
            self._is_inside = False
        self._connection.commit()

    @again_after_deadlock
    def atomically(self, work: Callable[[], _Result]) -> _Result:
        """Do something as one transaction, and again if the server took it back. So it changes
        nothing but the database. Returns what it returns.
        """
        with self.transaction():
            return work()

    def _execute(self, statement: str, values: tuple[Any, ...]) -> int:
        # Outside of a transaction, each statement is one.
        return (self._once if self._is_inside else self._again)(statement, values)

    def _once(self, statement: str, values: tuple[Any, ...]) -> int:
        with self._connection.cursor() as cursor:
            return int(cursor.execute(statement, values))

    _again = again_after_deadlock(_once)

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
