"""The load: tables of one source, read at one position, into raw and the lake, each in one transaction.

This module decides what is read and in which order things happen; how rows are read, typed, merged and written is in the
modules beside it. Nothing here knows MySQL from MongoDB beyond opening them.
"""

from __future__ import annotations

import gc
import os
import socket
import time
import uuid
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import as_completed
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, field
from decimal import Decimal
from threading import Lock
from typing import Protocol

import psycopg
import pyarrow as pa
from psycopg.types.json import Jsonb

from softcart_assets import locks
from softcart_assets.connections import MongoConnection, MySQLConnection, PostgresConnection
from softcart_assets.ingestion import bookkeeping
from softcart_assets.ingestion.bookkeeping import LastLoad
from softcart_assets.ingestion.connectors.mongodb import reader as mongodb
from softcart_assets.ingestion.connectors.mysql import reader as mysql
from softcart_assets.ingestion.crew import Crew
from softcart_assets.ingestion.errors import LoadsFailed, MissingTable, TableBusy
from softcart_assets.ingestion.proof.digest import Checksums, Segments
from softcart_assets.ingestion.quarantine import Recorder
from softcart_assets.ingestion.sinks import raw as postgres
from softcart_assets.ingestion.sinks.lake import ChangeFiles, LakeFile, remove_files
from softcart_assets.ingestion.sinks.raw import Counts, RawTable, copy_batches
from softcart_assets.ingestion.snapshot import KeyRange, PartTable
from softcart_assets.ingestion.types import Batch, Column
from softcart_assets.lines.model import Privacy, Source, Table

_HANDS = min(max(os.cpu_count() or 1, 2), 8)
"""Threads that read and copy at once, each with a connection to either side: the servers share the work, and on a small
machine the processors.
"""
_FILES_A_RANGE = 1_000
"""The numbers in the names of a load's lake files: so many for each key range."""
_LOCK_SECONDS = 600

Progress = Callable[[str, int, int | None], None]
"""Called with a table, its rows read so far and the number expected (None: unknown); from several threads."""


class Reader(Protocol):
    """What the engine asks of a source; `mysql.MySQLReader` and `mongodb.MongoReader` answer.

    One thread uses a reader at a time. Batches are streamed: what reads them must not ask for anything else meanwhile.
    """

    def columns(self, table: Table, known: Sequence[Column]) -> Sequence[Column]:
        """The table's columns; `known` are those that raw has. Raises `MissingTable`."""

    def position(self, table: Table) -> str:
        """The position that the table is read at."""

    def warnings(self, table: Table) -> list[str]:
        """What somebody should know of the table that was read."""

    def expected_rows(self, table: Table) -> int | None:
        """About how many rows it has."""

    def all_rows(
        self, table: Table, columns: Sequence[Column]
    ) -> tuple[Sequence[Column], Iterator[Batch]]:
        """Every row, and the columns that they have after all."""

    def ranges(self, table: Table, columns: Sequence[Column], hands: int) -> list[str | None]:
        """Conditions that together hold for every row once, some for each of so many hands; `[None]`: not divided."""

    def batches(
        self, table: Table, columns: Sequence[Column], where: str | None = None
    ) -> Iterator[Batch]:
        """The rows that meet a condition of `ranges`."""

    def rows_past(
        self, table: Table, columns: Sequence[Column], cursor_value: str
    ) -> Iterator[Batch]:
        """The rows past a cursor."""

    def rows_of(
        self, table: Table, columns: Sequence[Column], keys: Iterable[tuple[str, ...]]
    ) -> tuple[Sequence[Column], Iterator[Batch]]:
        """The rows with these keys, and the columns that they have after all."""

    def segments(self, table: Table, columns: Sequence[Column], rows: int) -> Segments:
        """How to divide a table of about so many rows for comparison."""

    def digests(self, table: Table, segments: Segments) -> dict[int, tuple[str, ...]]:
        """The digest of each segment that has rows."""

    def pairs(self, table: Table, segments: Segments, differing: Sequence[int]) -> Iterator[Batch]:
        """Key and cursor of every row in the segments."""

    def checksums(
        self, table: Table, columns: Sequence[Column], without: Iterable[tuple[str, ...]]
    ) -> tuple[int, Checksums]:
        """Number of rows and the checksum of each column, the rows with some keys left out."""

    def reset(self) -> None:
        """Be fit for another table after one that failed."""


