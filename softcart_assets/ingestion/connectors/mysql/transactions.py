"""Puts the events of a binary log in order: transactions, single statements, and positions.

A transaction may count otherwise than it was logged: XA, or rolled back in part. The owner of this
object reads it again.
"""

from __future__ import annotations

import re
import struct
import uuid
from collections.abc import Callable, Collection, Iterable, Iterator
from typing import Any, Protocol

from softcart_assets.ingestion.connectors.mysql import ddl, events
from softcart_assets.ingestion.connectors.mysql.definitions import Definitions
from softcart_assets.ingestion.connectors.mysql.dump import Dump, Raw, inflated
from softcart_assets.ingestion.connectors.mysql.events import (
    Commit,
    Event,
    Idle,
    Rollback,
    Rows,
    Statement,
    TableMap,
    Unreadable,
)
from softcart_assets.ingestion.connectors.mysql.group import (
    PREPARED_XA,
    STANDALONE,
    Group,
    extra_flags,
    is_in,
    xid_of,
)
from softcart_assets.ingestion.connectors.mysql.gtid import Gtid, tagged_gtid
from softcart_assets.ingestion.connectors.mysql.refusals import Refusals, partial
from softcart_assets.ingestion.connectors.mysql.statements import read_statement
from softcart_assets.ingestion.position import Position

_U16, _U32, _U64 = struct.Struct("<H"), struct.Struct("<I"), struct.Struct("<Q")
_MARIADB_GTID_BODY = struct.Struct("<QIB")
_ALTER_STARTED, _ALTER_ROLLED_BACK = 2, 8
"""Its further flags: MariaDB logs a long ALTER TABLE when it starts and again when it ends."""
_CONTROL = re.compile(
    r"(BEGIN|COMMIT|ROLLBACK(?! TO)|SAVEPOINT|ROLLBACK TO|RELEASE SAVEPOINT|XA "
    r"(START|BEGIN|END|COMMIT|ROLLBACK))\b(?!\s*NOT)",
    re.I,
)
"""Statements that the server logs around rows."""
_UNKNOWN: Any = object()
"""Stands for a table whose definition the log has not told."""


class Rereader(Protocol):
    """Reads transactions of the same server once more."""

    def again(self, start: Position, void: Collection[range] = ()) -> Iterator[Event]:
        """Yield the events of the transaction that starts at a position.

        The rows events numbered in `void` are left out.
        """

    def prepared_rows(self, xid: str, now: Position) -> Iterator[Event]:
        """Yield the rows of an XA transaction that is committed at `now`."""


