"""The loop that follows a source's log: it reads, hands changes to the sinks, and commits.

This module decides when something is done: when a flush is due, when lake files are listed, what
happens after a server was replaced. Sinks apply changes to a target. `reading` and `log` read the
log.

Everything continues from what is committed. After any failure, the loop drops what it has in hand,
connects anew and reads on from the committed place. Rows and place commit together, so nothing is
lost or doubled.
"""

from __future__ import annotations

import time
from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence

import psycopg

from softcart_assets.ingestion.capture.definitions import Definitions
from softcart_assets.ingestion.capture.job import FLUSH_BUCKETS, Job
from softcart_assets.ingestion.capture.reading import Piece, Reading
from softcart_assets.ingestion.captured import Captured, CapturedTable, TableFailed
from softcart_assets.ingestion.changes import Changes
from softcart_assets.ingestion.connectors.mysql.events import TableMap, Unreadable
from softcart_assets.ingestion.connectors.mysql.gtid import GtidSet
from softcart_assets.ingestion.connectors.mysql.log import BinaryLog
from softcart_assets.ingestion.position import Position
from softcart_assets.ingestion.proof.followed import StatementSink
from softcart_assets.ingestion.sinks import Sink
from softcart_assets.ingestion.sinks.changelog import ChangeLog
from softcart_assets.ingestion.sinks.merge import RawSink, counts_of, table_failures
from softcart_assets.ingestion.sinks.ods.sink import Totals
from softcart_assets.ingestion.sinks.raw import Counts
from softcart_assets.ingestion.types import Column

_FLUSH_SECONDS = 0.1
_LIST_SECONDS = 60.0
_LIST_BYTES = 256 << 20
_TICK_SECONDS = 1.0


