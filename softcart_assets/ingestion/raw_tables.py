"""The raw tables while models are built from them: they stand still, and none of them is stale.

Loads share a lock. A build holds it alone. Otherwise models would be built from one state of the
raw tables and compared with another. A table whose log does not tell everything is stale until it
is compared with its source. Until then its rows may be a mixture of two states.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager

import psycopg
from psycopg import IsolationLevel, sql

from softcart_assets import locks
from softcart_assets.connections import PostgresConnection
from softcart_assets.ingestion import bookkeeping
from softcart_assets.ingestion.bookkeeping import RAW_TABLES_LOCK, capture_lock
from softcart_assets.ingestion.engine.tables import own_name
from softcart_assets.ingestion.errors import TableStale, TargetFailed
from softcart_assets.lines.model import Source

_BUILD_LOCK = "softcart build"
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
    with _lock(staging, exclusive=exclusive, tell=tell, reads=reads) as connection:
        yield
        _check_held(connection)


@contextmanager
def _lock(
    staging: PostgresConnection,
    *,
    exclusive: bool,
    tell: Callable[[str], None],
    reads: Collection[CapturedName],
) -> Iterator[psycopg.Connection]:
    """A session that has the lock, see `raw_tables_held`."""

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
                yield connection
                return


class RawState:
    """One state of the raw tables for all steps of a run that build from them.

    Between two steps, a stream or a load of somebody else's would change raw. Facts would refer to
    dimensions without their rows, and the lake would have other totals than the star schema. So a
    step keeps the lock for the next one. The lake does not need it while it is written: it reads
    what its sessions see as of one moment.

    Another lock is kept until the end of the run: one run at a time builds. Dagster's pool says the
    same, but not to a run of the command line. Two refreshes of a lake table would delete each
    other's files.
    """

    def __init__(self, staging: PostgresConnection) -> None:
        self._staging = staging
        self._held: tuple[psycopg.Connection, ExitStack] | None = None
        self._moment: tuple[str, ExitStack] | None = None
        """A snapshot of PostgreSQL, and the session that keeps it."""
        self._alone: ExitStack | None = None
        """The session with the lock on building."""

    def loading(self, tell: Callable[[str], None]) -> AbstractContextManager[None]:
        """Hold the tables for a load while a block runs. What was built before keeps no lock."""
        # Otherwise a run that loads one source after it has built from another would wait for
        # itself.
        self.close()
        return raw_tables_held(self._staging, exclusive=False, tell=tell)

    @contextmanager
    def building(
        self, reads: Collection[CapturedName], tell: Callable[[str], None], *, is_last: bool
    ) -> Iterator[None]:
        """Hold the tables while the block runs, and for the next step unless this `is_last`.

        Raises what `raw_tables_held` does.
        """
        connection = self._take(reads, tell)
        try:
            yield
            _check_held(connection)
        finally:
            if is_last:
                self._release()

    @contextmanager
    def moment(
        self,
        source: Source,
        tables: Collection[str],
        tell: Callable[[str], None],
        *,
        is_last: bool = True,
    ) -> Iterator[psycopg.Connection]:
        """A session that sees raw and the list of change files as the models of this run saw them.

        A stream lists its files more rarely than it changes raw. So the moment is one at which no
        table is being loaded: then all files are listed. None of `tables` is stale then, as some of
        its files would be missing. Loads go on as soon as the block of the last step begins.
        """
        reads = {(source.name, table) for table in tables}
        with self._staging.connect() as session:
            bookkeeping.prepare(session, source.schema)
        while True:
            snapshot = self._moment[0] if self._moment else self._begin_moment(reads, tell)
            with self._staging.connect() as session:
                session.isolation_level = IsolationLevel.REPEATABLE_READ
                session.execute(
                    sql.SQL("SET TRANSACTION SNAPSHOT {}").format(sql.Literal(snapshot))
                )
                if not _stale(session, reads):
                    if is_last:
                        self._release()
                    yield session
                    return
            # It was begun for the tables of another source.
            self.close()

    def close(self) -> None:
        """Let go of everything."""
        self._release()
        if self._moment:
            self._moment[1].close()
            self._moment = None
        if self._alone:
            self._alone.close()
            self._alone = None

    def _take(
        self, reads: Collection[CapturedName], tell: Callable[[str], None]
    ) -> psycopg.Connection:
        if self._held:
            connection, _ = self._held
            _check_held(connection)
            if not _stale(connection, reads):
                return connection
            # Whoever compares it with its source waits for us.
            self._release()
        self._wait_for_other_runs(tell)
        stack = ExitStack()
        connection = stack.enter_context(
            _lock(self._staging, exclusive=True, tell=tell, reads=reads)
        )
        self._held = connection, stack
        return connection

    def _wait_for_other_runs(self, tell: Callable[[str], None]) -> None:
        """Take the lock on building unless this run has it. Never while it holds the raw tables.

        Otherwise two runs could wait for each other.
        """
        if self._alone:
            return

        def on_wait(holder: locks.LockSession | None) -> None:
            tell(f"Waiting until {holder or 'another run'} has built.")

        with ExitStack() as stack:
            name = own_name("build")[:63]
            session = stack.enter_context(
                self._staging.connect(autocommit=True, application_name=name)
            )
            locks.take(session, _BUILD_LOCK, wait_seconds=_WAIT_SECONDS, on_wait=on_wait)
            self._alone = stack.pop_all()

    def _release(self) -> None:
        if self._held:
            self._held[1].close()
            self._held = None

    def _begin_moment(self, reads: Collection[CapturedName], tell: Callable[[str], None]) -> str:
        self._take(reads, tell)
        stack = ExitStack()
        session = stack.enter_context(self._staging.connect())
        session.isolation_level = IsolationLevel.REPEATABLE_READ
        row = session.execute("SELECT pg_export_snapshot()").fetchone()
        assert row
        self._moment = row[0], stack
        return self._moment[0]


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
