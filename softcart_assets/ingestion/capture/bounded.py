"""A bounded run: applies the source's log up to one exact position, at which the source also states
its contents.

This module has what comes before and after the loop in `follower`: the first copy of tables, the
record of the load, and tables that are read again because the log does not tell everything.
"""

from __future__ import annotations

import os
import socket
import uuid
from collections.abc import Iterator, Sequence
from concurrent.futures import as_completed
from contextlib import ExitStack, contextmanager
from dataclasses import replace

import psycopg

from softcart_assets.ingestion.bookkeeping import LastLoad
from softcart_assets.ingestion.capture.follower import Follower
from softcart_assets.ingestion.capture.holding import hold
from softcart_assets.ingestion.capture.job import Job
from softcart_assets.ingestion.capture.servers import end_after, epoch_now, start_here
from softcart_assets.ingestion.captured import TableFailed, capture
from softcart_assets.ingestion.connectors.mysql.reader import MySQLReader, snapshot
from softcart_assets.ingestion.connectors.mysql.session import current_position
from softcart_assets.ingestion.engine.table import Moved, TableLoad
from softcart_assets.ingestion.engine.tables import read_tables
from softcart_assets.ingestion.errors import LoadsFailed, SchemaChanged, SourceLost
from softcart_assets.ingestion.position import Position
from softcart_assets.ingestion.proof.statements import Statement
from softcart_assets.ingestion.quarantine import count_changed
from softcart_assets.ingestion.readers import KeyedReader, Reader
from softcart_assets.ingestion.request import Call, LoadRequest, LoadResult, Progress
from softcart_assets.ingestion.sinks import Sink
from softcart_assets.ingestion.sinks.failures import explain
from softcart_assets.ingestion.sinks.raw import Counts
from softcart_assets.ingestion.types import Column
from softcart_assets.ingestion.workers import WorkerPool
from softcart_assets.lines.model import Source, Table

_HANDS = 3


def catch_up(
    request: LoadRequest,
    tables: Sequence[Table],
    *,
    taken_over: bool = False,
    restart: bool = False,
) -> Iterator[LoadResult]:
    """Bring a source's captured tables to its present position. Yields the result of each of
    `tables`, see `load.load`.

    The log is applied to all followed tables, so that they stay at one position. With `full`, every
    row of `tables` is compared as well. `taken_over`: include tables that stopped, with their
    present columns. `restart`: go on from the log's present end, and skip what was not applied.
    Every table is compared then.
    """
    job = Job.of(request)
    failures: dict[str, Exception] = {}
    with ExitStack() as stack:
        stack.enter_context(_explained(job.source))
        holder = stack.enter_context(hold(job))
        name = f"softcart load {job.source.name} {socket.gethostname()}:{os.getpid()}"
        control = stack.enter_context(
            job.staging.connect(autocommit=True, application_name=name[:63])
        )
        # Before the copies: the log is followed from a position before theirs, so that nothing
        # falls between. A start that moved with each attempt lost changes
        # (airbytehq/airbyte#48717).
        start_here(job, control)
        follower = Follower(job, holder, control)
        if restart:
            start_again(follower)
            # The one before still has the places that were left.
            follower = Follower(job, holder, control)
        yield from bring_up(follower, request, tables, failures, taken_over=taken_over)
    if failures:
        raise LoadsFailed(job.source.name, failures)


@contextmanager
def _explained(source: Source) -> Iterator[None]:
    """Translate PostgreSQL errors that do not belong to one table."""
    try:
        yield
    except psycopg.Error as error:
        raise explain(error, source.schema, ()) from error