class Transactions:
    """The events of a connection's log from `at` on, up to `end`.

    `prepared`: where the XA transactions begin that are prepared and not decided yet.
    """

    def __init__(
        self,
        dump: Dump,
        definitions: Definitions,
        refuse: Refusals,
        at: Position,
        end: Position | None,
        rereader: Rereader,
        *,
        is_file_known: bool,
    ) -> None:
        self._dump, self._definitions, self._refuse = dump, definitions, refuse
        # The parts of a position, as most events only move the offset.
        self._file, self._offset = at[:3], at.offset
        self._end, self._rereader = end, rereader
        self._is_file_known = is_file_known
        self.prepared: dict[str, Position] = {}
        self._servers: dict[bytes, str] = {}

    def _move(self, offset: int) -> bool:
        """Note an end position. The log has only its lower half.

        Returns whether it is the wanted end, or behind it.
        """
        # An end of 0 is no position: the server makes such events itself at each file's beginning.
        # A tool that took it for one deleted everything (dbtrail#1117).
        if offset:
            # Files longer than 4 GiB: the upper half goes on from where reading is.
            offset |= self._offset >> 32 << 32
            if self._offset - offset > 1 << 31:
                offset += 1 << 32
            self._offset = offset
        return self._end is not None and self._is_file_known and self._at >= self._end

    @property
    def _at(self) -> Position:
        """The position at which reading is."""
        return Position(*self._file, self._offset)

    def _start(self, group: Group) -> Position:
        """Return where a group starts, on this server: whoever reads it again reads it there."""
        _, name, number = self._file  # a group lies in one file
        return Position(0, name, number, group.start)

    def read(self, *, only_group: bool = False, void: Collection[range] = ()) -> Iterator[Event]:
        """Yield the events.

        `only_group`: only those of the first transaction, even if it is only prepared. `void`:
        numbers of its rows events that are left out.
        """
        group = Group(is_only=only_group, void=void)
        tables, handlers = group.tables, self._handlers()
        # The wanted end may be where reading begins: then the server is not even waited for.
        # Ending here exactly matters: a reader that ran past its end gave the next one rows twice
        # (pipelinewise-tap-mysql#57).
        if self._move(0) and not only_group:
            return
        for event in self._dump.events():
            if event is None:
                if not group.is_open and self._is_file_known and not only_group:
                    yield Idle(self._at, group.caught_up and not self._dump.is_silent)
                continue
            kind, when, ended, _, data, start, stop = event
            group.number += 1
            # Rows and their tables are nearly all of a log: they come first, and without a detour.
            if kind in events.ROWS:
                table = tables.get(data[start : start + 6], _UNKNOWN)
                if table is not None and not group.is_skipped:
                    rows = self._rows(group, table, event)
                    if rows:
                        yield rows
                continue
            if kind == events.TABLE_MAP:
                self._note_table(tables, data[start : start + 6], data[start + 8 : stop])
                continue
            group.ends = group.is_past = False
            yield from handlers.get(kind, self._on_unknown)(group, event)
            if group.ends and only_group:
                return
            if not group.ends:
                if group.is_past:
                    yield Idle(self._at, True)
            else:
                if group.rolled_back:
                    yield from self._again_without(group)
                yield self._commit(group, when, ended)
            if group.is_past:
                return

    def _note_table(
        self,
        tables: dict[bytes, TableMap | Unreadable | None],
        table_id: bytes,
        definition: bytes,
    ) -> None:
        try:
            tables[table_id] = self._definitions.known[definition]
        except KeyError:
            tables[table_id] = self._definitions.add(definition)

    def _again_without(self, group: Group) -> Iterator[Event]:
        """Read a transaction again, without the part that was rolled back."""
        yield Rollback()
        yield from self._rereader.again(self._start(group), group.rolled_back)
        group.rolled_back = []
        group.savepoints.clear()

    def _commit(self, group: Group, when: int, ended: int) -> Commit:
        group.is_open = group.is_explicit = group.is_skipped = False
        group.is_past = self._move(ended)
        return Commit(self._at, group.gtid, group.committed_at or when * 1_000_000)

    def _rows(self, group: Group, table: Any, event: Raw) -> Rows | Unreadable | None:
        """Handle a rows event of a wanted table."""
        kind, _, _, _, data, start, stop = event
        if table is _UNKNOWN:
            self._refuse.unknown_table(data[start : start + 6])
            return None
        if type(table) is Unreadable:
            return table
        start += 8 if kind in events.FIRST_VERSION else 8 + _U16.unpack_from(data, start + 8)[0]
        operation = events.ROWS[kind]
        beginning = data[start : start + table.beginnings[operation]]
        # Checked once for each form of an event: a partial image would be decoded into wrong
        # columns.
        if beginning not in table.whole and (found := partial(table, beginning, self._at)):
            return found
        if group.void and is_in(group.number, group.void):
            return None
        return Rows(table, operation, data[start:stop])

    def _on_compressed_rows(self, group: Group, event: Raw) -> Iterable[Event]:
        """Handle a rows event that MariaDB has compressed behind its beginning."""
        kind, _, _, _, data, start, stop = event
        table = group.tables.get(data[start : start + 6], _UNKNOWN)
        if table is _UNKNOWN:
            self._refuse.unknown_table(data[start : start + 6])
            return ()
        if table is None or group.is_skipped or is_in(group.number, group.void):
            return ()
        if isinstance(table, Unreadable):
            return (table,)
        start += 8 if kind in events.FIRST_VERSION else 8 + _U16.unpack_from(data, start + 8)[0]
        operation = events.ROWS_COMPRESSED[kind]
        behind = start + table.beginnings[operation]
        if found := partial(table, data[start:behind], self._at):
            return (found,)
        return (Rows(table, operation, data[start:behind] + inflated(data[behind:stop])),)

    def _on_nothing(self, group: Group, event: Raw) -> Iterable[Event]:
        """Handle an event that changes nothing.

        When reading starts in the middle of a file, its description is repeated. That moves
        nothing.
        """
        kind, _, ended, *_ = event
        if not group.is_open and (kind != events.FORMAT or self._offset == 4):
            group.is_past = self._move(ended)
        return ()

    def _on_unknown(self, group: Group, event: Raw) -> Iterable[Event]:
        kind, _, _, _, data, start, _ = event
        table = group.tables.get(data[start : start + 6])
        found = self._refuse.event(kind, data, start, table, self._at)
        return (found,) if found and not group.is_skipped else ()

    def _handlers(self) -> dict[int, Callable[[Group, Raw], Iterable[Event]]]:
        """Return the handlers of the types of events.

        Each returns events. In the group it notes whether the transaction or the wanted part ends.
        """
        return {
            **dict.fromkeys(events.ROWS_COMPRESSED, self._on_compressed_rows),
            **dict.fromkeys(events.WITHOUT_CHANGES, self._on_nothing),
            events.XID: self._on_xid,
            events.MARIADB_GTID: self._on_mariadb_gtid,
            events.GTID: self._on_gtid,
            events.ANONYMOUS_GTID: self._on_gtid,
            events.TAGGED_GTID: self._on_tagged_gtid,
            events.QUERY: self._on_statement,
            events.QUERY_COMPRESSED: self._on_statement,
            events.EXECUTE_LOAD: self._on_statement,
            events.XA_PREPARE: self._on_prepare,
            events.ROTATE: self._on_rotate,
            events.HEARTBEAT: self._on_heartbeat,
            events.HEARTBEAT_V2: self._on_heartbeat,
        }

    def _on_xid(self, group: Group, event: Raw) -> Iterable[Event]:
        group.ends = True
        return ()

    def _begin(self, group: Group, event: Raw) -> None:
        """Note the start of a transaction or of a single statement."""
        _, _, ended, size, *_ = event
        group.is_open = True
        group.is_explicit = group.is_skipped = group.caught_up = False
        group.alter_state = group.number = group.committed_at = 0
        group.gtid = None
        group.start = (self._offset >> 32 << 32 | ended) - size

    def _on_mariadb_gtid(self, group: Group, event: Raw) -> Iterable[Event]:
        _, _, _, _, data, start, stop = event
        self._begin(group, event)
        sequence, domain, flags = _MARIADB_GTID_BODY.unpack_from(data, start)
        group.gtid = Gtid(f"{domain}-{_U32.unpack_from(data, start - 14)[0]}", sequence)
        group.is_explicit = not flags & STANDALONE
        # Rows of a prepared XA transaction do not count before its commit, which may never come.
        group.is_skipped = bool(flags & PREPARED_XA) and not group.is_only
        if flags & STANDALONE:
            group.alter_state = extra_flags(data[start:stop], flags)
        return ()

    def _on_tagged_gtid(self, group: Group, event: Raw) -> Iterable[Event]:
        _, _, _, _, data, start, stop = event
        self._begin(group, event)
        group.gtid, group.committed_at = tagged_gtid(data[start:stop])
        return ()

    def _on_gtid(self, group: Group, event: Raw) -> Iterable[Event]:
        kind, _, _, _, data, start, stop = event
        self._begin(group, event)
        if kind == events.GTID:
            source = data[start + 1 : start + 17]
            name = self._servers.get(source) or self._servers.setdefault(
                source, str(uuid.UUID(bytes=source))
            )
            group.gtid = Gtid(name, _U64.unpack_from(data, start + 17)[0])
        # MySQL before 8.0.1 logs no commit time in microseconds. Then the event's seconds have to
        # do.
        if stop - start >= 49 and data[start + 25] == 2:
            committed_at = int.from_bytes(data[start + 42 : start + 49], "little")
            if committed_at >> 55:  # the time of the server that committed it first follows
                committed_at = int.from_bytes(data[start + 49 : start + 56], "little")
            group.committed_at = committed_at
        return ()

    def _on_statement(self, group: Group, event: Raw) -> Iterable[Event]:
        kind, _, _, _, data, start, stop = event
        logged = read_statement(kind, data[start:stop], self._definitions.charsets)
        database, sql, _ = logged
        control = _CONTROL.match(sql)
        if control:
            word = " ".join(control[0].upper().split())
            return self._on_control(group, word, sql[control.end() :].strip().lower())
        found: Iterable[Event] = ()
        if kind == events.EXECUTE_LOAD or ddl.changes_rows(sql, database):
            refused = self._refuse.statement(logged, self._at)
            # What counts later, or only in part, is read again.
            found = (refused,) if refused and not group.is_skipped else ()
        # The start of a long ALTER TABLE changes nothing yet, and it may still fail.
        elif not group.alter_state & (_ALTER_STARTED | _ALTER_ROLLED_BACK):
            self._definitions.forget_forms()
            found = (Statement(database, sql),)
        if not group.is_explicit:
            # MySQL logs CREATE TABLE ... SELECT as a transaction.
            group.is_explicit = sql.endswith(" START TRANSACTION")
            group.ends = not group.is_explicit
        return found

    def _on_control(self, group: Group, word: str, rest: str) -> Iterable[Event]:
        """Handle a statement that the server logs around rows. `rest`: the text behind it."""
        found: Iterable[Event] = ()
        match word:
            case "BEGIN":
                group.is_explicit = True
            case "COMMIT":
                group.ends = True
            case "ROLLBACK":
                found = () if group.is_only else (Rollback(),)
                group.rolled_back.clear()
                group.ends = True
            case "SAVEPOINT":
                group.savepoints[rest] = group.number
            case "ROLLBACK TO":
                since = group.savepoints.get(rest.removeprefix("savepoint "), 0) + 1
                group.rolled_back.append(range(since, group.number))
                group.is_skipped = not group.is_only
            case "XA START" | "XA BEGIN":
                group.is_explicit, group.is_skipped = True, not group.is_only
            case "XA COMMIT":
                found = self._rereader.prepared_rows(rest, self._start(group))
                group.ends = True
            case "XA ROLLBACK":
                self.prepared.pop(rest, None)
                group.ends = True
        return found

    def _on_prepare(self, group: Group, event: Raw) -> Iterable[Event]:
        _, _, _, _, data, start, stop = event
        is_one_phase, xid = xid_of(data[start:stop])
        group.ends = True
        if group.is_only:
            return ()
        # Its rows were skipped as those of any XA transaction. In one phase it is committed here.
        if is_one_phase:
            return self._rereader.again(self._start(group))
        self.prepared[xid] = self._start(group)
        return ()

    def _on_rotate(self, group: Group, event: Raw) -> Iterable[Event]:
        _, _, _, _, data, start, stop = event
        file, offset = data[start + 8 : stop].decode(), _U64.unpack_from(data, start)[0]
        # Sent at the start, too: then it tells the file of a server that was asked by GTIDs.
        at = Position.parse(f"{file}:{offset}").in_epoch(self._file[0])
        self._file, self._offset = at[:3], at.offset
        self._is_file_known = True
        group.is_past = self._move(0)
        return ()

    def _on_heartbeat(self, group: Group, event: Raw) -> Iterable[Event]:
        if not group.is_open:
            group.is_past, group.caught_up = self._move(event[2]), True
            if not group.is_past and not group.is_only:
                return (Idle(self._at, True),)
        return ()
