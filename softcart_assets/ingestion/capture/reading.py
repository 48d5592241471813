"""From the log's events to pieces of changes that can be applied: decoding, gathering, cutting at transactions' ends.

A thread reads and decodes here while another one applies. What applying means is not known here.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field, replace

from softcart_assets.ingestion import codec
from softcart_assets.ingestion.capture.apply import Changes, Place, Run
from softcart_assets.ingestion.connectors.mysql import ddl, jsonb
from softcart_assets.ingestion.connectors.mysql.ddl import TableChange
from softcart_assets.ingestion.connectors.mysql.log import (
    BinaryLog,
    Commit,
    GtidSet,
    Idle,
    Rollback,
    Rows,
    Statement,
    TableMap,
)
from softcart_assets.ingestion.types import Column

_PIECE_BYTES = 32 << 20
"""Memory for changes that are being gathered; up to two such pieces wait or are being applied."""
_PIECE_ROWS = 100_000
_REPORT_SECONDS = 1.0
"""The place is reported so often though nothing changes."""


@dataclass
class Piece:
    """Changes in the log's order, by table.

    `place`: up to where they lead, after whole transactions; None if one goes on in the next piece. `committed_at`: of the last of
    them. `definitions`: what statements do to tables after the changes, at `place`. `caught_up`: the log held nothing more.
    `is_void`: what earlier pieces brought of a transaction that goes on is void.
    """

    changes: list[Changes]
    place: Place | None
    committed_at: int | None = None
    definitions: list[TableChange] = field(default_factory=list)
    caught_up: bool = False
    is_void: bool = False


@dataclass
class Question:
    """Something to be done by the applying thread, after all pieces before it; the reading thread waits for the answer."""

    ask: Callable[[], Sequence[Column] | None]
    answer: Future[Sequence[Column] | None] = field(default_factory=Future)


class Stopped(Exception):
    """The applying thread wants no more."""


@dataclass
class _Decoding:
    """Changes of one table in one definition."""

    table: str
    columns: Sequence[Column]
    decoder: codec.RowsDecoder
    is_provisional: bool
    runs: list[Run] = field(default_factory=list)
    open: int = 0
    is_partly_void: bool = False


class Reading:
    """A thread that reads a log into pieces.

    `columns_for` is asked, in the applying thread, for the columns in which a table's rows are wanted (None: not at all), when
    a definition is met for the first time. `ahead`: tables that are further than the log, how far, and the columns in which rows
    come until there without asking. `keys`: the tables of `database` that are followed, with their keys. `names`: these tables by
    their names at the source.
    """

    def __init__(
        self,
        log: BinaryLog,
        place: Place,
        columns_for: Callable[[TableMap], Sequence[Column] | None],
        ahead: Mapping[str, tuple[str, Sequence[Column]]],
        database: str,
        keys: Mapping[str, Sequence[str]],
        names: Mapping[str, str],
        interval: float,
    ) -> None:
        self.log = log
        self.pieces: queue.Queue[Piece | Question | BaseException | None] = queue.Queue(1)
        self.is_applying = False
        self._place = place
        self._gtids = GtidSet(place.gtid or "")
        self._columns_for, self._ahead, self._interval = columns_for, dict(ahead), interval
        self._database, self._keys, self._names = database, keys, names
        self._decodings: dict[TableMap, _Decoding | None] = {}
        self._is_stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="softcart log reader", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End, whatever is not handed over; waits."""
        self._is_stopped.set()
        self.log.close()
        while self._thread.is_alive():
            with suppress(queue.Empty):
                item = self.pieces.get(timeout=0.05)
                if isinstance(item, Question):
                    item.answer.cancel()
        self._thread.join()

    def _run(self) -> None:
        try:
            self._read()
            self._put(None)
        except Stopped:
            pass
        except BaseException as error:  # whatever it is, the applying thread raises it
            with suppress(Stopped):
                self._put(error)

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
        now = time.monotonic
        decodings = self._decodings
        touched: list[_Decoding] = []
        rows = size = 0
        committed_at: int | None = None
        definitions: list[TableChange] = []
        is_partly_out = False
        last_out = 0.0
        position = self._place.position

        def hand_over(*, whole: bool, caught_up: bool = False) -> None:
            nonlocal rows, size, last_out, definitions, is_partly_out
            changes = [
                self._take(d) for d in decodings.values() if d is not None and len(d.decoder)
            ]
            place = Place(position, str(self._gtids) or None, self.log.server) if whole else None
            self._put(Piece(changes, place, committed_at, definitions, caught_up))
            # What comes next may look as a table did before, while raw has followed a definition in between.
            names = {
                name for change in definitions for name in (change.table, *(change.new or ())[1:])
            }
            for table_map in [each for each in decodings if each.table in names or "" in names]:
                del decodings[table_map]
            rows = size = 0
            definitions = []
            is_partly_out = not whole
            last_out = now()

        for event in self.log:
            if type(event) is Rows:
                try:
                    decoding = decodings[event.table_map]
                except KeyError:
                    decoding = self._decoding(
                        event.table_map, position, lambda: hand_over(whole=False)
                    )
                    decodings[event.table_map] = decoding
                if decoding is None:
                    continue
                count = decoding.decoder.decode(event.body, event.kind)
                if not decoding.open and count:
                    touched.append(decoding)
                decoding.open += count
                rows += count
                size += len(event.body)
                if size >= _PIECE_BYTES or rows >= _PIECE_ROWS:
                    # Large transactions are brought over in parts, what came before them together with the first.
                    hand_over(whole=False)
                    touched = []
            elif type(event) is Commit:
                position, committed_at = event.position, event.committed_at
                if event.gtid is not None:
                    self._gtids.add(event.gtid)
                for decoding in touched:
                    decoding.runs.append(Run(decoding.open, position, committed_at))
                    decoding.open = 0
                touched = []
                if self._ahead and self._has_caught_up(position):
                    hand_over(whole=True)
                    self._end_provisional(position)
                moment = now()
                if (
                    definitions
                    or is_partly_out
                    or rows >= _PIECE_ROWS // 2
                    or size >= _PIECE_BYTES // 2
                    or (rows and moment - last_out >= self._interval and self._is_awaited())
                ):
                    hand_over(whole=True)
            elif type(event) is Statement:
                definitions += self._touching(event)
            elif type(event) is Rollback:
                if is_partly_out:
                    self._put(Piece([], None, is_void=True))
                    is_partly_out = False
                for decoding in touched:
                    decoding.runs.append(Run(decoding.open, "", None))
                    decoding.open, decoding.is_partly_void = 0, True
                touched, definitions = [], []
            elif type(event) is Idle:
                position = event.position
                if self._ahead and self._has_caught_up(position):
                    hand_over(whole=True)
                    self._end_provisional(position)
                if (rows or now() - last_out >= _REPORT_SECONDS) and self._is_awaited():
                    hand_over(whole=True, caught_up=event.caught_up)
        hand_over(whole=True, caught_up=True)

    def _touching(self, statement: Statement) -> list[TableChange]:
        """What a statement does to the tables that are followed, by their names here."""
        here, names, found = self._database, {"": ""} | dict(self._names), []
        for change in ddl.classify(statement.sql, statement.database):
            table = names.get(change.table) if change.database == here else None
            new = names.get(change.new[1]) if change.new and change.new[0] == here else None
            if table is not None or new is not None:
                other = f"`{change.table}`"  # no table here is called so
                found.append(
                    replace(
                        change,
                        table=other if table is None else table,
                        new=(here, new) if new else None,
                    )
                )
        return found

    def _is_awaited(self) -> bool:
        return not self.is_applying and self.pieces.empty()

    def _take(self, decoding: _Decoding) -> Changes:
        batch, operations, rejected = decoding.decoder.take()
        runs = decoding.runs
        decoding.runs = []
        if decoding.open:
            runs.append(Run(decoding.open, None, None))
            decoding.open = 0
        changes = Changes(decoding.table, decoding.columns, batch, operations, rejected, runs)
        if rejected:
            changes = changes.with_deletions(self._keys[decoding.table])
        if decoding.is_partly_void:
            decoding.is_partly_void = False
            return changes.where(lambda run: run.position != "")
        return changes

    def _decoding(
        self, table_map: TableMap, position: str, hand_over: Callable[[], None]
    ) -> _Decoding | None:
        """A decoder for a definition that was not met before."""
        name = table_map.table
        ahead = self._ahead.get(name)
        columns: Sequence[Column] | None
        if ahead and position < ahead[0]:
            columns = ahead[1]
        else:
            question = Question(lambda: self._columns_for(table_map))
            if any(
                d is not None and d.table == name and len(d.decoder)
                for d in self._decodings.values()
            ):
                hand_over()
            self._put(question)
            columns = question.answer.result()
        if columns is None:
            return None
        indexes = {column.name: index for index, column in enumerate(table_map.columns)}
        key = [indexes[column] for column in self._keys[name] if column in indexes]
        decoder = codec.RowsDecoder(table_map.columns, key, columns, jsonb.to_text)
        return _Decoding(name, columns, decoder, bool(ahead and position < ahead[0]))

    def _has_caught_up(self, position: str) -> bool:
        """Whether the log has come to where a table is that was further."""
        return any(position >= until for until, _ in self._ahead.values())

    def _end_provisional(self, position: str) -> None:
        """Forget the decoders of tables that the log has caught up with: the next rows may be of another definition."""
        for name in [name for name, (until, _) in self._ahead.items() if position >= until]:
            del self._ahead[name]
            for table_map, decoding in list(self._decodings.items()):
                if decoding and decoding.table == name and decoding.is_provisional:
                    del self._decodings[table_map]
