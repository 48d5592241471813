"""Reconciliation: shows row by row whether raw equals its source, and which rows and columns
differ.

Both sides are compared at one position, by digests where the source has them (`narrowing`). Then
only the rows that differ travel to the staging warehouse, which says exactly what differs. A repair
merges just these rows, as a load would. This module brings both sides to one position, and decides
what a difference means.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from datetime import timedelta

import psycopg

from softcart_assets.ingestion import bookkeeping
from softcart_assets.ingestion.bookkeeping import LastLoad
from softcart_assets.ingestion.capture.bounded import CapturedLoad, epoch_of, follow_to
from softcart_assets.ingestion.capture.follower import Follower
from softcart_assets.ingestion.capture.holding import hold
from softcart_assets.ingestion.capture.job import Job
from softcart_assets.ingestion.connectors import connector
from softcart_assets.ingestion.engine.tables import load_of, lock, own_name
from softcart_assets.ingestion.errors import MissingTable, SchemaChanged, TableBehind
from softcart_assets.ingestion.position import Position
from softcart_assets.ingestion.proof import statements
from softcart_assets.ingestion.proof.orphans import orphans
from softcart_assets.ingestion.proof.repair import CapturedRepair, Repair
from softcart_assets.ingestion.proof.result import Reconciliation
from softcart_assets.ingestion.proof.rows import RowComparison
from softcart_assets.ingestion.proof.statements import Statement
from softcart_assets.ingestion.proof.verify import compare
from softcart_assets.ingestion.quarantine import Recorder
from softcart_assets.ingestion.readers import ChecksumReader, Reader, SqlReader
from softcart_assets.ingestion.request import Call, LoadRequest, LoadResult
from softcart_assets.ingestion.sinks.failures import cause, explain
from softcart_assets.ingestion.sinks.raw import RawTable
from softcart_assets.ingestion.workers import WorkerPool
from softcart_assets.lines.model import Source, Table


def reconcile(
    request: LoadRequest, table: str, *, repair: bool = False, may_load: bool = True
) -> Reconciliation:
    """Compare a raw table with its source. `repair` then brings just the rows that differ into raw.

    A captured table is brought to the position of a snapshot. For this a stream pauses a moment,
    or for a full load if the table is stale. The comparison runs there, while the stream goes on.
    Any other table is held as by a load. If it changed since it was loaded, it is loaded first, in
    the usual way, and compared at the load's position. A table without a key is repaired by a full
    load. So is one whose source has no digests, because all its rows are read anyway. With
    `may_load` false, nothing is loaded: `TableBehind` is raised if that were needed. `on_progress`
    of the request gets the table's rows compared so far. Raises what `load` raises for one table.
    """
    source, declared = request.source, request.source.table(table)
    kind = connector(source.kind)
    # Loads that a comparison makes are full only if it says so, and progress is that of comparing.
    plain = replace(request, full=False, ask_after=timedelta(0), released=(), on_progress=None)
    with _explained(source, declared), ExitStack() as stack:
        control = stack.enter_context(
            request.staging.connect(autocommit=True, application_name=own_name("reconcile"))
        )
        bookkeeping.prepare(control, source.schema)

        def call(readers: Sequence[Reader]) -> Call:
            return Call(plain, control, stack.enter_context(WorkerPool(readers)), str(uuid.uuid4()))

        if kind.has_log and declared.strategy == "cdc":
            if not may_load:
                _refuse_behind(request, control, declared)
            return _reconcile_captured(
                request, declared, control, call, repair=repair, may_load=may_load
            )
        # As a load does, so that none changes raw during the comparison.
        lock(control, source, declared, request.tell)
        readers = stack.enter_context(kind.readers(source, request.connection, 2))
        work = _Reconciler(call(readers), request, declared)
        return work.call.pool.submit(
            lambda reader: work.run(reader, repair=repair, may_load=may_load)
        ).result()


@contextmanager
def _explained(source: Source, table: Table) -> Iterator[None]:
    try:
        yield
    except psycopg.Error as error:
        raise explain(error, f"{source.schema}/{table.name}", table.key) from cause(error)


def _reconcile_captured(
    request: LoadRequest,
    table: Table,
    control: psycopg.Connection,
    call: Callable[[Sequence[Reader]], Call],
    *,
    repair: bool,
    may_load: bool,
) -> Reconciliation:
    """Compare at a position to which the log is applied exactly.

    Both sides are seen as they were there. The log goes on meanwhile.
    """
    started = time.monotonic()
    source = request.source
    loaded = None
    job = Job.of(request)
    with ExitStack() as views:
        # Two stacks: the source is given up as soon as both sides are in view, so that a stream can
        # go on. The views stay open for the comparison.
        with ExitStack() as held:
            follower, readers = _caught_up(job, table, held, views)
            captured = follower.captured.tables[table.name]
            if captured.stopped:
                raise SchemaChanged(captured.stopped)
            # Found by the torture (seed 559932): a renewal of the whole source skips what the log
            # told, and had died before it read all tables again. Rows of such a table do differ,
            # but only until its next load.
            if captured.stale_since:
                if not may_load:
                    raise _behind(source, table)
                load = CapturedLoad(call(readers), table, follower.sinks, is_full=True)
                loaded = load.call.pool.submit(load.run).result()
            # Opened while the source is still held, so that raw is seen at exactly the readers'
            # position.
            view = views.enter_context(job.staging.connect(application_name=own_name("reconcile")))
            raw = RawTable(view, source, table)
            _see_one_moment(view, raw)
        comparison = RowComparison(source, table, request.on_progress)
        found = comparison.compare(readers[0], raw)
        if asked := _asked(readers[0], comparison, raw):
            _state(control, source, table, asked, statements.read(view, source.name, table.name))
        orphaned = orphans(control, job.lake_uri, source, table)
        doubts = readers[0].warnings(table)
        found = replace(found, warnings=[*comparison.warnings, *doubts, *orphaned])
    if repair and found.differences:
        # At a position of its own: whatever changed meanwhile is left alone, as it no longer
        # differs.
        with ExitStack() as held:
            follower, readers = _caught_up(job, table, held, held)
            mend = (
                CapturedRepair(
                    call(readers), table, follower.sinks, comparison.fetch, comparison.extra
                )
                if table.key
                else CapturedLoad(call(readers), table, follower.sinks, is_full=True)
            )
            found = replace(found, repair=mend.call.pool.submit(mend.run).result())
    return replace(found, load=loaded, seconds=time.monotonic() - started)


def _caught_up(
    job: Job, table: Table, held: ExitStack, views: ExitStack
) -> tuple[Follower, Sequence[Reader]]:
    """Hold a source as long as `held` lasts, with its log applied exactly up to the readers'
    position.

    `views` closes the readers.
    """
    control = held.enter_context(
        job.staging.connect(autocommit=True, application_name=own_name("reconcile"))
    )
    key = (job.source.name, table.name)
    if not control.execute(
        "SELECT 1 FROM ingestion.captures WHERE source = %s AND table_name = %s", key
    ).fetchone():
        raise _never_loaded(job.source, table)
    follower = Follower(job, held.enter_context(hold(job)), control)
    kind = connector(job.source.kind)
    readers = views.enter_context(kind.readers(job.source, job.connection, 2, epoch_of(follower)))
    follower = follow_to(follower, Position.parse(readers[0].position(table)))
    follower.finish()
    return follower, readers


def _refuse_behind(request: LoadRequest, control: psycopg.Connection, table: Table) -> None:
    """Raise `TableBehind` if the log has changes of captured tables that are not applied."""
    source = request.source
    row = control.execute(
        "SELECT position FROM ingestion.streams WHERE source = %s", (source.name,)
    ).fetchone()
    captured = tuple(each for each in source.tables if each.strategy == "cdc")
    since = {each.name: row[0] for each in captured} if row else {}
    kind, only = connector(source.kind), replace(source, tables=captured)
    if kind.changed_tables(only, request.connection, since).tables:
        raise _behind(source, table)


def _behind(source: Source, table: Table) -> TableBehind:
    return TableBehind(
        f"{source.schema}/{table.name} was not compared: its source has changes that are not "
        "loaded. Run "
        f"`softcart reconcile {source.name}.{table.name}`, which loads them first."
    )


def _never_loaded(source: Source, table: Table) -> MissingTable:
    return MissingTable(
        f"{source.schema}/{table.name} was never loaded, so there is nothing to compare. Run "
        "`softcart load "
        f"{source.name}.{table.name}` first."
    )


def _see_one_moment(connection: psycopg.Connection, raw: RawTable) -> None:
    """Have a new connection see a raw table as it is now, and keep the table from being altered.

    An altered table would not show its old rows.
    """
    connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
    connection.execute("SET LOCAL work_mem = '64MB'; SET LOCAL jit = off")
    connection.execute(f"LOCK TABLE {raw.name} IN ACCESS SHARE MODE".encode())
    # In REPEATABLE READ the first query fixes what is seen. LOCK TABLE does not count as one.
    raw.is_empty()


def _asked(reader: Reader, comparison: RowComparison, raw: RawTable) -> Statement | None:
    """Have the source state the table as well, so that `equals_source` knows what this finds."""
    if not isinstance(reader, ChecksumReader):
        return None
    table, position = comparison.table, reader.position(comparison.table)
    recorder = Recorder(raw.connection, comparison.source.name, table.name, "", position)
    answer = statements.ask(reader, table, comparison.columns, recorder)
    return Statement.answered(answer, comparison.columns, position, raw.now())


def _state(
    control: psycopg.Connection, source: Source, table: Table, asked: Statement, then: Statement
) -> None:
    """Write an answer that was given where `then` was written, though the log went on meanwhile."""
    with control.transaction():
        known = statements.read_some(control, source.name, [table.name], to_change=True)
        now = asked.moved(then, known[table.name]) if table.name in known else None
        if now:
            statements.write(control, source.name, {table.name: now})


class _Reconciler:
    """What surrounds the comparison of a table that loads bring to a position."""

    def __init__(self, call: Call, request: LoadRequest, table: Table) -> None:
        self.call, self.request, self.table = call, request, table
        self.source = request.source

    def run(self, reader: Reader, *, repair: bool, may_load: bool) -> Reconciliation:
        """Bring the table to the reader's position if necessary, compare it, and perhaps repair
        it.
        """
        started = time.monotonic()
        last = bookkeeping.last_load(self.call.control, self.source.name, self.table.name)
        if last is None:
            raise _never_loaded(self.source, self.table)
        before_load = loaded = None
        if self._is_behind(last):
            if not may_load:
                raise _behind(self.source, self.table)
            # The load may mend what was wrong before. Then nobody would learn that raw had been
            # wrong.
            before_load = self._wrong_already()
            loaded = load_of(self.call, self.table).run(reader)
        comparison = RowComparison(self.source, self.table, self.request.on_progress)
        name = f"softcart reconcile {comparison.asset}"
        with self.request.staging.connect(application_name=name) as view:
            raw = RawTable(view, self.source, self.table)
            _see_one_moment(view, raw)
            found = comparison.compare(reader, raw)
            if not loaded and (asked := _asked(reader, comparison, raw)):
                # Held like by a load, so raw stands where it was loaded.
                statements.write(self.call.control, self.source.name, {self.table.name: asked})
        if repair and found.differences:
            found = replace(found, repair=self._repair(reader, comparison))
        orphaned = orphans(self.call.control, self.request.lake_uri, self.source, self.table)
        return replace(
            found,
            before_load=before_load,
            load=loaded,
            seconds=time.monotonic() - started,
            warnings=[*comparison.warnings, *reader.warnings(self.table), *orphaned],
        )

    def _repair(self, reader: Reader, comparison: RowComparison) -> LoadResult:
        # The call's own id may belong to the load before the comparison. An id stands for one load.
        again = replace(self.call, load_id=str(uuid.uuid4()))
        if isinstance(reader, SqlReader) and self.table.key:
            repair = Repair(again, self.table, comparison.fetch, comparison.extra)
            return repair.run(reader)
        whole = replace(again, request=replace(again.request, full=True))
        return load_of(whole, self.table).run(reader)

    def _is_behind(self, last: LastLoad) -> bool:
        """Return whether the table changed at the source since it was loaded.

        This is asked after the reader's snapshot was opened. A change before that is in neither or
        in both.
        """
        only, since = replace(self.source, tables=(self.table,)), {self.table.name: last.position}
        kind = connector(self.source.kind)
        return bool(kind.changed_tables(only, self.request.connection, since).tables)

    def _wrong_already(self) -> str | None:
        """Return how raw differs from the source's statement at the last load. None if it does
        not.
        """
        found = compare(self.source, self.request.staging, self.table.name)
        return str(found) if found.is_stated and not found.is_equal else None
