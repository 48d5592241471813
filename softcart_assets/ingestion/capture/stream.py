"""Following a source's log: the loop that reads, applies and commits, for a bounded run and for the stream that never ends.

Here belongs when something is done: when a flush is due, when lake files are listed, who may hold the source, what follows a
broken connection. What a change does to the target stands in `apply`, how the log is read in `reading` and `log`.

Everything is taken up from what is committed: whatever breaks, the loop drops what it has in hand, connects anew and reads on
from the committed place. Rows and place commit together, so that neither loses nor doubles anything.
"""

from __future__ import annotations

import math
import queue
import signal
import socket
import threading
import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime

import psycopg

from softcart_assets.connections import MySQLConnection, PostgresConnection, ServerUnreachable
from softcart_assets.ingestion import bookkeeping
from softcart_assets.ingestion.capture.apply import CapturedTable, TableFailed, Target, counts_of
from softcart_assets.ingestion.capture.reading import Piece, Question, Reading
from softcart_assets.ingestion.connectors.mysql.log import (
    BinaryLog,
    GtidSet,
    TableMap,
    bytes_behind,
    current_state,
)
from softcart_assets.ingestion.connectors.mysql.session import Session
from softcart_assets.ingestion.errors import SourceLost, TableBusy, TargetFailed
from softcart_assets.ingestion.request import LoadRequest
from softcart_assets.ingestion.sinks.changelog import ChangeLog
from softcart_assets.ingestion.sinks.raw import Counts
from softcart_assets.ingestion.types import Column
from softcart_assets.lines.model import Source

_FLUSH_SECONDS = 0.1
_LIST_SECONDS = 60.0
_LIST_BYTES = 256 << 20
_TICK_SECONDS = 1.0
_LAG_SECONDS = 5.0
_LOCK_SECONDS = 600
_BACKOFF_SECONDS = 0.5, 30.0
_CONTACT_SECONDS = 60.0


_NOTHING = Piece([], None)
FLUSH_BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, math.inf)
"""Seconds up to which flushes are counted together."""


@dataclass
class Status:
    """How a source's stream fares; written by the loop, to be read from any thread.

    `position`: up to where changes are committed. `lag_seconds`: age of the oldest change known not to be in raw, 0 if there is
    none. `lag_bytes`: how much log lies between the position and its end (None: not known yet). `rows_per_second`: row changes
    committed, over the last seconds. `changes`: those committed, by table and operation. `flush_times`: how many flushes took up to
    so many seconds and no less than the bucket before. `quarantined`: rows that are out, by table. `tables`: state of each, with the
    reason if it stopped. `problem`: what keeps the stream from going on at the moment.
    """

    source: str
    position: str = ""
    committed_at: datetime | None = None
    lag_seconds: float = 0.0
    lag_bytes: int | None = None
    rows: int = 0
    rows_per_second: float = 0.0
    flushes: int = 0
    flush_seconds: float = 0.0
    flush_seconds_in_all: float = 0.0
    flush_times: Counter[float] = field(default_factory=Counter)
    changes: Counter[tuple[str, str]] = field(default_factory=Counter)
    reconnects: int = 0
    quarantined: dict[str, int] = field(default_factory=dict)
    tables: dict[str, tuple[str, str | None]] = field(default_factory=dict)
    problem: str | None = None


@dataclass(frozen=True)
class Job:
    """Whose log is brought where."""

    source: Source
    connection: MySQLConnection
    staging: PostgresConnection
    lake_uri: str
    status: Status

    @property
    def captured(self) -> list[str]:
        """The tables that are declared to be captured."""
        return [table.name for table in self.source.tables if table.strategy == "cdc"]


def _key(connection: psycopg.Connection, source: Source) -> int:
    row = connection.execute(
        "SELECT hashtextextended(%s, 0)", (f"softcart capture {source.name}",)
    ).fetchone()
    assert row
    return row[0]


