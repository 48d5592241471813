"""Turns the log's events into pieces of changes that can be applied. It decodes, gathers and cuts
at the ends of transactions.

One thread reads and decodes here, while another one applies the pieces.
"""

from __future__ import annotations

import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial

from softcart_assets.ingestion.changes import Changes, Run
from softcart_assets.ingestion.codec.logrows import RowsDecoder
from softcart_assets.ingestion.connectors.mysql import ddl, jsonb
from softcart_assets.ingestion.connectors.mysql.ddl import TableChange
from softcart_assets.ingestion.connectors.mysql.events import (
    Commit,
    Idle,
    Rollback,
    Rows,
    Statement,
    TableMap,
    Unreadable,
)
from softcart_assets.ingestion.connectors.mysql.gtid import GtidSet
from softcart_assets.ingestion.connectors.mysql.log import BinaryLog
from softcart_assets.ingestion.connectors.mysql.schema import (
    ENDS_OF_CURRENT_ROWS,
    columns_of,
)
from softcart_assets.ingestion.position import NOWHERE, Place, Position
from softcart_assets.ingestion.types import Column

_PIECE_BYTES = 32 << 20
"""Bytes of changes that are gathered into a piece. Up to two more pieces wait or are being
applied.
"""
_PIECE_ROWS = 100_000
_REPORT_SECONDS = 1.0
"""The place is reported so often though nothing changes."""


@dataclass
class Piece:
    """Changes in the log's order, by table.

    `place`: the place after these changes, at the end of a transaction. None if a transaction goes
    on in the next piece. `committed_at`: commit time of the last transaction. `definitions`: what
    statements do to tables at `place`, after the changes. `caught_up`: the log held nothing more.
    `is_void`: earlier pieces of the open transaction were rolled back.
    """

    changes: list[Changes]
    place: Place | None
    committed_at: int | None = None
    definitions: list[TableChange] = field(default_factory=list)
    caught_up: bool = False
    is_void: bool = False
    is_pending: bool = False
    """Whether `Status.pending` has a time for this piece."""
    complete_at: float | None = None
    """What was committed at the source until then has been read by the end of this piece."""


@dataclass
class Question:
    """Work for the applying thread, to be done after all pieces before it.

    The reading thread waits for the answer.
    """

    ask: Callable[[], Sequence[Column] | None]
    answer: Future[Sequence[Column] | None] = field(default_factory=Future)


class Stopped(Exception):
    """The applying thread does not want any more pieces."""


@dataclass
class _Decoding:
    """Changes of one table with one definition.

    `row_end`: tells current rows from those of the past, see `TableMap`. None: all are current.
    """

    table: str
    columns: Sequence[Column]
    row_end: Column | None
    decoder: RowsDecoder
    is_provisional: bool
    names: Sequence[str]
    """Those of `columns` that the log has."""
    runs: list[Run] = field(default_factory=list)
    open: int = 0
    told: int = 0
    """Rows before changes that `runs` count."""
    is_partly_void: bool = False

    def end_run(
        self,
        position: Position | None,
        committed_at: int | None,
        began: Position | None = None,
    ) -> None:
        """Close the run of the changes since the last one. See `Run`."""
        before = self.decoder.before
        self.runs.append(Run(self.open, position, committed_at, before - self.told, began))
        self.open, self.told = 0, before


