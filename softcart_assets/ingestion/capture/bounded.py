"""A bounded run: the source's log applied up to exactly one position, at which the source also says what it holds.

Here belongs what comes before and after the loop in `stream`: first contact with tables, the record of the load, tables
that have to be read again because the log does not tell all.
"""

from __future__ import annotations

import os
import socket
import uuid
from collections.abc import Iterator, Sequence
from concurrent.futures import as_completed
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace

import psycopg

from softcart_assets.ingestion.bookkeeping import LastLoad
from softcart_assets.ingestion.capture.apply import TableFailed, capture
from softcart_assets.ingestion.capture.stream import Follower, Job, Status, hold, start_here
from softcart_assets.ingestion.connectors.mysql.log import current_state
from softcart_assets.ingestion.connectors.mysql.reader import snapshot
from softcart_assets.ingestion.connectors.mysql.session import Session, current_position
from softcart_assets.ingestion.crew import Crew
from softcart_assets.ingestion.engine.table import Moved, TableLoad
from softcart_assets.ingestion.engine.tables import read_tables
from softcart_assets.ingestion.errors import LoadsFailed, PositionPurged, SchemaChanged
from softcart_assets.ingestion.readers import KeyedReader, Reader
from softcart_assets.ingestion.request import Call, LoadRequest, LoadResult, Progress
from softcart_assets.ingestion.sinks.failures import explain
from softcart_assets.ingestion.sinks.raw import Counts
from softcart_assets.ingestion.types import Column
from softcart_assets.lines.model import Source, Table

_HANDS = 3


def catch_up(
    request: LoadRequest,
    tables: Sequence[Table],
    *,
    taken_over: bool = False,
    restart: bool = False,
) -> Iterator[LoadResult]:
    """Bring a source's captured tables to its present position and yield the result of each of `tables`; see `load.load`.

    The log is applied to all tables that are followed, so that they stay at one position. With `full`, every row of `tables` is
    compared, too. `taken_over`: also those that stopped, in the columns that they have now. `restart`: from the log's end now,
    whatever was not applied before; every table is compared then.
    """
    source = request.source
    job = Job(source, request.connection, request.staging, request.lake_uri, Status(source.name))
    failures: dict[str, Exception] = {}
    with ExitStack() as stack:
        stack.enter_context(_explained(source))
        holder = stack.enter_context(hold(job, is_stream=False))
        name = f"softcart load {source.name} {socket.gethostname()}:{os.getpid()}"
        control = stack.enter_context(
            job.staging.connect(autocommit=True, application_name=name[:63])
        )
        start_here(job, control)
        follower = Follower(job, holder, control)
        if restart:
            start_again(follower)
            follower = Follower(job, holder, control)
        yield from bring_up(follower, request, tables, failures, taken_over=taken_over)
    if failures:
        raise LoadsFailed(source.name, failures)


@contextmanager
def _explained(source: Source) -> Iterator[None]:
    """Say what an error of PostgreSQL's means that concerns no table alone."""
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
    """What `catch_up` does, by somebody who holds the source; what fails is added to `failures`."""
    job = follower.job
    copied = first_contact(follower, tables, failures, request.on_progress)
    with ExitStack() as stack:
        prefix = position_prefix(job, follower)
        readers = stack.enter_context(snapshot(job.source, job.connection, _HANDS, prefix))
        follower = follow_to(follower, readers[0].position(tables[0]))
        follower.merge_reread()
        if taken_over:
            follower.write_unlisted(
                table for table in follower.target.tables.values() if table.stopped
            )
        follower.finish()
        crew: Crew[Reader] = stack.enter_context(Crew(readers))
        call = Call(request, follower.control, crew, str(uuid.uuid4()))
        futures = {}
        for table in tables:
            captured = follower.target.tables.get(table.name)
            if captured is None:
                continue  # could not be copied: among the failures
            if captured.stopped and not taken_over:
                failures[table.name] = SchemaChanged(captured.stopped)
                continue
            load = CapturedLoad(
                call, table, is_full=request.full or bool(captured.stale_since or captured.stopped)
            )
            futures[crew.submit(load.run)] = table.name
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
    follower.target.read_state(anew=True)
    follower.take_up()


def position_prefix(job: Job, follower: Follower) -> str:
    """What comes before the positions of the server that answers now: nothing, or the number of servers before it."""
    place = follower.target.place
    assert place
    with closing(Session(job.connection)) as session:
        state = current_state(session)
    number = int(place.position[1:5]) if place.position.startswith("~") else 0
    is_other = state.server != place.server
    prefix = f"~{number + is_other:04d} " if number + is_other else ""
    if not is_other and prefix + state.position < place.position:
        raise PositionPurged(
            f"Source {job.source.name!r}: its binary log ends at {state.position}, before {place.position}, up to where its changes "
            "are applied: the server was set back or its log reset. Only new snapshots lead on: run "
            f"`softcart resnapshot {job.source.name}`."
        )
    return prefix


def first_contact(
    follower: Follower,
    tables: Sequence[Table],
    failures: dict[str, Exception],
    on_progress: Progress | None,
) -> dict[str, LoadResult]:
    """Copy the tables that are not followed yet; from where they were copied on, the log continues."""
    job, target = follower.job, follower.target
    new = [table for table in tables if table.name not in target.tables]
    copied = {}
    if new:
        prefix = position_prefix(job, follower)

        def follow(connection: psycopg.Connection, table: str, position: str) -> None:
            now = prefix + current_position(job.connection)
            capture(connection, job.source.name, table, position, now)

        request = LoadRequest(
            job.source,
            job.connection,
            job.staging,
            job.lake_uri,
            full=True,
            checksums=False,
            on_progress=on_progress,
        )
        results = read_tables(request, new, position_prefix=prefix, along=follow)
        try:
            for result in results:
                copied[result.table] = result
        except LoadsFailed as failed:
            failures |= failed.failures
        target.read_state()
        follower.take_up()
    return copied