def bring_up(
    follower: Follower,
    request: LoadRequest,
    tables: Sequence[Table],
    failures: dict[str, Exception],
    *,
    taken_over: bool = False,
) -> Iterator[LoadResult]:
    """Do what `catch_up` does, for a caller that holds the source. Failures are added to
    `failures`.
    """
    copied = first_contact(follower, tables, failures, request.on_progress)
    with ExitStack() as stack:
        follower, readers = _at_one_position(stack, follower, may_lock=False)
        if not readers[0].is_exact and _is_read(follower, request, tables, taken_over=taken_over):
            follower, readers = _at_one_position(stack, follower, may_lock=True)
        if taken_over:
            follower.write_unlisted(
                table for table in follower.captured.tables.values() if table.stopped
            )
        follower.finish()
        pool: WorkerPool[Reader] = stack.enter_context(WorkerPool(readers))
        call = Call(request, follower.control, pool, str(uuid.uuid4()))
        futures = {}
        for table in tables:
            captured = follower.captured.tables.get(table.name)
            if captured is None:
                continue  # could not be copied: among the failures
            # Somebody has to look at a stopped table first: its load fails and says so.
            if captured.stopped and not taken_over:
                failures[table.name] = SchemaChanged(captured.stopped)
                continue
            load = CapturedLoad(
                call,
                table,
                follower.sinks,
                is_full=request.full or bool(captured.stale_since or captured.stopped),
            )
            futures[pool.submit(load.run)] = table.name
        for future in as_completed(futures):
            name = futures[future]
            try:
                result = future.result()
            except Exception as error:  # whatever it is, the other tables go on
                failures[name] = error
                continue
            if name in copied:
                result = replace(
                    result,
                    inserted=result.inserted + copied[name].inserted,
                    rows_read=result.rows_read + copied[name].rows_read,
                    bytes_read=result.bytes_read + copied[name].bytes_read,
                    seconds=result.seconds + copied[name].seconds,
                    is_changed=True,
                )
            yield result
    # What the loads made of stale and stopped tables.
    follower.take_up(anew=True)


def _at_one_position(
    stack: ExitStack, follower: Follower, *, may_lock: bool
) -> tuple[Follower, Sequence[MySQLReader]]:
    """Open readers, which `stack` closes, and apply the log exactly up to their position."""
    job = follower.job
    epoch = epoch_of(follower)
    # First the snapshot, then the log up to exactly its position: so the source's checksums and raw
    # describe the same rows. A reader that ran past its end gave the next one rows a second time
    # (pipelinewise-tap-mysql#57).
    readers = stack.enter_context(
        snapshot(job.source, job.connection, _HANDS, epoch, may_lock=may_lock)
    )
    position = readers[0].position(job.source.tables[0])
    return follow_to(follower, Position.parse(position)), readers


def _is_read(
    follower: Follower, request: LoadRequest, tables: Sequence[Table], *, taken_over: bool
) -> bool:
    """Return whether rows of a table have to be read, since the log does not tell them."""
    captured = follower.captured.tables
    followed = [captured[table.name] for table in tables if table.name in captured]
    return (
        request.full
        or bool(request.released)
        or any(each.stale_since or (each.stopped and taken_over) for each in followed)
    )


def epoch_of(follower: Follower) -> int:
    """Return the epoch of the server that answers now, see `epoch_now`."""
    assert follower.captured.place
    return epoch_now(follower.job, follower.captured.place)


def first_contact(
    follower: Follower,
    tables: Sequence[Table],
    failures: dict[str, Exception],
    on_progress: Progress | None,
) -> dict[str, LoadResult]:
    """Copy the tables that are not followed yet. The log goes on from where they were copied."""
    job = follower.job
    new = [table for table in tables if table.name not in follower.captured.tables]
    copied = {}
    if new:
        epoch = epoch_of(follower)

        def follow(connection: psycopg.Connection, table: str, position: str) -> None:
            # Rows that came while the table was copied may be in it: up to here, each row's own
            # position decides.
            now = current_position(job.connection).in_epoch(epoch)
            capture(connection, job.source.name, table, Position.parse(position), now)
            # In the transaction of the copy, so that no sink misses a table or gets it twice.
            for sink in follower.sinks:
                sink.restate(connection, table)

        request = LoadRequest(
            job.source,
            job.connection,
            job.staging,
            job.lake_uri,
            full=True,
            ask_after=None,
            on_progress=on_progress,
        )
        results = read_tables(request, new, epoch=epoch, on_commit=follow)
        try:
            for result in results:
                copied[result.table] = result
        except LoadsFailed as failed:
            failures |= failed.failures
        follower.take_up()
    return copied