@dataclass(frozen=True)
class LoadResult:
    """What a committed load of one table did.

    `columns`: per column its `name`, `source_type`, `target_type`, `nullable` and `privacy` (None: not classified).
    `quarantined`: rows out of the table after this load, in all. `total`: current rows.
    `is_changed`: whether anything at all changed, quarantine and columns included.
    """

    table: str
    strategy: str
    load_id: str
    position: str
    inserted: int
    updated: int
    deleted: int
    quarantined: int
    total: int
    rows_read: int
    bytes_read: int
    seconds: float
    columns: list[dict]
    is_changed: bool
    warnings: list[str] = field(default_factory=list)

    @property
    def rows_per_second(self) -> float:
        """Rows read from the source per second."""
        return self.rows_read / self.seconds if self.seconds else 0.0


def load(
    source: Source,
    connection: MySQLConnection | MongoConnection,
    staging: PostgresConnection,
    lake_uri: str,
    tables: Sequence[str] | None = None,
    *,
    full: bool = False,
    checksums: bool = True,
    released: Sequence[int] = (),
    on_progress: Progress | None = None,
) -> Iterator[LoadResult]:
    """Load tables of a source (default: all that it declares) and yield each one's result as soon as it is committed.

    All tables of a MySQL source are read at one position. `full` compares every row of incremental tables too, whatever
    their cursors say. `checksums`: have the source state its checksums at the position, for `compare`; that takes the source
    seconds per million rows. `released` are quarantine entries whose rows are to be read again. A table that fails does not stop
    the others; at the end all failures are raised together as `LoadsFailed`. Running a failed load again is always safe.
    Before the first table `ServerUnreachable`, `MissingGrant` or `TableBusy` may be raised by themselves.
    """
    chosen = [source.table(name) for name in tables] if tables is not None else list(source.tables)
    captured = [table for table in chosen if table.strategy == "cdc" and source.kind == "mysql"]
    others = [table for table in chosen if table not in captured]
    failures: dict[str, Exception] = {}
    try:
        yield from read_tables(
            source,
            connection,
            staging,
            lake_uri,
            others,
            full=full,
            checksums=checksums,
            released=released,
            on_progress=on_progress,
        )
    except LoadsFailed as failed:
        failures |= failed.failures
    if captured:
        from softcart_assets.ingestion.capture import catch_up

        assert isinstance(connection, MySQLConnection)
        try:
            yield from catch_up(
                source,
                connection,
                staging,
                lake_uri,
                captured,
                full=full,
                checksums=checksums,
                released=released,
                on_progress=on_progress,
            )
        except LoadsFailed as failed:
            failures |= failed.failures
    if failures:
        raise LoadsFailed(source.name, failures)