class Follower:
    """Applies a source's log over one connection that holds the source, from the committed place
    on.

    It cannot be used after an error. `control` commits each statement by itself.
    """

    def __init__(
        self, job: Job, connection: psycopg.Connection, control: psycopg.Connection
    ) -> None:
        self.job, self.connection, self.control = job, connection, control
        self.captured = Captured(job.source, connection)
        self.raw = RawSink(self.captured, connection, job.source)
        self.lake = ChangeLog(control, job.source, job.lake_uri)
        # Before any file is written: what lies unlisted now is of a process that was killed.
        self.lake.remove_orphans()
        self.sinks: list[Sink] = [
            self.raw,
            StatementSink(connection, self.captured),
            self.lake,
            # After raw, whose rows of before and after a flush it reads.
            Totals(connection, self.captured),
        ]
        self.definitions = Definitions(self.captured, self.raw, self.sinks, job.connection)
        self.take_up()
        self._listed = time.monotonic()
        self._rows: list[tuple[float, int]] = []
        self._staged: dict[str, Counts] = {}
        self._pending = 0
        """The number of pieces in the open transaction."""
        self.report()

    def take_up(self, *, anew: bool = False) -> None:
        """Take up new tables, or all of them (`anew`), and continue from what is committed of raw
        or the lake.

        The lake lists its files more rarely than raw commits, so the log may have to be read again
        for it. At this moment, the lake has no unlisted files.
        """
        captured = self.captured
        if anew:
            # Loads have changed columns and states of tables over connections of their own.
            captured.tables.clear()
        for table in captured.read():
            for sink in self.sinks:
                sink.begin(table)
        self.connection.commit()
        self.place = min(
            filter(None, (captured.place, captured.lake_place)), key=lambda place: place.position
        )

    def follow(
        self, end: Position | None = None, on_tick: Callable[[], bool] | None = None
    ) -> None:
        """Apply the log up to a position, or until `on_tick` says to stop.

        `on_tick` is called about once a second, between flushes.
        """
        job, captured = self.job, self.captured
        start = self.place
        gtids = GtidSet(start.gtid) if start.gtid else None
        live = captured.live
        with BinaryLog(
            job.source.name,
            job.connection,
            {table.name: table.table.at_source for table in live},
            start.position,
            server=start.server,
            gtids=gtids,
            end=end,
        ) as log:
            assert captured.place
            if log.server != captured.place.server:
                captured.leave_server()
                if self._catch_lake_up(start.position):
                    log.close()
                    self.follow(end, on_tick)
                    return
            # These were copied later than the log is at. Their rows are read, for the lake, but raw
            # has them already, and so their definitions must not change raw again.
            ahead = {t.name: (t.position, t.columns) for t in live if t.position > start.position}
            keys = {table.name: table.table.key for table in live}
            reading = Reading(
                log,
                start,
                self._columns_for,
                self._refuse,
                ahead,
                keys,
                _FLUSH_SECONDS,
                job.status.pending,
            )
            self._pending = 0
            reading.start()
            try:
                self._apply(reading, on_tick)
            finally:
                # The thread would go on reading over a connection that nobody needs.
                reading.stop()

    def _catch_lake_up(self, start: Position) -> bool:
        """Bring the lake to where raw is, before another server's log is read. Returns whether that
        was necessary.

        The other server's log cannot repeat exactly what the lake lacks. So the lake gets raw's
        rows.
        """
        captured = self.captured
        assert captured.place
        behind = [table for table in captured.live if table.lake_position < table.position]
        if not behind and start >= captured.place.position:
            return False
        self.write_unlisted(behind)
        self.place = captured.place
        self.commit(listing=True)
        for table in behind:  # further than the stream, if that went back for a new table
            table.lake_position = table.position
        return True

    def _apply(self, reading: Reading, on_tick: Callable[[], bool] | None) -> None:
        """Apply what the reading thread hands over."""
        ticked = time.monotonic()
        is_between = True
        for piece in reading.taken():
            self.job.status.heard_at = time.monotonic()
            if piece is not None:
                self._flush(piece)
                is_between = piece.place is not None
            # Not within a transaction: whoever stops there throws away what was staged of it.
            if is_between and on_tick and time.monotonic() - ticked >= _TICK_SECONDS:
                ticked = time.monotonic()
                if on_tick():
                    return

    def _columns_for(self, table_map: TableMap) -> Sequence[Column] | None:
        table = self.captured.tables[table_map.table]
        return None if table.stopped else self.definitions.adapt(table, table_map)

    def _refuse(self, unreadable: Unreadable, name: str, position: Position) -> None:
        """Stop a table with changes past `position` that the log does not tell."""
        table = self.captured.tables[name]
        # A table that is further than the log has these changes already, from its last copy.
        if not table.stopped and position >= min(table.position, table.lake_position):
            self.definitions.refuse(table, unreadable)

    def _flush(self, piece: Piece) -> None:
        """Bring a piece to the sinks, and commit what it completes."""
        started = time.monotonic()
        if piece.is_void:
            # Only the open transaction is void. What was committed before it waits for its flush.
            for sink in self.sinks:
                sink.void()
            self._staged.clear()
            return
        self._pending += piece.is_pending
        rows = sum(map(self._take, piece.changes))
        self.job.status.rows += rows
        if piece.place is None:
            # A large transaction goes on in the next piece: nothing may be committed within it.
            return
        for sink in self.sinks:
            sink.flush(piece.place, piece.committed_at)
        self.place = piece.place
        is_told = True
        # After the flush: rows before a statement have the old columns, and raw has had them until
        # now.
        for change in piece.definitions:
            for changes in self.definitions.define(
                change, piece.place, piece.committed_at, self.job.connection.database
            ):
                self._pass_on(changes)
                is_told = False
        if not is_told:
            # These changes commit with the place too, in every sink.
            self._flush_others(piece.committed_at)
        # What the log does not tell cannot be had from it a second time.
        self.commit(piece.committed_at, listing=not is_told, complete_at=piece.complete_at)
        self._account(piece, rows, started)

    def _take(self, changes: Changes) -> int:
        """Hand changes to each sink that does not have them yet. Returns their number."""
        table = self.captured.tables[changes.table]
        if table.stopped:
            return 0
        # The log may be read again for the lake alone. A sink that has committed these changes must
        # not get them twice.
        for sink in self.sinks:
            if len(later := changes.after(sink.since(table))):
                sink.take(later)
        counts = self._staged.get(table.name, Counts()) + counts_of(changes.operations)
        self._staged[table.name] = counts
        return len(changes)

    def _pass_on(self, changes: Changes) -> None:
        """Give the other sinks the changes of raw that the log does not tell row by row."""
        for sink in self.sinks:
            if sink is not self.raw:
                sink.take(changes)

    def _flush_others(self, committed_at: int | None) -> None:
        for sink in self.sinks:
            if sink is not self.raw:
                sink.flush(self.place, committed_at)

    def _account(self, piece: Piece, rows: int, started: float) -> None:
        """Update the figures after a flush."""
        status, now = self.job.status, time.monotonic()
        status.flushes += bool(rows)
        status.flush_seconds = now - started
        if rows:
            status.flush_seconds_in_all += status.flush_seconds
            status.flush_times[FLUSH_BUCKETS[bisect_left(FLUSH_BUCKETS, status.flush_seconds)]] += 1
        for name, counts in self._staged.items():
            status.changes[name, "insert"] += counts.inserted
            status.changes[name, "update"] += counts.updated
            status.changes[name, "delete"] += counts.deleted
        self._staged.clear()
        self._rows = [(at, count) for at, count in self._rows if now - at < 10] + [(now, rows)]
        span = now - self._rows[0][0]
        status.rows_per_second = sum(count for _, count in self._rows) / max(span, 1.0)
        self.report()
        for _ in range(self._pending):
            status.pending.popleft()
        self._pending = 0
        if piece.caught_up:
            # The end of the log was seen before this flush began.
            status.complete_at = time.time() - status.flush_seconds
        elif piece.complete_at:
            status.complete_at = max(status.complete_at, piece.complete_at)

    def commit(
        self,
        committed_at: int | None = None,
        *,
        listing: bool = False,
        complete_at: float | None = None,
    ) -> None:
        """Commit the open transaction with the place that was read.

        The lake's files are listed in it if it is time for that, or if `listing` asks for it.
        `complete_at`: what was committed at the source until then is in the transaction.
        """
        # More rarely than raw commits: several commits a second would make as many small files.
        due = time.monotonic() - self._listed >= _LIST_SECONDS or self.lake.bytes >= _LIST_BYTES
        # Files with values of the old type must not be read together with those of the new one.
        if retyped := [table for table in self.captured.tables.values() if table.is_retyped]:
            self.write_unlisted(retyped)
        is_listed = listing or bool(retyped) or self.lake.is_empty or due
        if is_listed:
            self.lake.list_in(self.connection)
        lake_place = self.place if is_listed else None
        self.captured.commit(self.place, committed_at, lake_place, complete_at)
        if is_listed:
            self.lake.renew()
            self._listed = time.monotonic()

    def write_unlisted(self, tables: Iterable[CapturedTable]) -> None:
        """Write raw's rows of tables to the lake that the log will not tell again.

        The files are not listed yet.
        """
        for table in tables:
            # Raw's rows of a retyped table are those of the place that is about to be committed.
            position = self.place.position if table.is_retyped else table.position
            for changes in self.definitions.rewrites.unlisted(table, position):
                self.lake.take(changes)

    def finish(self) -> None:
        """List the lake's files, so that nothing has to be read again."""
        if not self.lake.is_empty:
            self.commit(listing=True)

    def discard(self) -> None:
        """Drop what is not committed."""
        for sink in self.sinks:
            sink.discard()

    def without(self, failed: TableFailed) -> Follower:
        """Return a follower that goes on without a table that PostgreSQL refuses.

        The table stops, with the reason. The others continue from what is committed.
        """
        # What the other tables had in hand is lost with it, and read from the log again.
        self.discard()
        self.connection.rollback()
        table = self.captured.tables[failed.table]
        self.definitions.rewrites.forget_rereads(table)
        self.captured.stop(table, failed.reason)
        self.connection.commit()
        return Follower(self.job, self.connection, self.control)

    def merge_reread(self) -> None:
        """Merge rows that were read again, once the log is past the position of that reading.

        Raises `TableFailed` if PostgreSQL refuses rows of one table.
        """
        captured, rewrites = self.captured, self.definitions.rewrites
        assert captured.place
        if self.place.position < captured.place.position:
            # The lake does not have all that raw has: what the log tells would come after it there.
            return
        for reread in rewrites.rereads():
            table = captured.tables.get(reread.table)
            if table is None or table.stopped:
                continue
            found = self.raw.staged[table.name].raw.columns(relation=reread.relation)
            names = {column.name for column in found}
            # None: the table that took this one's name has columns that the contract forbids.
            fitting = self.definitions.fit_or_stop(table, found)
            if fitting is None:
                self.connection.commit()
                continue
            columns = [column for column in fitting if column.name in names]
            with table_failures(table):
                for changes in rewrites.merge_reread(table, reread, columns):
                    self._pass_on(changes)
            self._flush_others(None)
            self.commit(listing=True)

    def report(self) -> None:
        """Update the status."""
        captured, status = self.captured, self.job.status
        status.position = str(captured.place.position) if captured.place else ""
        status.committed_at = captured.committed_at
        tables = captured.tables.values()
        status.quarantined = {t.name: t.open_entries for t in tables if t.open_entries}
        status.tables = {t.name: self._state_of(t) for t in tables}

    def _state_of(self, table: CapturedTable) -> tuple[str, str | None]:
        if table.stopped:
            return "stopped", table.stopped
        if not table.stale_since:
            return "live", None
        return self.job.status.not_read.get(table.name, ("stale", None))
