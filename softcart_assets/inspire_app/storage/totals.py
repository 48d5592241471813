"""The running totals of workouts, from the staging warehouse: what people did on each day."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Any, Final

import psycopg
import psycopg_pool

from softcart_assets.connections import PostgresConnection, SettingError
from softcart_assets.web.live import Unavailable

_TOLD: Final = "The live totals cannot be read at the moment."
_WAIT_SECONDS: Final = 1.0
_REST_SECONDS: Final = 5.0
"""A warehouse that does not answer is left alone for so long. Nobody waits for it meanwhile."""
_CONNECTIONS: Final = 4

_MEASURES: Final = {"minutes": "seconds / 60", "metres": "metres", "workouts": "workouts"}
"""Unit of a goal or challenge → the measure."""


@dataclass(frozen=True)
class Day:
    """What somebody did on a day."""

    day: date
    workouts: int
    seconds: Decimal
    metres: Decimal


class Totals:
    """The totals, for all threads of a process. `staging`: gives the connection's settings.

    Methods raise `Unavailable`. Nothing is opened before the first of them is called: the
    application works without totals, and so without the warehouse.
    """

    def __init__(self, staging: Callable[[], PostgresConnection]) -> None:
        self._staging = staging
        self._lock = threading.Lock()
        self._pool: psycopg_pool.ConnectionPool | None = None
        self._rests_until = -math.inf

    def close(self) -> None:
        """Close all connections."""
        if self._pool:
            self._pool.close()

    def stands(self) -> object:
        """Something that is another thing as soon as totals may be."""
        return self._rows(
            "SELECT position FROM ingestion.positions WHERE source = 'inspire_docs'"
            " AND table_name = 'activity_logs'"
        )

    def days(self, user_id: int, first: date) -> list[Day]:
        """The days of somebody with workouts, from a date on."""
        rows = self._rows(
            "SELECT local_date, workouts, seconds, metres FROM ods.active_days WHERE user_id = %s"
            " AND bucket = '-infinity' AND local_date >= %s AND _rows > 0 ORDER BY local_date",
            user_id,
            first.isoformat(),
        )
        return [Day(date.fromisoformat(day), int(n), s, m) for day, n, s, m in rows]

    def together(
        self, people: Iterable[int], unit: str, first: date, end: date
    ) -> dict[int, float]:
        """What each of these people has done in days from `first` to before `end`, in a unit."""
        rows = self._rows(
            f"SELECT user_id, sum({_MEASURES[unit]}) FROM ods.active_days WHERE user_id = ANY(%s)"
            " AND bucket = '-infinity' AND local_date >= %s AND local_date < %s AND _rows > 0"
            " GROUP BY user_id",
            [*people],
            first.isoformat(),
            end.isoformat(),
        )
        return {int(user_id): float(amount) for user_id, amount in rows}

    def _rows(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        if time.monotonic() < self._rests_until:
            raise Unavailable(_TOLD)
        try:
            with self._opened().connection() as connection:
                return connection.execute(statement.encode(), values).fetchall()
        except (psycopg.Error, SettingError) as error:
            if isinstance(error, psycopg.OperationalError):
                self._rests_until = time.monotonic() + _REST_SECONDS
            raise Unavailable(_TOLD) from None

    def _opened(self) -> psycopg_pool.ConnectionPool:
        with self._lock:
            if self._pool is None:
                self._pool = psycopg_pool.ConnectionPool(
                    kwargs={
                        **self._staging().parameters(),
                        "autocommit": True,
                        "options": "-c statement_timeout=2s",
                    },
                    min_size=0,
                    max_size=_CONNECTIONS,
                    timeout=_WAIT_SECONDS,
                    open=True,
                )
            return self._pool