def follow_to(follower: Follower, end: str) -> Follower:
    """Apply the log up to a position; a table that PostgreSQL refuses stops, the others go on. The follower after all."""
    while True:
        try:
            follower.follow(end)
            return follower
        except TableFailed as failed:
            follower = follower.without(failed)


def start_again(follower: Follower) -> None:
    """Leave what the log no longer tells: it is followed from its end now, and every table has to be read again."""
    job, place = follower.job, follower.target.place
    assert place
    with closing(Session(job.connection)) as session:
        state = current_state(session)
    number = int(place.position[1:5]) if place.position.startswith("~") else 0
    own = place.position.rpartition(" ")[2]
    # Positions go on growing, even if the server's begin anew.
    number += state.server != place.server or state.position < own
    position = f"~{number:04d} {state.position}" if number else state.position
    gtid = str(state.gtids) or None
    with follower.connection.transaction():
        follower.write_unlisted(follower.target.tables.values())
        follower.lake.list_in(follower.connection)
        follower.connection.execute(
            "UPDATE ingestion.streams SET position = %s, gtid = %s, server = %s, lake_position = %s, lake_gtid = %s, lake_server = %s"
            " WHERE source = %s",
            (position, gtid, state.server, position, gtid, state.server, job.source.name),
        )
        follower.connection.execute(
            'UPDATE ingestion.captures SET stale_since = %s, lake_position = greatest(lake_position COLLATE "C", position)'
            " WHERE source = %s",
            (position, job.source.name),
        )


class CapturedLoad(TableLoad):
    """The load of a captured table as far as it remains once the log is applied: its record, and perhaps every row by comparison."""

    def __init__(self, call: Call, table: Table, *, is_full: bool) -> None:
        super().__init__(call, table)
        self.is_full = is_full
        self.is_retyped = False

    def _prepare(self, known: Sequence[Column]) -> tuple[list[Column], bool]:
        """Raw follows the source if the contract lets it, or if somebody has said so."""
        columns = list(self.reader.columns(self.table, known))
        if self.table.contract == "evolve" or self.is_taken_over:
            columns, self.is_retyped = self.raw.evolve(columns, known)
            return columns, False
        have = {column.name: column for column in known}
        return [
            replace(c, target_type=have[c.name].target_type) for c in columns if c.name in have
        ], False

    @property
    def is_taken_over(self) -> bool:
        """Whether the table had stopped and is to go on."""
        row = self.call.control.execute(
            "SELECT state = 'stopped' FROM ingestion.captures WHERE source = %s AND table_name = %s",
            (self.source.name, self.table.name),
        ).fetchone()
        return bool(row and row[0])

    def _move(self, columns: Sequence[Column], last: LastLoad | None) -> Moved:
        """What the log brought since the last load, and what it could not tell."""
        if self.is_full:
            columns = self._full(columns)
            # All that the lake has is of another type. A table without a key is stated as a whole anyway, if it differs.
            if self.is_retyped and (self.table.key or not self.counts):
                self.raw.find_own(columns)
                for rows, deleted in self.raw.changed_rows(columns):
                    self._lake_files().write(columns, rows, deleted=deleted)
        elif self.call.request.released:
            columns = self._released(columns)
        connection, key = self.raw.connection, (self.source.name, self.table.name)
        row = connection.execute(
            "SELECT rows_inserted, rows_updated, rows_deleted, (SELECT count(*) FROM ingestion.quarantine q"
            " JOIN ingestion.positions p USING (source, table_name) WHERE (source, table_name) = (c.source, c.table_name)"
            " AND greatest(quarantined_at, closed_at) > p.loaded_at)"
            " FROM ingestion.captures c WHERE source = %s AND table_name = %s FOR UPDATE",
            key,
        ).fetchone()
        assert row
        inserted, updated, deleted, quarantined = row
        self.counts += Counts(inserted, updated, deleted)
        self.rows_read += inserted + updated + deleted
        self.closed += quarantined
        connection.execute(
            "UPDATE ingestion.captures SET rows_inserted = 0, rows_updated = 0, rows_deleted = 0 WHERE source = %s AND table_name = %s",
            key,
        )
        if self.is_full:
            names = {column.name for column in columns}
            dropped = [column.name for column in self.raw.columns() if column.name not in names]
            connection.execute(
                "UPDATE ingestion.captures SET state = 'live', reason = NULL, stale_since = NULL, position = %s, consistent_at = %s,"
                " lake_position = %s, dropped = %s WHERE source = %s AND table_name = %s",
                (self.position, self.position, self.position, dropped, *key),
            )
        return columns, None, "cdc"

    def _released(self, columns: Sequence[Column]) -> Sequence[Column]:
        """The rows of quarantine entries that are to be tried again."""
        rows = self.raw.connection.execute(
            "SELECT key FROM ingestion.quarantine WHERE source = %s AND table_name = %s AND closed_at IS NULL AND id = ANY(%s)",
            (self.source.name, self.table.name, list(self.call.request.released)),
        ).fetchall()
        if any(key is None for (key,) in rows):
            return self._full(columns)
        if rows:
            assert isinstance(self.reader, KeyedReader)
            _, batches = self.reader.rows_of(self.table, columns, [tuple(key) for (key,) in rows])
            self._take_changes(columns, batches)
        return columns
