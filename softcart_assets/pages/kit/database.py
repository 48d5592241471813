"""What a page is read from: one moment of production, or of a source's own database."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Protocol

import psycopg

from softcart_assets.connections import PostgresConnection
from softcart_assets.ingestion.connectors import SourceMoment
from softcart_assets.publishing import slots

Rows = Sequence[tuple[Any, ...]]


class PageError(RuntimeError):
    """A database cannot be shown. The message says why and what to do."""


class Database(Protocol):
    """One moment of a database, which is only read. SQL is PostgreSQL's.

    Parameters are named as `%(name)s`.
    """

    def published(self) -> dict[str, Any] | None:
        """`version` and `publishedAt` of what is read. None: there is nothing yet."""

    def table(self, query: str, parameters: Mapping[str, object]) -> tuple[list[str], Rows]:
        """The names of the columns of a result, and its rows."""

    def batches(self, query: str, parameters: Mapping[str, object], size: int) -> Iterator[Rows]:
        """The rows of a result, so many at once."""


class _Production:
    """Production, over one open transaction."""

    def __init__(self, session: psycopg.Connection) -> None:
        self._session = session

    def published(self) -> dict[str, Any] | None:
        _, [(known,)] = self.table("SELECT to_regclass('production_meta.current') IS NOT NULL", {})
        current = slots.read_current(self._session) if known else None
        if current is None:
            return None
        _, [(at,)] = self.table("SELECT published_at FROM production_meta.current", {})
        return {"version": current.version, "publishedAt": at}

    def table(self, query: str, parameters: Mapping[str, object]) -> tuple[list[str], Rows]:
        # Without any, a percent sign is a letter like others.
        cursor = self._session.execute(query.encode(), parameters or None)
        return [column.name for column in cursor.description or ()], cursor.fetchall()

    def batches(self, query: str, parameters: Mapping[str, object], size: int) -> Iterator[Rows]:
        with self._session.cursor("cube", binary=True) as cursor:
            cursor.execute(query.encode(), parameters)
            while rows := cursor.fetchmany(size):
                yield rows


@contextmanager
def production(connection: PostgresConnection, page: str) -> Iterator[Database]:
    """One moment of production, for the page of that name.

    Raises `PageError` if a table that the page reads is missing.
    """
    with connection.connect() as session:
        # One transaction. In the next one, another version may be live.
        session.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        session.read_only = True
        # With this much memory, the events of a large line are not sorted on disk.
        session.execute("SET LOCAL work_mem = '64MB'")
        try:
            yield _Production(session)
        except (psycopg.errors.UndefinedTable, psycopg.errors.UndefinedColumn) as error:
            raise PageError(
                f"Production lacks what the page {page} reads: "
                f"{error.diag.message_primary}. Publish all tables together: materialise the whole "
                "group `production`."
            ) from None


class _Source:
    """A source, over one open transaction."""

    def __init__(self, moment: SourceMoment) -> None:
        self._moment = moment

    def published(self) -> dict[str, Any] | None:
        return {"version": None, "publishedAt": self._moment.at}

    def table(self, query: str, parameters: Mapping[str, object]) -> tuple[list[str], Rows]:
        result = self._moment.result(query, parameters)
        return [column.name for column in result.columns], result.rows

    def batches(self, query: str, parameters: Mapping[str, object], size: int) -> Iterator[Rows]:
        return self._moment.batches(query, parameters, size)


@contextmanager
def of_source(opened: AbstractContextManager[SourceMoment]) -> Iterator[Database]:
    """A source's own database, at the moment that its connector opens."""
    with opened as moment:
        yield _Source(moment)
