"""Reads the staging tables from one snapshot and streams them into production, several at a time.

`candidate` decides which tables of production they go to. `publish` decides when readers see them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from queue import SimpleQueue
from typing import TypeVar

import psycopg
from psycopg import IsolationLevel, sql

from softcart_assets.connections import PostgresConnection
from softcart_assets.publishing import contents

Item = TypeVar("Item")
Result = TypeVar("Result")

WORKERS = 4
"""Tables copied at once. Each worker holds one connection to each of the two databases."""

LOCK_PATIENCE_SECONDS = 60.0
"""How long to look for a moment in which nobody rebuilds one of the tables."""

BUFFER_BYTES = 256 * 1024
"""Rows are handed on in pieces of this size.

PostgreSQL sends one message per row, and small writes are slow.
"""


class Snapshot:
    """Staging as of one moment, and threads that read it.

    `session`: a connection that sees this moment. `seen`: the moment, as a `pg_snapshot`. Each
    thread has another connection, and one to production.
    """

    def __init__(
        self,
        session: psycopg.Connection,
        pairs: Iterable[tuple[psycopg.Connection, psycopg.Connection]],
    ) -> None:
        self.session = session
        row = session.execute("SELECT pg_current_snapshot()::text").fetchone()
        assert row is not None
        self.seen: str = row[0]
        self._pairs: SimpleQueue[tuple[psycopg.Connection, psycopg.Connection]] = SimpleQueue()
        for pair in pairs:
            self._pairs.put(pair)

    def map(
        self,
        work: Callable[[psycopg.Connection, psycopg.Connection, Item], Result],
        items: Iterable[Item],
    ) -> list[Result]:
        """The results of `work(staging, production, item)`, in the order of the items.

        Raises the first error.
        """

        def one(item: Item) -> Result:
            pair = self._pairs.get()
            try:
                return work(*pair, item)
            finally:
                self._pairs.put(pair)

        with ThreadPoolExecutor(WORKERS) as threads:
            return list(threads.map(one, items))


@contextmanager
def staging_snapshot(
    staging: PostgresConnection,
    production: PostgresConnection,
    tables: Sequence[sql.Composable],
    application: str,
) -> Iterator[Snapshot]:
    """A snapshot in which `tables` can be read. Nobody can drop or swap them meanwhile.

    Raises `psycopg.errors.UndefinedTable` if one is missing. Raises `LockNotAvailable` if somebody
    rebuilds them for longer than `LOCK_PATIENCE_SECONDS`.
    """
    with ExitStack() as stack:

        def connect(database: PostgresConnection, **options: bool) -> psycopg.Connection:
            connection = database.connect(application_name=application, **options)
            stack.enter_context(connection)
            contents.prepare(connection)
            return connection

        session, *readers = (connect(staging) for _ in range(1 + WORKERS))
        # PostgreSQL lets only such transactions share a snapshot.
        for connection in (session, *readers):
            connection.isolation_level = IsolationLevel.REPEATABLE_READ
            connection.read_only = True
        deadline = time.monotonic() + LOCK_PATIENCE_SECONDS
        while True:
            try:
                _take_snapshot(session, readers, tables)
                break
            except psycopg.errors.LockNotAvailable:
                if time.monotonic() > deadline:
                    raise
            # This releases the locks that were taken, so that the rebuild can go on.
            for connection in (session, *readers):
                connection.rollback()
            time.sleep(0.05)
        # Each table commits by itself. Nobody reads the slot before the switch.
        writers = (connect(production, autocommit=True) for _ in readers)
        yield Snapshot(session, zip(readers, writers, strict=True))


def _take_snapshot(
    session: psycopg.Connection,
    readers: Sequence[psycopg.Connection],
    tables: Sequence[sql.Composable],
) -> None:
    """Let all sessions see the same moment, with a lock on every table in each session.

    The locks come before the snapshot. A table that dbt swaps in after the snapshot would look
    empty in it.

    Every session takes all locks now. Suppose that one asked for its lock later, and a swap already
    waits for the locks of the others. It would queue behind the swap, and both would wait for ever.

    Nobody waits for a lock (NOWAIT), for the same reason. If somebody comes in between, the caller
    releases all locks and starts again.
    """
    lock = sql.SQL("LOCK TABLE {} IN ACCESS SHARE MODE NOWAIT").format(sql.SQL(", ").join(tables))
    session.execute(lock)
    row = session.execute("SELECT pg_export_snapshot()").fetchone()
    assert row is not None
    for reader in readers:
        reader.execute(sql.SQL("SET TRANSACTION SNAPSHOT {}").format(sql.Literal(row[0])))
        reader.execute(lock)


def copy_rows(
    source: psycopg.Connection,
    query: sql.Composable,
    target: psycopg.Connection,
    table: sql.Composable,
    columns: Iterable[str],
) -> int:
    """Append the rows of a query to a table that has its columns and types.

    Returns the number of rows. The rows travel in PostgreSQL's binary format, so they stay exact.
    They travel in pieces of `BUFFER_BYTES`, so the memory stays bounded.
    """
    names = sql.SQL(", ").join(map(sql.Identifier, columns))
    read = sql.SQL("COPY ({}) TO STDOUT (FORMAT binary)").format(query)
    write = sql.SQL("COPY {} ({}) FROM STDIN (FORMAT binary)").format(table, names)
    with source.cursor() as reader, target.cursor() as writer:
        with reader.copy(read) as rows, writer.copy(write) as sink:
            buffer = bytearray()
            for row in rows:
                buffer += row
                if len(buffer) >= BUFFER_BYTES:
                    sink.write(bytes(buffer))
                    buffer.clear()
            sink.write(bytes(buffer))
        return writer.rowcount