class Reading:
    """A thread that reads a log into pieces.

    `columns_for` returns the columns to decode a table's rows in (None: skip the table). The
    applying thread calls it when a definition is met for the first time. It calls `refuse` for a
    table with changes past a position that the log does not tell. `ahead`: tables that are further
    than the log, their positions, and the columns to use up to there without asking. `keys`: the
    followed tables with their keys. `pending`: gets the time of the oldest change of each piece.
    Who commits the piece takes it out.
    """

    def __init__(
        self,
        log: BinaryLog,
        place: Place,
        columns_for: Callable[[TableMap], Sequence[Column] | None],
        refuse: Callable[[Unreadable, str, Position], None],
        ahead: Mapping[str, tuple[Position, Sequence[Column]]],
        keys: Mapping[str, Sequence[str]],
        interval: float,
        pending: deque[float],
    ) -> None:
        self.log = log
        self._pending = pending
        # What was read and not committed is read again.
        pending.clear()
        self._is_dated = False
        # One waits while another is applied: more would only take memory.
        self.pieces: queue.Queue[Piece | Question | BaseException | None] = queue.Queue(1)
        self.is_applying = False
        self._position = place.position
        self._gtids = GtidSet(place.gtid or "")
        # What was gathered since the last piece.
        self._touched: list[_Decoding] = []
        self._rows = self._size = 0
        self._committed_at: int | None = None
        self._complete_at: float | None = None
        self._definitions: list[TableChange] = []
        self._is_partly_out = False
        """Whether the last piece ended within a transaction."""
        self._last_out = 0.0
        self._columns_for, self._ahead, self._interval = columns_for, dict(ahead), interval
        self._refuse, self._keys = refuse, keys
        self._refused: set[str] = set()
        self._decodings: dict[TableMap, _Decoding | None] = {}
        self._is_stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="softcart log reader", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread and wait for it. What it has not handed over is dropped."""
        self._is_stopped.set()
        self.log.close()
        # It may be blocked on a full queue, or wait for an answer that will not come.
        while self._thread.is_alive():
            with suppress(queue.Empty):
                item = self.pieces.get(timeout=0.05)
                if isinstance(item, Question):
                    item.answer.cancel()
        self._thread.join()

    def taken(self) -> Iterator[Piece | None]:
        """Yield the pieces as they come, and None whenever nothing has come for a moment.

        Answers questions in between. Raises what the thread has failed with.
        """
        while True:
            self.is_applying = False
            # The piece before is large, and must not stay in memory while nothing comes.
            item: Piece | Question | BaseException | None = None
            try:
                # With a timeout, so that the caller can do what is due even if the log is silent.
                item = self.pieces.get(timeout=0.2)
            except queue.Empty:
                self.is_applying = True
                yield None
                continue
            self.is_applying = True
            match item:
                case None:
                    return
                case Question():
                    try:
                        item.answer.set_result(item.ask())
                    except BaseException as error:
                        item.answer.set_exception(error)
                        raise
                    yield None
                case BaseException():
                    raise item
                case _:
                    yield item

    def _run(self) -> None:
        try:
            self._read()
            self._put(None)
        except Stopped:
            pass
        except BaseException as error:  # whatever it is, the applying thread raises it
            with suppress(Stopped):
                self._put(error)

    # With a timeout: `stop` could come while the queue is full, and nobody would ever take an item.
    def _put(self, item: Piece | Question | BaseException | None) -> None:
        while True:
            if self._is_stopped.is_set():
                raise Stopped
            try:
                self.pieces.put(item, timeout=0.2)
                return
            except queue.Full:
                continue

    def _read(self) -> None:
        for event in self.log:
            # Rows are nearly all of a log, so they are asked for first.
            if type(event) is Rows:
                self._on_rows(event)
            elif type(event) is Commit:
                self._on_commit(event)
            elif type(event) is Idle:
                self._on_idle(event)
            elif type(event) is Statement:
                self._definitions += self._touching(event)
            elif type(event) is Unreadable:
                self._on_unreadable(event)
            elif type(event) is Rollback:
                self._on_rollback()
        # The log has ended at the wanted position. The last piece says so, even if it is empty.
        self._hand_over(whole=True, caught_up=True)

    def _on_rows(self, event: Rows) -> None:
        try:
            # By identity: the log repeats a definition before every statement, and the reader gives
            # the same object for it. flink-cdc lost its definitions in a restart within a
            # transaction (apache/flink-cdc#2217). Here reading always starts at a transaction's
            # beginning.
            decoding = self._decodings[event.table_map]
        except KeyError:
            decoding = self._decodings[event.table_map] = self._decoding(event.table_map)
        if decoding is None:  # of a table that has stopped
            return
        count = decoding.decoder.decode(event.body, event.kind)
        if not decoding.open and count:
            self._touched.append(decoding)
        if count and not self._rows:
            # Its commit time comes with its commit, which may be far behind in a large transaction.
            self._pending.append(time.time())
            self._is_dated = False
        decoding.open += count
        self._rows += count
        self._size += len(event.body)
        if self._size >= _PIECE_BYTES or self._rows >= _PIECE_ROWS:
            # Large transactions are brought over in parts, what came before them together with the
            # first.
            self._hand_over(whole=False)

    def _on_commit(self, event: Commit) -> None:
        self._position, self._committed_at = event.position, event.committed_at
        # The source's clock may be ahead, and a session may set its own time. What was read is not
        # younger than now.
        self._complete_at = min(event.committed_at / 1_000_000, time.time())
        # Also for transactions that nobody wants: a new server is asked for all that is not in this
        # set.
        if event.gtid is not None:
            self._gtids.add(event.gtid)
        for decoding in self._touched:
            decoding.end_run(event.position, event.committed_at)
        self._touched = []
        if self._rows and not self._is_dated and event.committed_at:
            # The oldest transaction of the piece is the first one.
            self._pending[-1] = min(self._pending[-1], event.committed_at / 1_000_000)
            self._is_dated = True
        if self._ahead:
            self._catch_up()
        is_due = (
            self._definitions  # they are done before the rows that follow them
            or self._is_partly_out
            or self._rows >= _PIECE_ROWS // 2
            or self._size >= _PIECE_BYTES // 2
        )
        # Also without rows of ours: otherwise a source that is busy with other tables would look
        # like one that nobody reads.
        interval = self._interval if self._rows else _REPORT_SECONDS
        if is_due or (time.monotonic() - self._last_out >= interval and self._is_awaited()):
            self._hand_over(whole=True)

    def _on_idle(self, event: Idle) -> None:
        self._position = event.position
        if self._ahead:
            self._catch_up()
        is_due = self._rows or time.monotonic() - self._last_out >= _REPORT_SECONDS
        if is_due and self._is_awaited():
            # At the end of a bounded run, the log goes on: nobody has seen its end there.
            if event.caught_up:
                self._complete_at = time.time()
            self._hand_over(whole=True, caught_up=event.caught_up)

    def _on_unreadable(self, event: Unreadable) -> None:
        for name in event.tables:
            if name in self._refused:
                continue
            self._stage(name)
            self._ask(partial(self._refuse, event, name, self._position))
            if name in self._ahead and self._position < self._ahead[name][0]:
                continue  # asked again when the log is past its copy
            self._refused.add(name)
            for table_map in self._decodings:
                if table_map.table == name:
                    self._decodings[table_map] = None

    def _on_rollback(self) -> None:
        if self._is_partly_out:
            # The first part of the transaction has been staged: the sinks have to forget it.
            self._put(Piece([], None, is_void=True))
            self._is_partly_out = False
        for decoding in self._touched:
            # Decoded rows cannot be taken back one by one. They are left out when all are taken.
            decoding.end_run(NOWHERE, None)
            decoding.is_partly_void = True
        self._touched, self._definitions = [], []

    def _hand_over(self, *, whole: bool, caught_up: bool = False) -> None:
        """Hand over what was gathered. `whole`: no transaction is open."""
        decodings = self._decodings
        taken = [self._take(d) for d in decodings.values() if d is not None and len(d.decoder)]
        changes = [each for each in taken if len(each)]
        place = Place(self._position, str(self._gtids) or None, self.log.server) if whole else None
        # A definition is applied once its transaction is committed: `CREATE OR REPLACE … SELECT` is
        # one transaction with its rows.
        definitions = self._definitions if whole else []
        piece = Piece(changes, place, self._committed_at, definitions, caught_up)
        self._put(replace(piece, is_pending=bool(self._rows), complete_at=self._complete_at))
        # What comes next may look as a table did before, while raw has followed a definition in
        # between.
        names = {name for change in definitions for name in (change.table, *(change.new or ())[1:])}
        for table_map in [each for each in decodings if each.table in names or "" in names]:
            del decodings[table_map]
        self._rows = self._size = 0
        # What these have of the open transaction is out. Their next rows touch them anew.
        self._touched = []
        self._definitions = [] if whole else self._definitions
        self._is_partly_out = not whole
        self._last_out = time.monotonic()

    def _touching(self, statement: Statement) -> list[TableChange]:
        """Return what a statement does to the followed tables, by their names here."""
        wanted, found = self.log.wanted, []
        for change in ddl.classify(statement.sql, statement.database):
            is_all = not change.table and wanted.is_here(change.database)
            table = "" if is_all else wanted.name(change.database, change.table)
            new = wanted.name(*change.new) if change.new else None
            if table is not None or new is not None:
                other = f"`{change.table}`"  # no table here is called so
                found.append(
                    replace(
                        change,
                        # As the settings spell it: the statement may do so otherwise.
                        database=change.database if table is None else wanted.database,
                        table=other if table is None else table,
                        new=(wanted.database, new) if new else None,
                    )
                )
        return found

    def _is_awaited(self) -> bool:
        # Otherwise gathering goes on: fewer and larger flushes cost less for each row.
        return not self.is_applying and self.pieces.empty()

    def _take(self, decoding: _Decoding) -> Changes:
        if decoding.open:
            decoding.end_run(None, None, began=self._position)
        batch, operations, rejected = decoding.decoder.take()
        before = decoding.decoder.take_before().select(decoding.names)
        runs, decoding.runs, decoding.told = decoding.runs, [], 0
        changes = Changes(
            decoding.table, decoding.columns, batch, operations, rejected, runs, before
        )
        if decoding.row_end:
            changes = changes.of_current_rows(
                decoding.row_end,
                ENDS_OF_CURRENT_ROWS,
                decoding.columns,
                self._keys[decoding.table],
            )
        if changes.rejected:
            changes = changes.with_deletions(self._keys[decoding.table])
        if decoding.is_partly_void:
            decoding.is_partly_void = False
            return changes.where(lambda run: run.position != NOWHERE)
        return changes

    def _decoding(self, table_map: TableMap) -> _Decoding | None:
        """Make a decoder for a new definition."""
        name = table_map.table
        ahead = self._ahead.get(name)
        columns: Sequence[Column] | None
        is_provisional = bool(ahead and self._position < ahead[0])
        if ahead and is_provisional:
            # Raw has been copied later than this place, perhaps with other columns. An old
            # definition must not change it back.
            columns = ahead[1]
        else:
            # Rows decoded with the old columns go first: the answer to the question may alter raw.
            self._stage(name)
            columns = self._ask(lambda: self._columns_for(table_map))
        if columns is None:
            return None
        indexes = {column.name: index for index, column in enumerate(table_map.columns)}
        key = [indexes[column] for column in self._keys[name] if column in indexes]
        decoded, row_end = list(columns), None
        if table_map.row_end is not None:
            at = indexes[table_map.row_end]
            [row_end] = columns_of([table_map.columns[at]], name)
            decoded = [c for c in decoded if c.name != row_end.name] + [row_end]
            # So the end of a row becomes a deletion, which an update of this column really is.
            key += [at] if key else []
        decoder = RowsDecoder(table_map.columns, key, decoded, jsonb.to_text)
        names = [column.name for column in decoded if column.name in indexes]
        return _Decoding(name, columns, row_end, decoder, is_provisional, names)

    def _stage(self, table: str) -> None:
        """Hand over the decoded rows of a table, if there are any, with all that was gathered."""
        if any(
            d is not None and d.table == table and len(d.decoder) for d in self._decodings.values()
        ):
            self._hand_over(whole=False)

    def _ask(self, ask: Callable[[], Sequence[Column] | None]) -> Sequence[Column] | None:
        """Have the applying thread answer a question, after all that was handed over."""
        question = Question(ask)
        self._put(question)
        return question.answer.result()

    def _catch_up(self) -> None:
        """Hand over when the log has reached the position of tables that were further. Their rows
        count from there on.

        Their decoders are dropped, because the next rows may have another definition.
        """
        reached = [name for name, (until, _) in self._ahead.items() if self._position >= until]
        if not reached:
            return
        self._hand_over(whole=True)
        for name in reached:
            del self._ahead[name]
            for table_map, decoding in list(self._decodings.items()):
                if decoding and decoding.table == name and decoding.is_provisional:
                    del self._decodings[table_map]