def _sessions(
    connection: psycopg.Connection, key: int, but: psycopg.Connection | None = None
) -> list[tuple[str, int, datetime, bool]]:
    """The sessions that hold or want a source's lock, ours left out: name, process, since when, whether it has it."""
    own = [connection.info.backend_pid, *([but.info.backend_pid] if but else [])]
    return connection.execute(
        "SELECT application_name, pid, backend_start, granted FROM pg_locks JOIN pg_stat_activity USING (pid)"
        " WHERE locktype = 'advisory' AND objsubid = 1 AND (classid::bigint << 32 | objid::bigint) = %s"
        " AND pid <> ALL(%s) AND pg_locks.database = (SELECT oid FROM pg_database WHERE datname = current_database())",
        (key, own),
    ).fetchall()


@contextmanager
def hold(
    job: Job, *, is_stream: bool, stopped: threading.Event | None = None
) -> Iterator[psycopg.Connection]:
    """A connection that holds the source, so that nobody else applies its log; `TableBusy` says who does.

    A stream gives way to a bounded run, which therefore waits; a second stream fails at once.
    """
    source = job.source
    # A thread's number is the process's for its main thread, and tells two streams of one process apart.
    name = f"softcart {'stream' if is_stream else 'load'} {source.name} {socket.gethostname()}:{threading.get_native_id()}"[
        :63
    ]
    with job.staging.connect(application_name=name) as connection:
        connection.autocommit = True
        bookkeeping.prepare(connection, source.schema)
        key = _key(connection, source)
        deadline = time.monotonic() + _LOCK_SECONDS
        connection.execute(
            "SET lock_timeout = '1s'" if is_stream else f"SET lock_timeout = '{_LOCK_SECONDS}s'"
        )
        while True:
            others = _sessions(connection, key)
            # A session of our own that just broke may take a moment to end.
            streams = [
                each
                for each in others
                if each[0].startswith("softcart stream ") and each[0] != name
            ]
            if is_stream and streams:
                raise TableBusy(
                    f"{source.schema}: source {source.name!r} is already followed by {_described(streams[0])}. Only one stream can: "
                    "stop that one first."
                )
            try:
                connection.execute("SELECT pg_advisory_lock(%s)", (key,))
                break
            except psycopg.errors.LockNotAvailable:
                if stopped and stopped.is_set():
                    raise Finished from None
                if not is_stream or time.monotonic() > deadline:
                    holders = [each for each in _sessions(connection, key) if each[3]]
                    raise TableBusy(
                        f"{source.schema}: source {source.name!r} has been held for {_LOCK_SECONDS} s by "
                        f"{_described(holders[0]) if holders else 'somebody'}. Wait for it or end it, then try again."
                    ) from None
        connection.execute("SET lock_timeout = 0")
        connection.autocommit = False
        yield connection


def is_followed(job: Job, connection: psycopg.Connection) -> bool:
    """Whether a stream follows the source, or waits for it."""
    sessions = _sessions(connection, _key(connection, job.source))
    return any(name.startswith("softcart stream ") for name, *_ in sessions)


def _described(session: tuple[str, int, datetime, bool]) -> str:
    name, process, since, _ = session
    return f"{name!r} (PostgreSQL process {process}, since {since:%Y-%m-%d %H:%M:%S} UTC)"


class Finished(Exception):
    """The loop was asked to stop."""