def read_tables(
    source: Source,
    connection: MySQLConnection | MongoConnection,
    staging: PostgresConnection,
    lake_uri: str,
    chosen: Sequence[Table],
    *,
    full: bool,
    checksums: bool,
    released: Sequence[int] = (),
    on_progress: Progress | None = None,
    epoch: int = 0,
    along: Callable[[psycopg.Connection, str, str], None] | None = None,
) -> Iterator[LoadResult]:
    """Load tables by reading them, whole or in part; see `load`. `epoch`: of the positions, if earlier ones are of another server.

    `along` does what else is to be committed with each table, given its connection, name and position.
    """
    if not chosen:
        return
    failures: dict[str, Exception] = {}
    with ExitStack() as stack:
        control = stack.enter_context(
            staging.connect(autocommit=True, application_name=own_name("load"))
        )
        bookkeeping.prepare(control, source.schema)
        for table in sorted(chosen, key=lambda table: table.name):
            lock(control, source, table)
        # Only now: a position read before the wait for another load could lie before that load's.
        readers = stack.enter_context(open_readers(source, connection, _HANDS, epoch))
        stack.enter_context(_rare_garbage_collection())
        # Entered last, left first: no thread works on a connection that is closed.
        crew = stack.enter_context(Crew(readers))
        load_id = str(uuid.uuid4())
        call = Call(
            source,
            staging,
            control,
            crew,
            lake_uri,
            load_id,
            full,
            checksums,
            released,
            on_progress,
            along,
        )
        futures = {crew.submit(load_of(call, table).run): table for table in chosen}
        for future in as_completed(futures):
            try:
                result = future.result()
            except (
                Exception
            ) as error:  # whatever it is, the other tables go on; all are raised below
                failures[futures[future].name] = error
            else:
                yield result
    if failures:
        raise LoadsFailed(source.name, failures)


def load_of(call: Call, table: Table) -> TableLoad:
    """The load of a table, of the kind that its source and strategy ask for."""
    if call.source.kind == "mongodb":
        from softcart_assets.ingestion.connectors.mongodb.collection import (
            CollectionLoad,
            FollowedLoad,
        )  # which are made of this module

        return (FollowedLoad if table.strategy == "cdc" else CollectionLoad)(call, table)
    return TableLoad(call, table)


def replay(
    source: Source,
    connection: MySQLConnection | MongoConnection,
    staging: PostgresConnection,
    lake_uri: str,
    entries: Sequence[int],
) -> Iterator[LoadResult]:
    """Read the rows of quarantine entries from the source again, by loading their tables; fit ones leave the quarantine."""
    with staging.connect() as session:
        bookkeeping.prepare(session, source.schema)
        rows = session.execute(
            "SELECT DISTINCT table_name FROM ingestion.quarantine WHERE source = %s AND id = ANY(%s)",
            (source.name, list(entries)),
        ).fetchall()
    yield from load(
        source, connection, staging, lake_uri, [table for (table,) in rows], released=entries
    )


@contextmanager
def _rare_garbage_collection() -> Iterator[None]:
    """Rows pass as millions of tuples, which hold no cycles; looking for them all the same doubles the time of reading."""
    threshold, *others = gc.get_threshold()
    gc.set_threshold(100_000, *others)
    try:
        yield
    finally:
        gc.set_threshold(threshold, *others)


@contextmanager
def open_readers(
    source: Source,
    connection: MySQLConnection | MongoConnection,
    wanted: int,
    epoch: int = 0,
) -> Iterator[Sequence[Reader]]:
    """Up to so many readers that see the source as of one moment."""
    if isinstance(connection, MySQLConnection):
        with mysql.snapshot(source, connection, wanted, epoch) as readers:
            yield readers
    else:
        with connection.connect() as client:
            yield [mongodb.MongoReader(source, connection, client)]


def own_name(command: str) -> str:
    """What a PostgreSQL session of ours is called: the command, and the process that runs it."""
    return f"softcart {command} {socket.gethostname()}:{os.getpid()}"


def lock(control: psycopg.Connection, source: Source, table: Table) -> None:
    """Hold the table until the control connection ends, waiting for another load of it; `TableBusy` says whose."""
    name = f"{source.schema}/{table.name}"
    try:
        locks.take(control, f"softcart load {name}", wait_seconds=_LOCK_SECONDS)
    except locks.LockHeld as held:
        raise TableBusy(
            f"{name} has been held for {_LOCK_SECONDS} s by {held.holder or 'a load'}. "
            "Wait for it or end it, then load again."
        ) from None


