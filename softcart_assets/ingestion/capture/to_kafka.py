"""The loop that writes a source's changes to Kafka: it reads the log from where the topics are.

The topics have their own position, in the same transaction as the messages. So nothing is lost or
doubled, whatever is killed. Raw has another position and its own process: neither waits for the
other.

What the log does not tell row by row is told by a new snapshot of the table, at an exact position
of the log: new tables, other tables that take the name of one, values that a statement has changed.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace

from softcart_assets.connections import KafkaConnection, MySQLConnection, ServerUnreachable
from softcart_assets.ingestion.capture.holding import Finished
from softcart_assets.ingestion.capture.job import Status
from softcart_assets.ingestion.capture.reading import Piece, Reading
from softcart_assets.ingestion.capture.servers import epoch_of_state
from softcart_assets.ingestion.capture.stream import ended_by_signals
from softcart_assets.ingestion.connectors.mysql.ddl import TableChange
from softcart_assets.ingestion.connectors.mysql.events import TableMap, Unreadable
from softcart_assets.ingestion.connectors.mysql.gtid import GtidSet
from softcart_assets.ingestion.connectors.mysql.log import BinaryLog
from softcart_assets.ingestion.connectors.mysql.reader import MySQLReader, snapshot
from softcart_assets.ingestion.connectors.mysql.schema import columns_of
from softcart_assets.ingestion.connectors.mysql.session import Session, explained
from softcart_assets.ingestion.connectors.mysql.state import ServerState, check_log, current_state
from softcart_assets.ingestion.errors import (
    IngestionError,
    MissingGrant,
    MissingTable,
    PositionPurged,
    SchemaChanged,
    SourceLost,
    TargetFailed,
    UnsupportedColumn,
)
from softcart_assets.ingestion.position import Place, Position
from softcart_assets.ingestion.sinks.kafka import waiting
from softcart_assets.ingestion.sinks.kafka.form import LETTERS, Form, Origin
from softcart_assets.ingestion.sinks.kafka.topics import Stored, Topics
from softcart_assets.ingestion.types import Batch, Column, Rejected
from softcart_assets.lines.model import Source, Table

_FLUSH_SECONDS = 0.1
_TICK_SECONDS = 1.0
_BACKOFF_SECONDS = 0.5, 30.0
_ROWS_A_COMMIT = 50_000
_LEFT_OUT = (MissingTable, UnsupportedColumn, SchemaChanged, MissingGrant)
"""What keeps one table out, while the others go on."""


def to_kafka(
    source: Source,
    connection: MySQLConnection,
    kafka: KafkaConnection,
    *,
    partitions: int = -1,
    status: Status | None = None,
    stopped: threading.Event | None = None,
    on_report: Callable[[Status], None] | None = None,
    once: bool = False,
    anew: bool = False,
) -> None:
    """Write the changes of a source's captured tables to Kafka until SIGTERM, Ctrl-C or `stopped`.

    Each table begins with a snapshot. Broken connections are made anew, except with `once`, which
    ends at the log's present end, and raises `IngestionError` if a table was left out. `anew`:
    begin with snapshots again. `partitions`: of a new topic (-1: as many as the broker says).
    `on_report` is called about once a second. Raises `TableBusy` if another process writes the same
    topics now, and `PositionPurged` if the log cannot be continued.
    """
    stopped = stopped or threading.Event()
    status = status or Status(source.name)
    shortest, longest = _BACKOFF_SECONDS
    delay, writer = shortest, None
    with ended_by_signals(stopped):
        while not stopped.is_set():
            try:
                topics = Topics(kafka, source, partitions=partitions)
                writer = _Writer(topics, source, connection, status, stopped, on_report)
                writer.begin(anew=anew)
                anew = False
                writer.run(once=once)
            except Finished:
                return
            except PositionPurged as error:
                raise PositionPurged(
                    f"{error} That is for raw. For Kafka, start `softcart stream {source.name} "
                    "--to kafka --anew`, which takes new snapshots."
                ) from None
            except (SourceLost, TargetFailed, ServerUnreachable) as error:
                if once:
                    raise
                # After a good connection the first retry is quick.
                delay = shortest if writer and writer.is_well else min(delay * 2, longest)
                writer = None
                status.problem = " ".join(str(error).split())
                status.reconnects += 1
                if on_report:
                    on_report(status)
                stopped.wait(delay)
            else:
                if once and writer.left_out:
                    raise IngestionError("\n".join(writer.left_out.values()))
                if once:
                    return


class _Writer:
    """Writes one source over its connections. It cannot be used after an error."""

    def __init__(
        self,
        topics: Topics,
        source: Source,
        connection: MySQLConnection,
        status: Status,
        stopped: threading.Event,
        on_report: Callable[[Status], None] | None,
    ) -> None:
        self.topics, self.source, self.connection = topics, source, connection
        self.status, self.stopped, self.on_report = status, stopped, on_report
        self.tables = {table.name: table for table in source.tables if table.strategy == "cdc"}
        self.left_out: dict[str, str] = {}
        """Tables that do not go on, with the reason. The next start tries them again."""
        self.stale: set[str] = set()
        """Tables with rows that the log does not tell."""
        self._forms: dict[str, Form] = {}
        self._waiting: list[waiting.Waiting] = []
        self._last: dict[str, tuple[Position, int]] = {}
        """The number of the last row of each table in its transaction."""
        self.is_well = False
        """Whether these connections have held for a while."""
        self._are_tables_new = False
        self._pending = 0
        self._rows: list[tuple[float, int]] = []

    def begin(self, *, anew: bool) -> None:
        """Find where the topics are. Tables without a topic get a snapshot."""
        stored = None if anew else self.topics.stored()
        names = [table.at_source for table in self.tables.values()]
        missing, is_new = self.topics.missing(names), stored is None
        with self._session() as session:
            check_log(session, self.source.name)
            state = current_state(session)
        if stored is None:
            place = Place(state.position, str(state.gtids) or None, state.server)
            stored = Stored(place, {}, [])
        # A log that ends before would look like one with nothing new.
        epoch_of_state(self.source, state, stored.place)
        known = {
            name: columns
            for name, columns in stored.tables.items()
            if name in self.tables and self.tables[name].at_source not in missing
        }
        self.place, self.known = stored.place, known
        self.stale = {*stored.stale} & {*known}
        if is_new or known != stored.tables:
            # First of all. After a kill, a topic that has been made looks like one with all rows,
            # and nobody knows that new snapshots were wanted.
            self._are_tables_new = True
            with self.topics.transaction():
                self._state_place()
            self._are_tables_new = False
        self.topics.make(names)

    def run(self, *, once: bool) -> None:
        """Run until stopped. `once`: until the log's present end."""
        while not self.stopped.is_set():
            new = [
                table
                for name, table in self.tables.items()
                if name not in self.left_out and (name not in self.known or name in self.stale)
            ]
            if new:
                self._copy(new)
            self._report()
            end = self._state().position if once else None
            self._follow(end)
            self._report()
            if once and not self.stale:
                return

    # Snapshots.

    def _copy(self, tables: Sequence[Table]) -> None:
        """Take a snapshot of tables, at a position to which the topics are brought first."""
        with self._readers() as reader:
            at = Position.parse(reader.position(tables[0]))
            if at > self.place.position:
                self._follow(at, is_for_copy=True)
            self.place = replace(self.place, position=max(at, self.place.position))
            for table in tables:
                # Until its snapshot is whole. After a kill, no changes may come behind a part.
                before = self.known.pop(table.name, [])
                self._are_tables_new = True
                self.stale.discard(table.name)
                # Whatever kept it out before this position is settled.
                self.left_out.pop(table.name, None)
                try:
                    self._copy_rows(table, reader.columns(table, ()), reader, before)
                except _LEFT_OUT as error:
                    reader.reset()
                    self._leave_out(table.name, str(error))

    @contextmanager
    def _readers(self) -> Iterator[MySQLReader]:
        """Open a reader whose position is exactly that of its rows."""
        for may_lock in (False, True):
            epoch = self._epoch()
            with snapshot(self.source, self.connection, 1, epoch, may_lock=may_lock) as readers:
                if readers[0].is_exact:
                    yield readers[0]
                    return
        raise SourceLost(
            f"Source {self.source.name!r}: transactions were being committed all the time, so its "
            "rows could not be read at one position."
        )

    def _copy_rows(
        self, table: Table, columns: Sequence[Column], reader: MySQLReader, before: list[str]
    ) -> None:
        """Write all rows. `before`: the columns that the topic had until now."""
        form = self._form(table.name, columns)
        moment = int(time.time() * 1_000_000)
        # Behind the changes of the transaction that ends here, which are in the rows already.
        end = self.place.position
        position, first = end._replace(offset=end.offset + 1), True
        batches = _with_last(reader.batches(table, columns))
        rows, is_last = next(batches, (None, True))
        while True:
            with self.topics.transaction():
                sent = 0
                while rows is not None and sent < _ROWS_A_COMMIT:
                    self._send_unfit(table, [("r", row) for row in rows.rejected])
                    count = len(rows.rows)
                    marks = ["true"] * count
                    if first and count:
                        marks[0], first = "first", False
                    if is_last and count:
                        marks[-1] = "last"
                    origins = [Origin(position, 0, moment, mark) for mark in marks]
                    sent += self.topics.send(table.at_source, form.copied(rows.rows, origins))
                    rows, is_last = next(batches, (None, True))
                self.status.rows += sent
                if rows is None:
                    if first and self.topics.has_messages(table.at_source):
                        # All rows are gone, and no row says so.
                        message = form.emptied(Origin(position, 0, moment))
                        self.topics.send(table.at_source, [message])
                    self.known[table.name] = before
                    self._note_columns(table.name, columns)
                self._state_place()
            if rows is None:
                self._are_tables_new = False
                return
            if self.stopped.is_set():
                raise Finished

    # The log.

    def _follow(self, end: Position | None, *, is_for_copy: bool = False) -> None:
        """Write what the log tells, up to a position, or until a table needs a snapshot."""
        start = self.place
        with BinaryLog(
            self.source.name,
            self.connection,
            {name: table.at_source for name, table in self.tables.items()},
            start.position,
            server=start.server,
            gtids=GtidSet(start.gtid) if start.gtid else None,
            end=end,
        ) as log:
            reading = Reading(
                log,
                start,
                self._columns_for,
                self._refuse,
                {},
                {name: table.key for name, table in self.tables.items()},
                _FLUSH_SECONDS,
                self.status.pending,
            )
            self._pending = 0
            reading.start()
            try:
                self._apply(reading, is_for_copy=is_for_copy)
            finally:
                # The thread would go on reading over a connection that nobody needs.
                reading.stop()
                for each in self._waiting:
                    each.forget()
                self._waiting.clear()

    def _apply(self, reading: Reading, *, is_for_copy: bool) -> None:
        ticked, is_between = time.monotonic(), True
        for piece in reading.taken():
            self.status.heard_at = time.monotonic()
            if piece is not None:
                self._flush(piece)
                is_between = piece.place is not None
            if not is_between:
                continue
            if self.stale and not is_for_copy:
                return
            if time.monotonic() - ticked >= _TICK_SECONDS:
                ticked = time.monotonic()
                self.status.problem, self.is_well = None, True
                self._report()
                if self.stopped.is_set():
                    raise Finished

    def _columns_for(self, definition: TableMap) -> Sequence[Column] | None:
        """Return the columns in which to decode a table's rows. None: they are not wanted."""
        name = definition.table
        if name not in self.known or name in self.left_out:
            return None
        table, asset = self.tables[name], self._asset(name)
        try:
            columns = columns_of(definition.shown, asset)
        except UnsupportedColumn as error:
            self._leave_out(name, str(error))
            return None
        names = {column.name for column in columns}
        if missing := [each for each in table.key if each not in names]:
            self._leave_out(name, f"{asset}: no column {', '.join(missing)}, which is its key")
            return None
        self._note_columns(name, columns)
        return columns

    def _refuse(self, unreadable: Unreadable, name: str, position: Position) -> None:
        """Leave out a table with changes that the log does not tell."""
        if name in self.known:
            self._leave_out(name, f"{self._asset(name)}: {unreadable.what} {unreadable.remedy}")

    def _leave_out(self, name: str, reason: str) -> None:
        self.left_out[name] = (
            f"{reason} The table is not written to Kafka any more. The next start of `softcart "
            f"stream {self.source.name} --to kafka` begins it with a new snapshot."
        )
        self.stale.discard(name)
        if self.known.pop(name, None) is not None:
            self._are_tables_new = True

    def _note_columns(self, name: str, columns: Sequence[Column]) -> None:
        known = self.known[name]
        if new := [column.name for column in columns if column.name not in known]:
            self.known[name] = [*known, *new]
            self._are_tables_new = True

    def _flush(self, piece: Piece) -> None:
        """Write what a piece completes, in one transaction."""
        started = time.monotonic()
        if piece.is_void:
            for each in self._waiting:
                if each.is_open:
                    each.forget()
            self._waiting = [each for each in self._waiting if not each.is_open]
            return
        self._pending += piece.is_pending
        if piece.place is None:
            for changes in piece.changes:
                for half in (changes.committed(), changes.uncommitted()):
                    if len(half):
                        self._waiting.append(waiting.Waiting(waiting.piece_of(half), half.is_open))
            return
        has_moved, self.place, sent = piece.place != self.place, piece.place, 0
        if has_moved or self._waiting or piece.changes:
            with self.topics.transaction():
                for whole in self._waiting:
                    for part in whole.read(piece.place, piece.committed_at):
                        sent += self._send(part)
                for changes in piece.changes:
                    sent += self._send(waiting.piece_of(changes))
                for change in piece.definitions:
                    sent += self._define(change, piece)
                self._state_place()
            self._are_tables_new = False
        self._waiting.clear()
        self._account(piece, sent, started)

    def _send(self, piece: waiting.Piece) -> int:
        """Send the changes of one table."""
        table, origins = self.tables[piece.table], []
        for run in piece.runs:
            assert run.position
            before, last = self._last.get(table.name, (None, -1))
            first = last + 1 if before == run.position else 0
            moment = run.committed_at or 0
            origins += [Origin(run.position, first + n, moment) for n in range(run.changes)]
            self._last[table.name] = run.position, first + run.changes - 1
        rejected = [(LETTERS[operation], row) for operation, row in piece.rejected]
        self._send_unfit(table, rejected)
        form = self._form(table.name, piece.columns)
        messages = form.changes(piece.rows, piece.operations, origins)
        return self.topics.send(table.at_source, messages)

    def _send_unfit(self, table: Table, rows: Sequence[tuple[str, Rejected]]) -> None:
        for operation, row in rows:
            told = {"key": row.key, "column": row.column, "reason": row.reason, "row": row.row}
            self.topics.send_unfit(table.at_source, operation, told)

    def _define(self, change: TableChange, piece: Piece) -> int:
        """Tell what a statement did to the tables. Returns the number of messages."""
        sent, database = 0, self.connection.database
        assert piece.place
        for name, table in self.tables.items():
            is_it = change.database == database and change.table in (name, "")
            becomes_it = change.new == (database, name)
            if not (is_it or becomes_it):
                continue
            if name not in self.known:
                if becomes_it or change.kind == "create":
                    self.left_out.pop(name, None)
                    self.stale.add(name)
            elif is_it and change.kind == "truncate":
                origin = Origin(piece.place.position, 0, piece.committed_at or 0)
                # Before the first row, nobody has asked for the columns. The message has none.
                form = self._forms.get(name) or self._form(name, ())
                sent += self.topics.send(table.at_source, [form.emptied(origin)])
            elif (
                becomes_it
                or change.kind in ("drop", "rename", "rewrite")
                or change.changes_values
                or not set(self.known[name]).isdisjoint(change.added)
            ):
                self.stale.add(name)
                self._are_tables_new = True
        return sent

    def _form(self, name: str, columns: Sequence[Column]) -> Form:
        """Return how rows of a table with some columns become messages."""
        form = self._forms.get(name)
        if form is None or list(form.columns) != list(columns):
            table = self.tables[name]
            form = self._forms[name] = Form(
                self.topics.topic(table.at_source),
                self.topics.logical,
                self.source.name,
                table.at_source,
                columns,
                table.key if columns else (),
            )
        return form

    def _state_place(self) -> None:
        stored = Stored(self.place, self.known, sorted(self.stale))
        self.topics.state(stored, with_tables=self._are_tables_new)

    def _account(self, piece: Piece, rows: int, started: float) -> None:
        """Update the figures after a flush."""
        status, now = self.status, time.monotonic()
        status.rows += rows
        status.flushes += bool(rows)
        status.flush_seconds = now - started
        for _ in range(self._pending):
            status.pending.popleft()
        self._pending = 0
        self._rows = [(at, count) for at, count in self._rows if now - at < 10] + [(now, rows)]
        span = now - self._rows[0][0]
        status.rows_per_second = sum(count for _, count in self._rows) / max(span, 1.0)
        if piece.caught_up:
            status.complete_at = time.time() - status.flush_seconds
        elif piece.complete_at:
            status.complete_at = max(status.complete_at, piece.complete_at)

    def _report(self) -> None:
        status = self.status
        status.position = str(self.place.position)
        status.tables = dict.fromkeys(self.known, ("live", None)) | {
            name: ("stopped", reason) for name, reason in self.left_out.items()
        }
        if self.on_report:
            self.on_report(status)

    def _asset(self, name: str) -> str:
        return f"{self.topics.start}.{name}"

    @contextmanager
    def _session(self) -> Iterator[Session]:
        with (
            explained(self.connection, f"database `{self.connection.database}`"),
            closing(Session(self.connection)) as session,
        ):
            yield session

    def _state(self) -> ServerState:
        with self._session() as session:
            return current_state(session)

    def _epoch(self) -> int:
        """Return the epoch of the server that answers now, see `Position`."""
        return epoch_of_state(self.source, self._state(), self.place)


def _with_last(batches: Iterator[Batch]) -> Iterator[tuple[Batch, bool]]:
    """Yield batches, each with whether no row follows."""
    held: list[Batch] = []
    for batch in batches:
        if len(batch.rows):
            yield from ((each, False) for each in held)
            held = []
        held.append(batch)
    yield from ((each, True) for each in held)