def follow_to(follower: Follower, end: Position) -> Follower:
    """Apply the log up to a position, and merge what was read again. A table that PostgreSQL
    refuses stops, and the others go on.

    Returns the follower to use from now on.
    """
    while True:
        try:
            follower.follow(end)
            # Rows that were read again for a stream which has ended since must not wait for the
            # next.
            follower.merge_reread()
            return follower
        except TableFailed as failed:
            follower = follower.without(failed)


def start_again(follower: Follower) -> None:
    """Give up what the log no longer tells.

    The log is followed from its present end, and every table has to be read again.
    """
    captured, source = follower.captured, follower.job.source
    assert captured.place
    end = end_after(follower.job, captured.place)
    # New position, lake files and doubts together: after a kill between them, rows would be missing
    # in the lake and nobody would read them again.
    with follower.connection.transaction():
        follower.write_unlisted(captured.tables.values())
        follower.lake.list_in(follower.connection)
        place = (end.position, end.gtid, end.server)
        follower.connection.execute(
            "UPDATE ingestion.streams SET position = %s, gtid = %s, server = %s, lake_position = "
            "%s, lake_gtid = %s, lake_server = %s"
            " WHERE source = %s",
            (*place, *place, source.name),
        )
        for table in captured.tables.values():
            # Whatever happened between the two positions is unknown. Only a comparison of all rows
            # shows it.
            captured.note_stale(table, end.position)
            # The lake now has what raw has, and that is all that it can get from the log.
            follower.connection.execute(
                "UPDATE ingestion.captures SET lake_position = %s WHERE source = %s AND "
                "table_name = %s",
                (max(table.lake_position, table.position), source.name, table.name),
            )