@dataclass(frozen=True)
class Call:
    """What the tables of one call of `load` share. `control` commits each statement by itself and holds the locks."""

    source: Source
    staging: PostgresConnection
    control: psycopg.Connection
    crew: Crew[Reader]
    lake_uri: str
    load_id: str
    full: bool
    checksums: bool
    released: Sequence[int]
    on_progress: Progress | None
    along: Callable[[psycopg.Connection, str, str], None] | None = None
    """What else is to be committed with a table's load, given its connection, the table and the position."""


class TableLoad:
    """The load of one table."""

    def __init__(self, call: Call, table: Table) -> None:
        self.call, self.table = call, table
        self.source, self.load_id = call.source, call.load_id
        self.asset = f"{self.source.schema}/{table.name}"
        self.lake: ChangeFiles | None = None
        self.lake_files: list[LakeFile] = []
        self.part = PartTable(call.control, self.source, table, call.lake_uri)
        self.accounts = Lock()
        self.counts = Counts()
        self.closed = self.rows_read = self.bytes_read = 0
        self.cursor_value: str | None = None
        self.warnings: list[str] = []
        self.is_committing = self.is_resumable = self.is_widened = False

    def run(self, reader: Reader) -> LoadResult:
        """Load and commit; on any failure leave no trace but the finished ranges of a table that the log will complete."""
        self.reader = reader
        self._remove_orphans()
        try:
            with self.call.staging.connect(
                application_name=f"softcart load {self.asset}"
            ) as connection:
                return self._run(connection)
        except BaseException as error:
            # A commit whose answer was lost may have happened: then the files count. The next load knows.
            if not self.is_committing:
                with suppress(Exception):  # what cannot be removed now, the next load removes
                    if not self.is_resumable:
                        self.part.discard()
                    if self.lake:
                        self.lake.discard({file.path for file in self.part.listed_files()})
                        self._forget_attempt(self.call.control, self.load_id)
            if isinstance(error, psycopg.Error):
                raise postgres.explain(error, self.asset, self.table.key) from error
            raise

    def _run(self, connection: psycopg.Connection) -> LoadResult:
        started = time.monotonic()
        # Hash joins of the merge in memory; compiling its queries would take longer than running them.
        connection.execute("SET LOCAL work_mem = '64MB'; SET LOCAL jit = off")
        self.raw = RawTable(connection, self.source, self.table)
        self.loaded_at = self.raw.now()
        last = bookkeeping.last_load(connection, self.source.name, self.table.name)
        self.cursor_value = last.cursor_value if last else None

        known = self.raw.columns(last.columns if last else ())
        self.is_new = not known
        columns: Sequence[Column]
        columns, self.is_widened = self._prepare(known)
        self.position = self.reader.position(self.table)
        self.quarantine = Recorder(
            connection, self.source.name, self.table.name, self.load_id, self.position
        )
        self._check_declared(columns)
        if self.table.key:
            self.raw.hold(columns, self.quarantine.entries(self.call.released))
        columns, sums, strategy = self._move(columns, last)
        doubts = self.reader.warnings(self.table)
        self.warnings += doubts
        self._warn_unclassified(columns)

        described = [self._described(column) for column in columns]
        is_changed = bool(
            self.counts
            or self.quarantine.new
            or self.closed
            or not last
            or last.columns != described
        )
        # Where a table may change unnoticed, as by cascades that are not logged, no change is no reason to trust the last ones.
        may_differ = self.source.kind == "mysql" and bool(doubts)
        if last and not is_changed and not self.call.full and not may_differ:
            sums = last.source_rows, last.source_checksums
        if self.call.checksums and (sums is None or sums[1] is None):
            sums = self._source_checksums(columns)
        result = LoadResult(
            table=self.table.name,
            strategy=strategy,
            load_id=self.load_id,
            position=self.position,
            inserted=self.counts.inserted,
            updated=self.counts.updated,
            deleted=self.counts.deleted,
            quarantined=self.quarantine.open()[0],
            total=self.raw.rows(),
            rows_read=self.rows_read,
            bytes_read=self.bytes_read,
            seconds=time.monotonic() - started,
            columns=described,
            is_changed=is_changed,
            warnings=self.warnings,
        )
        self._record(result, last, sums or (None, None))
        if self.call.along:
            self.call.along(connection, self.table.name, self.position)
        self.is_committing = True
        connection.commit()
        return result

    def _prepare(self, known: Sequence[Column]) -> tuple[list[Column], bool]:
        """Make raw fit the source; its columns, and whether any was added."""
        return self.raw.prepare(self.reader.columns(self.table, known), known)

    def _move(
        self, columns: Sequence[Column], last: LastLoad | None
    ) -> tuple[Sequence[Column], tuple[int | None, Checksums | None] | None, str]:
        """Bring raw to the position; the columns after all, what the source said of itself if it was asked, and how."""
        is_incremental = (
            self.table.strategy == "incremental"
            and last is not None
            and not (self.call.full or self.is_widened or self.raw.is_empty())
            and any(column.name == self.table.cursor for column in columns)
        )
        if is_incremental and last:
            return *self._incremental(columns, last.rows_total), "incremental"
        return self._full(columns), None, "snapshot"

    def _full(self, columns: Sequence[Column]) -> Sequence[Column]:
        """Every row: straight in if raw is empty, else by comparing all."""
        known = self.raw.columns()
        if len(conditions := self.reader.ranges(self.table, columns, self.call.crew.size)) > 1:
            columns, _ = self.raw.prepare(columns, known)
            loaded = self._in_ranges(columns, conditions)
            self._after_full(loaded, columns)
            if loaded == self.part.name:
                self.raw.connection.execute(f"DROP TABLE {loaded}".encode())
            return columns
        columns, batches = self.reader.all_rows(self.table, columns)
        columns, _ = self.raw.prepare(columns, known)
        if self.raw.is_empty():
            self._take(self.raw.fill(columns, batches, self.position), columns, to_lake=True)
            if self.is_new and not self.counts.inserted:
                # Of an empty table the lake gets a file with its columns and no rows, so that what reads it finds it.
                schema = pa.schema([(column.name, column.arrow_type) for column in columns])
                self._lake_files().write(columns, pa.RecordBatch.from_pylist([], schema=schema))
            loaded = self.raw.name
        else:
            self.raw.stage(columns)
            self._take(self.raw.copy("pg_temp.incoming", columns, batches), columns)
            self._merge(columns, self.raw.find_changes(columns, missing_is_deleted=True))
            loaded = "pg_temp.incoming"
        return self._after_full(loaded, columns)

    def _in_ranges(self, columns: Sequence[Column], conditions: Sequence[str | None]) -> str:
        """Every row, with all hands: into a part table by key ranges, then that is raw, or is compared with it.

        Returns the relation with all rows. What a killed load copied is kept where change data capture brings all ranges
        to one position afterwards.
        """
        was_empty = self.raw.is_empty()
        self.is_resumable = self.is_new and self.table.strategy == "cdc"
        ranges = self.part.begin(
            columns, conditions, self.position, self.loaded_at, resume=self.is_resumable
        )
        expected = self.reader.expected_rows(self.table)

        def copy(key_range: KeyRange) -> Callable[[Reader], None]:
            return lambda reader: self._copy_range(
                reader, columns, key_range, expected, to_lake=was_empty
            )

        if was_empty:
            self._attempt()
        self.call.crew.share(self.reader, [copy(each) for each in ranges])
        copied = self.part.copied()
        assert copied.position
        self.part.add_own_columns(copied.position, self.loaded_at)
        self.position = self.quarantine.position = copied.position
        self.lake_files += copied.files
        self.raw.hold(columns, self.quarantine.entries(self.call.released))
        self.part.forget(self.raw.connection)
        if was_empty and self.raw.adopt(columns, self.part.name):
            self.counts += Counts(inserted=copied.rows)
            return self.raw.name
        self.raw.stage(columns)
        found = self.raw.find_changes(columns, missing_is_deleted=True, incoming=self.part.name)
        if was_empty:  # a view kept the empty table in its place; the lake has the rows
            self.counts += found
            self.raw.apply_changes(columns, self.position)
        else:
            self._merge(columns, found)
        return self.part.name

    def _copy_range(
        self,
        reader: Reader,
        columns: Sequence[Column],
        key_range: KeyRange,
        expected: int | None,
        *,
        to_lake: bool,
    ) -> None:
        """Copy one key range into the part table and the lake, in a transaction of its own."""
        position = reader.position(self.table)
        rows = 0
        files = self._change_files(key_range.number * _FILES_A_RANGE) if to_lake else None
        with self.call.staging.connect(
            application_name=f"softcart load {self.asset}"
        ) as connection:
            quarantine = Recorder(
                connection, self.source.name, self.table.name, self.load_id, position
            )
            batches = reader.batches(self.table, columns, key_range.condition)
            with closing(copy_batches(connection, self.part.name, columns, batches)) as copied:
                for batch in copied:
                    rows += len(batch.rows)
                    if files:
                        files.write(columns, batch.rows)
                    quarantine.record(batch.rejected)
                    self._account(batch, expected)
            written = files.close() if files else []
            self.part.record(connection, key_range.number, position, rows, written)
        with self.accounts:
            self.quarantine.new += quarantine.new

    def _account(self, batch: Batch, expected: int | None) -> None:
        with self.accounts:
            self.rows_read += len(batch.rows) + len(batch.rejected)
            self.bytes_read += batch.rows.nbytes
            if self.call.on_progress:
                self.call.on_progress(self.table.name, self.rows_read, expected)

    def _after_full(self, loaded: str, columns: Sequence[Column]) -> Sequence[Column]:
        """What follows once every row was read: the cursor, and entries of the quarantine that are settled."""
        self._note_cursor(loaded, columns)
        self._close_held_in(loaded)
        self.closed += self.quarantine.close(
            self.quarantine.unseen(), "deleted" if self.table.key else "mended", self.call.released
        )
        return columns

    def _incremental(
        self, columns: Sequence[Column], rows: int
    ) -> tuple[Sequence[Column], tuple[int, Checksums] | None]:
        """The rows past the last cursor, then whatever else differs by comparison of keys and cursors."""
        raw, reader, table = self.raw, self.reader, self.table
        if self.cursor_value is not None:
            self._take_changes(columns, reader.rows_past(table, columns, self.cursor_value))
        segments = reader.segments(table, columns, rows)
        at_source, in_raw = reader.digests(table, segments), raw.digests(segments)
        differing = sorted(
            each
            for each in at_source.keys() | in_raw.keys()
            if not _equal(at_source.get(each), in_raw.get(each))
        )
        if not differing:
            return columns, None
        pairs = raw.stage_pairs(segments)
        for batch in raw.copy("pg_temp.at_source", pairs, reader.pairs(table, segments, differing)):
            for rejected in batch.rejected:
                if rejected.key is not None:
                    raw.add_pair_without_cursor(segments.key, rejected.key)
            self.quarantine.record([r for r in batch.rejected if r.key is None], only_new=True)
        for keys in raw.keys_to_fetch(segments):
            found, batches = reader.rows_of(table, columns, keys)
            columns, _ = raw.prepare(found, raw.columns())
            self._take_changes(columns, batches)
        raw.stage(columns)
        self._merge(columns, raw.find_deleted(columns, segments, differing))
        self.closed += self.quarantine.close(
            raw.held_not_at_source(segments, differing), "deleted", self.call.released
        )
        # Without a snapshot the source cannot be asked again: what its pairs said is what can be compared.
        return columns, raw.checksums(
            pairs, "pg_temp.at_source"
        ) if self.source.kind == "mongodb" else None

    def _take_changes(self, columns: Sequence[Column], batches: Iterable[Batch]) -> None:
        """Stage some rows and merge those that differ."""
        self.raw.stage(columns)
        self._take(self.raw.copy("pg_temp.incoming", columns, batches), columns)
        self._merge(columns, self.raw.find_changes(columns, missing_is_deleted=False))
        self._note_cursor("pg_temp.incoming", columns)
        self._close_held_in("pg_temp.incoming")

    def _take(
        self, batches: Generator[Batch], columns: Sequence[Column], *, to_lake: bool = False
    ) -> None:
        """Account for batches on their way into raw: progress, quarantine, perhaps the lake."""
        expected = self.reader.expected_rows(self.table) if self.call.on_progress else None
        are_rejected = False
        with closing(batches):
            for batch in batches:
                if to_lake:
                    self.counts += Counts(inserted=len(batch.rows))
                    self._lake_files().write(columns, batch.rows)
                if batch.rejected:
                    self.quarantine.record(batch.rejected)
                    are_rejected = True
                self._account(batch, expected)
        if are_rejected and self.table.key:
            self.raw.hold(columns, self.quarantine.entries(self.call.released))

    def _merge(self, columns: Sequence[Column], found: Counts) -> None:
        """Bring the changes found into raw, its history and the lake."""
        if not found:
            return
        self.counts += found
        self.raw.apply_changes(columns, self.position)
        files = self._lake_files()
        for rows, deleted in self.raw.changed_rows(columns):
            files.write(columns, rows, deleted=deleted)

    def _note_cursor(self, relation: str, columns: Sequence[Column]) -> None:
        cursor = next((c for c in columns if c.name == self.table.cursor), None)
        if cursor:
            self.cursor_value = self.raw.latest_cursor(relation, cursor, self.cursor_value)

    def _close_held_in(self, relation: str) -> None:
        """Quarantined rows that have now been loaded leave the quarantine."""
        if self.table.key:
            self.closed += self.quarantine.close(
                self.raw.held_in(relation), "mended", self.call.released
            )

    def _lake_files(self) -> ChangeFiles:
        """The load's change files; from the first on, the attempt is on record."""
        if not self.lake:
            self._attempt()
        assert self.lake
        return self.lake

    def _attempt(self) -> None:
        """Put on record that lake files are being written, and make their writer."""
        self.lake = self._change_files()
        self.call.control.execute(
            "INSERT INTO ingestion.attempts (load_id, source, table_name, directory) VALUES (%s, %s, %s, %s)",
            (self.load_id, self.source.name, self.table.name, self.lake.directory),
        )

    def _change_files(self, first_file: int = 0) -> ChangeFiles:
        return ChangeFiles(
            self.call.lake_uri,
            self.source.name,
            self.table.name,
            self.load_id,
            self.loaded_at,
            self.position,
            first_file,
        )

    def _forget_attempt(self, connection: psycopg.Connection, load_id: str) -> None:
        connection.execute(
            "DELETE FROM ingestion.attempts WHERE load_id = %s AND source = %s AND table_name = %s",
            (load_id, self.source.name, self.table.name),
        )

    def _remove_orphans(self) -> None:
        """Remove the lake files of loads that were killed; none is running, as this one holds the table."""
        attempts = self.call.control.execute(
            "SELECT load_id, directory FROM ingestion.attempts WHERE source = %s AND table_name = %s",
            (self.source.name, self.table.name),
        ).fetchall()
        kept = {file.path for file in self.part.listed_files()} if attempts else set()
        for load_id, directory in attempts:
            remove_files(self.call.lake_uri, directory, load_id, kept)
            self._forget_attempt(self.call.control, load_id)

    def _check_declared(self, columns: Sequence[Column]) -> None:
        names = {column.name for column in columns}
        declared = [*self.table.key, *([self.table.cursor] if self.source.kind == "mysql" else [])]
        if missing := [name for name in declared if name and name not in names]:
            raise MissingTable(
                f"{self.asset}: column {', '.join(map(repr, missing))}, declared as key or cursor of table {self.table.name!r} in "
                f"source {self.source.name!r}, does not exist at the source. Correct the declaration."
            )

    def _warn_unclassified(self, columns: Sequence[Column]) -> None:
        self.warnings += [
            f"column {c.name!r} is not classified: add it to the declaration's `privacy`"
            for c in columns
            if self._privacy(c) is None
        ]

    def _privacy(self, column: Column) -> Privacy | None:
        if self.source.kind == "mongodb" and column.name == "_id_type":
            return Privacy.NONE
        if self.source.kind == "mongodb" and column.name == "document":
            return max(self.table.privacy.values(), key=list(Privacy).index, default=Privacy.NONE)
        return self.table.privacy.get(column.name)

    def _described(self, column: Column) -> dict:
        return {
            "name": column.name,
            "source_type": column.source_type,
            "target_type": column.target_type,
            "nullable": column.nullable,
            "privacy": self._privacy(column),
        }

    def _source_checksums(self, columns: Sequence[Column]) -> tuple[int | None, Checksums | None]:
        """What the source says of the rows that are not in quarantine; only their number if some of those have no key."""
        quarantined, keys = self.quarantine.open()
        rows, checksums = self.reader.checksums(self.table, columns, keys)
        without_key = quarantined - len(keys)
        if self.source.kind == "mongodb" or not without_key:
            return rows, checksums
        return rows - without_key, {}

    def _record(
        self, result: LoadResult, last: LastLoad | None, sums: tuple[int | None, Checksums | None]
    ) -> None:
        """Write the load's record and position, if no other load has come in between."""
        connection, key = self.raw.connection, (self.source.name, self.table.name)
        for file in [*self.lake_files, *(self.lake.close() if self.lake else [])]:
            connection.execute(
                "INSERT INTO ingestion.lake_files (path, source, table_name, load_id, load_date, row_count, byte_count,"
                " loaded_at) VALUES (%s, %s, %s, %s, now()::date, %s, %s, now())",
                (file.path, *key, self.load_id, file.rows, file.bytes),
            )
        self._forget_attempt(connection, self.load_id)
        connection.execute(
            "INSERT INTO ingestion.loads (load_id, source, table_name, strategy, position, loaded_at, seconds, rows_read,"
            " bytes_read, rows_inserted, rows_updated, rows_deleted, rows_quarantined, rows_total, is_changed, columns,"
            " source_rows, source_checksums, warnings)"
            " VALUES (%s, %s, %s, %s, %s, now(), %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)",
            (
                self.load_id,
                *key,
                result.strategy,
                result.position,
                result.seconds,
                result.rows_read,
                result.bytes_read,
                result.inserted,
                result.updated,
                result.deleted,
                result.quarantined,
                result.total,
                result.is_changed,
                Jsonb(result.columns),
                sums[0],
                None if sums[1] is None else Jsonb(sums[1]),
                Jsonb(result.warnings),
            ),
        )
        taken = connection.execute(
            "INSERT INTO ingestion.positions AS p (source, table_name, position, cursor_value, load_id, loaded_at)"
            " VALUES (%s, %s, %s, %s, %s, now()) ON CONFLICT (source, table_name) DO UPDATE SET position = EXCLUDED.position,"
            " cursor_value = EXCLUDED.cursor_value, load_id = EXCLUDED.load_id, loaded_at = EXCLUDED.loaded_at"
            " WHERE p.load_id IS NOT DISTINCT FROM %s",
            (
                *key,
                result.position,
                self.cursor_value,
                self.load_id,
                last.load_id if last else None,
            ),
        )
        if not taken.rowcount:
            raise TableBusy(
                f"{self.asset}: another load has committed meanwhile. Nothing of this one was; load again."
            )


def _equal(one: tuple[str, ...] | None, other: tuple[str, ...] | None) -> bool:
    return bool(one and other) and [Decimal(n) for n in one or ()] == [
        Decimal(n) for n in other or ()
    ]