class Follower:
    """Applies a source's log over one holding connection, from the committed place on.

    After any error it is of no use any more. `control` commits each statement by itself.
    """

    def __init__(
        self, job: Job, connection: psycopg.Connection, control: psycopg.Connection
    ) -> None:
        self.job, self.control = job, control
        self.connection = connection
        self.target = Target(job.source, connection)
        self.lake = ChangeLog(control, job.source, job.lake_uri)
        self.lake.remove_orphans()
        self.take_up()
        self._listed = time.monotonic()
        self._rows: list[tuple[float, int]] = []
        self._staged: dict[str, Counts] = {}
        self.report()

    def take_up(self) -> None:
        """Read on from what is committed, of raw or the lake, whichever is behind; nothing of the lake is unlisted."""
        target = self.target
        self.place = min(
            filter(None, (target.place, target.lake_place)), key=lambda place: place.position
        )

    def follow(self, end: str | None = None, on_tick: Callable[[], bool] | None = None) -> None:
        """Apply the log up to a position, or until `on_tick`, called about once a second between flushes, says to stop."""
        job, target = self.job, self.target
        start = self.place
        live = {name: table for name, table in target.tables.items() if not table.stopped}
        gtids = GtidSet(start.gtid) if start.gtid else None
        names = {table.table.at_source: name for name, table in live.items()}
        database = job.connection.database
        wanted = {(database, name) for name in names}
        with BinaryLog(
            job.source.name,
            job.connection,
            wanted,
            start.position,
            server=start.server,
            gtids=gtids,
            end=end,
            names=names,
        ) as log:
            assert target.place
            if log.server != target.place.server:
                target.leave_server()
                behind = [table for table in live.values() if table.lake_position < table.position]
                if behind or start.position < target.place.position:
                    # What the lake lacks is not the same transactions here: it gets what raw made of them.
                    log.close()
                    self.write_unlisted(behind)
                    self.place = target.place
                    self.commit(listing=True)
                    for (
                        table
                    ) in behind:  # further than the stream, if that went back for a new table
                        table.lake_position = table.position
                    self.follow(end, on_tick)
                    return
            ahead = {
                t.name: (t.position, t.columns)
                for t in live.values()
                if t.position > start.position
            }
            keys = {name: table.table.key for name, table in live.items()}
            reading = Reading(
                log, start, self._columns_for, ahead, database, keys, names, _FLUSH_SECONDS
            )
            reading.start()
            try:
                self._apply(reading, on_tick)
            finally:
                reading.stop()

    def _apply(self, reading: Reading, on_tick: Callable[[], bool] | None) -> None:
        ticked = time.monotonic()
        is_between = True
        while True:
            reading.is_applying = False
            item: Piece | Question | BaseException | None = _NOTHING
            with suppress(queue.Empty):
                item = reading.pieces.get(timeout=0.2)
            reading.is_applying = True
            match item:
                case None:
                    return
                case Piece() if item is _NOTHING:
                    pass
                case Piece():
                    self._flush(item)
                    is_between = item.place is not None
                case Question():
                    try:
                        item.answer.set_result(item.ask())
                    except BaseException as error:
                        item.answer.set_exception(error)
                        raise
                case BaseException():
                    raise item
            if is_between and on_tick and time.monotonic() - ticked >= _TICK_SECONDS:
                ticked = time.monotonic()
                if on_tick():
                    return

    def _columns_for(self, table_map: TableMap) -> Sequence[Column] | None:
        table = self.target.tables[table_map.table]
        return None if table.stopped else self.target.adapt(table, table_map)

    def _flush(self, piece: Piece) -> None:
        """Bring a piece to the target; what it completes is committed."""
        started = time.monotonic()
        target, status = self.target, self.job.status
        if piece.is_void:
            target.void()
            self.lake.void()
            self._staged.clear()
            return
        rows = 0
        for changes in piece.changes:
            table = target.tables[changes.table]
            if table.stopped:
                continue
            target.stage(changes)
            self.lake.write(changes, table.lake_position)
            rows += len(changes)
            self._staged[table.name] = self._staged.get(table.name, Counts()) + counts_of(
                changes.operations
            )
        status.rows += rows
        if piece.place is None:
            return
        target.merge(piece.place, piece.committed_at)
        self.lake.commit(piece.place.position, piece.committed_at)
        self.place = piece.place
        is_told = True
        for change in piece.definitions:
            for changes in target.define(
                change, piece.place, piece.committed_at, self.job.connection.database
            ):
                self.lake.write(changes, "")
                is_told = False
        # What the log does not tell cannot be had from it a second time.
        self.commit(piece.committed_at, listing=not is_told)
        now = time.monotonic()
        status.flushes += bool(rows)
        status.flush_seconds = now - started
        if rows:
            status.flush_seconds_in_all += status.flush_seconds
            status.flush_times[FLUSH_BUCKETS[bisect_left(FLUSH_BUCKETS, status.flush_seconds)]] += 1
        for name, counts in self._staged.items():
            for operation, count in (
                ("insert", counts.inserted),
                ("update", counts.updated),
                ("delete", counts.deleted),
            ):
                status.changes[name, operation] += count
        self._staged.clear()
        self._rows = [(at, count) for at, count in self._rows if now - at < 10] + [(now, rows)]
        span = now - self._rows[0][0]
        status.rows_per_second = sum(count for _, count in self._rows) / max(span, 1.0)
        self.report()
        if piece.caught_up or not rows:
            status.lag_seconds = 0.0
        elif piece.committed_at:
            status.lag_seconds = max(time.time() - piece.committed_at / 1_000_000, 0.0)

    def commit(self, committed_at: int | None = None, *, listing: bool = False) -> None:
        """Commit the transaction at hand with the place that was read; and, if it is time or asked for, the lake's files."""
        due = time.monotonic() - self._listed >= _LIST_SECONDS or self.lake.bytes >= _LIST_BYTES
        if retyped := [table for table in self.target.tables.values() if table.is_retyped]:
            self.write_unlisted(retyped)
        is_listed = listing or bool(retyped) or self.lake.is_empty or due
        if is_listed:
            self.lake.list_in(self.connection)
        self.target.commit(self.place, committed_at, self.place if is_listed else None)
        if is_listed:
            self.lake.begin()
            self._listed = time.monotonic()

    def write_unlisted(self, tables: Iterable[CapturedTable]) -> None:
        """Write to the lake what raw has of tables and the log will not tell again; it is still to be listed."""
        for table in tables:
            for changes in self.target.unlisted(table):
                self.lake.write(changes, "")

    def finish(self) -> None:
        """List the lake's files, so that nothing has to be read again."""
        if not self.lake.is_empty:
            self.commit(listing=True)

    def without(self, failed: TableFailed) -> Follower:
        """What goes on without a table that PostgreSQL refuses, from what is committed; the table stops, with the reason."""
        self.lake.discard()
        self.target.rollback()
        self.target.stop(self.target.tables[failed.table], failed.reason)
        self.connection.commit()
        return Follower(self.job, self.connection, self.control)

    def merge_reread(self) -> None:
        """Merge rows that were read again, as far as the log is past the position that they were read at."""
        assert self.target.place
        if self.place.position < self.target.place.position:
            return  # The lake does not have all that raw has: what the log tells would come after it there.
        for reread in self.target.rereads():
            table = self.target.tables.get(reread.table)
            if table is None or table.stopped:
                continue
            for changes in self.target.merge_reread(table, reread):
                self.lake.write(changes, "")
            self.commit(listing=True)

    def report(self) -> None:
        """Bring the status up to date."""
        target, status = self.target, self.job.status
        status.position = target.place.position if target.place else ""
        status.committed_at = target.committed_at
        status.quarantined = {
            t.name: t.open_entries for t in target.tables.values() if t.open_entries
        }
        status.tables = {
            t.name: ("stopped" if t.stopped else "stale" if t.stale_since else "live", t.stopped)
            for t in target.tables.values()
        }