class CapturedLoad(TableLoad):
    """The rest of a captured table's load once the log is applied: its record, and perhaps a
    comparison of every row.
    """

    def __init__(self, call: Call, table: Table, sinks: Sequence[Sink], *, is_full: bool) -> None:
        super().__init__(call, table)
        self.sinks, self.is_full = sinks, is_full
        self.is_retyped = False
        self.found = Counts()
        """What reading every row has found to differ."""

    def _prepare(self, known: Sequence[Column]) -> tuple[list[Column], bool]:
        """Let raw follow the source if the contract allows it, or if a person has decided so."""
        columns = list(self.reader.columns(self.table, known))
        if self.table.contract == "evolve" or self.is_taken_over:
            before = {column.name for column in self.raw.columns()}
            columns, self.is_retyped = self.raw.evolve(columns, known)
            # The log tells of such a statement, and raw has the columns by then. If it did not
            # (`SET sql_log_bin = 0`), only the source knows the values.
            self.is_full |= self.is_retyped or any(c.name not in before for c in columns)
            return columns, False
        have = {column.name: column for column in known}
        return [
            replace(c, target_type=have[c.name].target_type) for c in columns if c.name in have
        ], False

    @property
    def is_taken_over(self) -> bool:
        """Whether the table had stopped and is to go on."""
        row = self.call.control.execute(
            "SELECT state = 'stopped' FROM ingestion.captures WHERE source = %s AND table_name = "
            "%s",
            (self.source.name, self.table.name),
        ).fetchone()
        return bool(row and row[0])

    def _move(self, columns: Sequence[Column], last: LastLoad | None) -> Moved:
        """Account for what the log brought since the last load, and read what it could not tell.

        Raises `SourceLost` if rows have to be read, and the reader's position is not exactly
        theirs.
        """
        if self.is_full and not self._is_exact:
            raise SourceLost(
                f"{self.asset}: its columns changed without a trace in the log, and transactions "
                "were being committed all the time, so its rows could not be read at one position. "
                f"Run `softcart load {self.source.name}.{self.table.name} --full`."
            )
        if self.is_full:
            columns = self._full(columns)
            self.found = self.counts
            # All that the lake has is of another type. It gets the columns that the source has
            # dropped as well: raw keeps their values.
            if self.is_retyped:
                self.restate()
        elif self.call.request.released:
            columns = self._released(columns)
        connection, key = self.raw.connection, (self.source.name, self.table.name)
        row = connection.execute(
            "SELECT rows_inserted, rows_updated, rows_deleted, consistent_at"
            " FROM ingestion.captures WHERE source = %s AND table_name = %s FOR UPDATE",
            key,
        ).fetchone()
        assert row
        inserted, updated, deleted, consistent_at = row
        quarantined = count_changed(connection, *key)
        self.counts += Counts(inserted, updated, deleted)
        # The log's operations tell how many rows raw has, unless some are in quarantine, or were
        # copied later than the log is read from.
        self.must_count |= bool(
            self.is_full
            or quarantined
            or self.quarantine.open_entries()
            or last is None
            or Position.parse(last.position) < Position.parse(consistent_at)
        )
        self.rows_read += inserted + updated + deleted
        self.closed += quarantined
        connection.execute(
            "UPDATE ingestion.captures SET rows_inserted = 0, rows_updated = 0, rows_deleted = 0 "
            "WHERE source = %s AND table_name = %s",
            key,
        )
        if self.is_full or self.call.request.released:
            self._restate()
        if self.is_full:
            names = {column.name for column in columns}
            dropped = [column.name for column in self.raw.columns() if column.name not in names]
            connection.execute(
                "UPDATE ingestion.captures SET state = 'live', reason = NULL, stale_since = NULL, "
                "position = %s, consistent_at = %s,"
                " lake_position = %s, dropped = %s WHERE source = %s AND table_name = %s",
                (self.position, self.position, self.position, dropped, *key),
            )
        return columns, None, "cdc"

    @property
    def _is_exact(self) -> bool:
        return not isinstance(self.reader, MySQLReader) or self.reader.is_exact

    def _is_to_be_asked(
        self, known: Statement, columns: Sequence[Column], doubts: Sequence[str]
    ) -> bool:
        """See `TableLoad`."""
        is_due = super()._is_to_be_asked(known, columns, doubts)
        if is_due and not self._is_exact:
            self.warnings.append(
                "the source was not asked for its checksums: the position of an answer is not "
                "known, as transactions were being committed all the time, or nobody can see them "
                "(`softcart doctor` tells). The next load tries again"
            )
        return is_due and self._is_exact

    def _known(self, known: Statement, *, is_changed: bool) -> Statement:
        """See `TableLoad`. Every flush has added what the log told."""
        if self.found and known.rows is not None and not self.is_taken_over:
            # Otherwise the repair would hide that changes were missed.
            self.warnings.append(
                f"rows differed from the source, though all that its log told was applied. The "
                f"repair inserted {self.found.inserted}, updated {self.found.updated} and deleted "
                f"{self.found.deleted}"
            )
        if self.is_full or self.call.request.released:
            # Rows may have changed without a trace in the log, and raw has them now.
            return known.lost("rows were read from the source again, and it was not asked")
        return known

    def _restate(self) -> None:
        """Have the other sinks take raw's new state, in this load's transaction."""
        for sink in self.sinks:
            sink.restate(self.raw.connection, self.table.name)

    def _released(self, columns: Sequence[Column]) -> Sequence[Column]:
        """Read the rows of quarantine entries that are to be tried again."""
        rows = self.raw.connection.execute(
            "SELECT key FROM ingestion.quarantine WHERE source = %s AND table_name = %s AND "
            "closed_at IS NULL AND id = ANY(%s)",
            (self.source.name, self.table.name, list(self.call.request.released)),
        ).fetchall()
        # Without a key, a single row cannot be found at the source.
        if any(key is None for (key,) in rows):
            return self._full(columns)
        if rows:
            assert isinstance(self.reader, KeyedReader)
            _, batches = self.reader.rows_of(self.table, columns, [tuple(key) for (key,) in rows])
            self._take_changes(columns, batches)
        return columns
