"""The raw tables while models are built from them: they stand still, and none of them is stale.

Loads share a lock. A build holds it alone. Otherwise models would be built from one state of the
raw tables and compared with another. A table whose log does not tell everything is stale until it
is compared with its source. Until then its rows may be a mixture of two states.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager

import psycopg

from softcart_assets import locks
from softcart_assets.connections import PostgresConnection
from softcart_assets.ingestion.bookkeeping import RAW_TABLES_LOCK, capture_lock
from softcart_assets.ingestion.engine.tables import own_name
from softcart_assets.ingestion.errors import TableStale, TargetFailed

_WAIT_SECONDS = 3600.0
"""So long a load waits for builds, and a build for loads."""
_SETTLE_SECONDS = 600.0
"""So long a build waits for stale tables. Meanwhile no other run gets into the pool."""
_ALONE_SECONDS = 15.0
"""If nobody has applied a source's log for so long, nobody will. A stream that gave way to somebody
is back by then.
"""
_ASK_SECONDS = 1.0
_REMIND_SECONDS = 60.0

CapturedName = tuple[str, str]
"""A source and a table of it."""


@contextmanager
def raw_tables_held(
    staging: PostgresConnection,
    *,
    exclusive: bool,
    tell: Callable[[str], None],
    reads: Collection[CapturedName] = (),
) -> Iterator[None]:
    """Hold the raw tables while the block runs: shared for a load, or `exclusive` for a build.

    `reads`: the tables of which none may be stale. `tell` is called with the reason when a wait
    begins, and then once a minute. Raises `LockHeld`, which names the holder, or `TableStale`. At
    the end, raises `TargetFailed` if the lock was lost on the way.
    """

    def on_wait(holder: locks.LockSession | None) -> None:
        tell(f"Waiting for the raw tables, which {holder or 'another run'} is using.")

    # The name is how others see for whom they wait.
    name = own_name("build" if exclusive else "load")
    while True:
        # A session of its own: PostgreSQL frees the lock with the session, even after a kill.
        with staging.connect(autocommit=True, application_name=name[:63]) as connection:
            wait_until_settled(connection, reads, tell)
            locks.take(
                connection,
                RAW_TABLES_LOCK,
                shared=not exclusive,
                wait_seconds=_WAIT_SECONDS,
                on_wait=on_wait,
            )
            # Again, because a stream may have met a change meanwhile. Now none can.
            if not _stale(connection, reads):
                yield
                _check_held(connection)
                return


def _check_held(connection: psycopg.Connection) -> None:
    """Raise `TargetFailed` if the lock was lost on the way: a lock ends with its session."""
    try:
        connection.execute("SELECT 1")
    except psycopg.OperationalError as error:
        raise TargetFailed(
            "The connection that held the raw tables was lost meanwhile "
            f"({' '.join(str(error).split())}). Others may have changed them at the same time. "
            "Run this again."
        ) from None


def wait_until_settled(
    connection: psycopg.Connection, tables: Collection[CapturedName], tell: Callable[[str], None]
) -> None:
    """Wait until none of some captured tables is stale. `connection` commits each statement.

    Raises `TableStale` if nobody follows the source, who would compare the table, or if it takes
    too long.
    """
    began = held = time.monotonic()
    told = float("-inf")
    while stale := _stale(connection, tables):
        now = time.monotonic()
        source, table = stale[0]
        if locks.sessions(connection, capture_lock(source)):
            held = now
        if now - held > _ALONE_SECONDS or now - began > _SETTLE_SECONDS:
            raise TableStale(
                f"raw_{source}/{table} has to be compared with its source first: the log does not "
                "tell all of its changes, such as those of a table that took its name. Run "
                f"`softcart load {source}.{table}`, then try again."
            )
        if now - told >= _REMIND_SECONDS:
            names = ", ".join(f"raw_{source}/{table}" for source, table in stale)
            tell(f"Waiting until {names} is compared with its source.")
            told = now
        time.sleep(_ASK_SECONDS)


def _stale(connection: psycopg.Connection, tables: Collection[CapturedName]) -> list[CapturedName]:
    # Before the first load there is no such table.
    exists = connection.execute("SELECT to_regclass('ingestion.captures') IS NOT NULL").fetchone()
    if not tables or not (exists and exists[0]):
        return []
    rows = connection.execute(
        "SELECT source, table_name FROM ingestion.captures WHERE stale_since IS NOT NULL ORDER BY 1"
    ).fetchall()
    return [(source, table) for source, table in rows if (source, table) in tables]