def stream(
    source: Source,
    connection: MySQLConnection,
    staging: PostgresConnection,
    lake_uri: str,
    *,
    status: Status | None = None,
    stopped: threading.Event | None = None,
    on_report: Callable[[Status], None] | None = None,
) -> None:
    """Keep a source's captured tables up with it, until SIGTERM, Ctrl-C or `stopped`; what is applied by then is committed.

    Tables that are not followed yet are copied first. Connections that break are made anew. A table that cannot go on stops with
    its reason in the status, and the others go on. `on_report` is called about once a second. Raises `TableBusy` if
    another stream follows the source, `PositionPurged` if the log does not lead on any more.
    """
    stopped = stopped or threading.Event()
    job = Job(source, connection, staging, lake_uri, status or Status(source.name))
    with _ended_by_signals(stopped), _lag_measured(job, stopped):
        _Stream(job, stopped, on_report).run()


@contextmanager
def _ended_by_signals(stopped: threading.Event) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {
        number: signal.signal(number, lambda *_: stopped.set())
        for number in (signal.SIGTERM, signal.SIGINT)
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _lag_measured(job: Job, stopped: threading.Event) -> Iterator[None]:
    """A thread that asks the source now and then how much log lies ahead."""
    done = threading.Event()

    def measure() -> None:
        while not (done.wait(_LAG_SECONDS) or stopped.is_set()):
            with suppress(Exception):  # the loop itself says what is wrong with the source
                with closing(Session(job.connection)) as session:
                    job.status.lag_bytes = (
                        bytes_behind(session, job.status.position) if job.status.position else None
                    )

    thread = threading.Thread(target=measure, name="softcart lag", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()


@contextmanager
def _raw_tables_shared(job: Job, stopped: threading.Event) -> Iterator[None]:
    """Keep models from being built while the block runs; waits until none are."""
    with job.staging.connect(
        autocommit=True, application_name=f"softcart stream raw {job.source.name}"[:63]
    ) as session:
        session.execute("SET lock_timeout = '1s'")
        while True:
            try:
                session.execute(
                    "SELECT pg_advisory_lock_shared(hashtextextended(%s, 0))",
                    (bookkeeping.RAW_TABLES_LOCK,),
                )
                break
            except psycopg.errors.LockNotAvailable:
                if stopped.is_set():
                    raise Finished from None
        yield


def _is_build_waiting(connection: psycopg.Connection) -> bool:
    row = connection.execute(
        "SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND objsubid = 1 AND NOT granted"
        " AND mode = 'ExclusiveLock' AND (classid::bigint << 32 | objid::bigint) = hashtextextended(%s, 0)"
        " AND database = (SELECT oid FROM pg_database WHERE datname = current_database()))",
        (bookkeeping.RAW_TABLES_LOCK,),
    ).fetchone()
    return bool(row and row[0])


class _Stream:
    """The loop around the loop: taking and giving up the source, connecting anew, tables that have to be read again."""

    def __init__(
        self, job: Job, stopped: threading.Event, on_report: Callable[[Status], None] | None
    ) -> None:
        self.job, self.stopped, self.on_report = job, stopped, on_report
        self.rereading: dict[str, threading.Thread] = {}
        self.contacted = float("-inf")
        self.is_well = False
        """Whether something was committed over the present connections."""

    def run(self) -> None:
        """Until it is stopped."""
        shortest, longest = _BACKOFF_SECONDS
        delay = shortest
        while not self.stopped.is_set():
            try:
                with self._session() as follower:
                    self._follow(follower)
            except Finished:
                return
            except (
                SourceLost,
                TargetFailed,
                ServerUnreachable,
                psycopg.OperationalError,
                psycopg.InterfaceError,
            ) as error:
                delay = shortest if self.is_well else min(delay * 2, longest)
                self.is_well = False
                self.job.status.problem = " ".join(str(error).split())
                self.job.status.reconnects += 1
                self._report()
                self.stopped.wait(delay)

    @contextmanager
    def _session(self) -> Iterator[Follower]:
        job = self.job
        # In this order, in which loads take them too: otherwise each could wait for the other's.
        with (
            _raw_tables_shared(job, self.stopped),
            hold(job, is_stream=True, stopped=self.stopped) as connection,
        ):
            name = f"softcart stream control {job.source.name}"
            with job.staging.connect(autocommit=True, application_name=name[:63]) as control:
                start_here(job, control)
                follower = Follower(job, connection, control)
                try:
                    yield follower
                except BaseException:
                    follower.lake.discard()
                    raise

    def _follow(self, follower: Follower) -> None:
        """Until it is stopped or somebody else wants the source."""
        while True:
            follower = self._contact(follower)
            self.job.status.problem = None
            try:
                follower.follow(on_tick=lambda: self._tick(follower))  # noqa: B023, called before it changes
            except TableFailed as failed:
                follower = follower.without(failed)
                continue
            if self.stopped.is_set() or self._is_wanted(follower):
                follower.finish()
                return

    def _contact(self, follower: Follower) -> Follower:
        """Copy tables that are not followed yet; what could not be copied is tried again later."""
        from softcart_assets.ingestion.capture.bounded import first_contact

        self.contacted = time.monotonic()
        follower.finish()
        failures: dict[str, Exception] = {}
        first_contact(
            follower, [self.job.source.table(name) for name in self.job.captured], failures, None
        )
        follower.report()
        self.job.status.tables |= {
            name: ("missing", str(error)) for name, error in failures.items()
        }
        return follower

    def _is_wanted(self, follower: Follower) -> bool:
        """Whether somebody waits for the source, or wants to build models from raw tables that stand still."""
        key = _key(follower.control, self.job.source)
        return bool(_sessions(follower.control, key, but=follower.connection)) or _is_build_waiting(
            follower.control
        )

    def _tick(self, follower: Follower) -> bool:
        """What is looked after once a second; whether to stop following."""
        self.is_well = True
        self.job.status.problem = None
        self._report()
        if self.stopped.is_set() or self._is_wanted(follower):
            return True
        follower.merge_reread()
        for table in follower.target.tables.values():
            if table.stale_since and not table.stopped:
                if not table.table.key:
                    self._compare(follower, table)
                    return True
                self._read_again(table)
        missing = len(self.job.captured) > len(follower.target.tables)
        return missing and time.monotonic() - self.contacted > _CONTACT_SECONDS

    def _compare(self, follower: Follower, table: CapturedTable) -> None:
        """Have a table without a key compared as a whole, at one position, which a bounded run does."""
        from softcart_assets.ingestion.capture.bounded import bring_up

        job = self.job
        request = LoadRequest(
            job.source, job.connection, job.staging, job.lake_uri, full=True, checksums=False
        )
        for _ in bring_up(follower, request, [table.table], {}):
            pass

    def _read_again(self, table: CapturedTable) -> None:
        """Have a table read again beside the stream, if that is not under way."""
        from softcart_assets.ingestion.capture.resnapshot import is_pending, read_again

        thread = self.rereading.get(table.name)
        if (thread and thread.is_alive()) or is_pending(self.job, table.name):
            return

        def read() -> None:
            try:
                read_again(self.job, table.table)
            except Exception as error:  # tried again at the next tick; what is wrong is to be seen
                self.job.status.problem = f"{table.raw.asset} is being read again: {error}"
                self.stopped.wait(_BACKOFF_SECONDS[0])

        self.rereading[table.name] = thread = threading.Thread(
            target=read, name="softcart reading again", daemon=True
        )
        thread.start()

    def _report(self) -> None:
        if self.on_report:
            self.on_report(self.job.status)


def start_here(job: Job, connection: psycopg.Connection) -> None:
    """If the source's log was never followed, begin at its end now; snapshots taken from now on lie behind that."""
    with closing(Session(job.connection)) as session:
        state = current_state(session)
    gtid = str(state.gtids) or None
    connection.execute(
        "INSERT INTO ingestion.streams (source, position, gtid, server, lake_position, lake_gtid, lake_server)"
        " VALUES (%s, %s, %s, %s, %s, %s, %s) ON CONFLICT DO NOTHING",
        (job.source.name, state.position, gtid, state.server, state.position, gtid, state.server),
    )
