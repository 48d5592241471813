"""Reading the binary log of MySQL and MariaDB the way a replica does: transactions, positions, definitions.

Here belongs what the replication protocol says. Values of rows stay the bytes that they are in the log; what becomes of
events is not decided here.

XA transactions count when they are committed: their rows, logged when they were prepared, are read again then, so nothing
is held in between. The same holds for transactions of which a part was rolled back to a savepoint (which only reaches
the log if they changed tables without transactions, too).
"""

from __future__ import annotations

import re
import struct
import uuid
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from typing import Any

import MySQLdb

from softcart_assets.connections import MySQLConnection, ServerUnreachable
from softcart_assets.ingestion.connectors.mysql import charsets, ddl, events
from softcart_assets.ingestion.connectors.mysql.charsets import Charset
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
)
from softcart_assets.ingestion.connectors.mysql.gtid import Gtid, GtidSet, tagged_gtid
from softcart_assets.ingestion.connectors.mysql.refusals import Refusals, refuse_partial
from softcart_assets.ingestion.connectors.mysql.session import Session
from softcart_assets.ingestion.errors import IngestionError, PositionPurged, SourceLost
from softcart_assets.ingestion.position import Position

_U16, _U32, _U64 = struct.Struct("<H"), struct.Struct("<I"), struct.Struct("<Q")
_MARIADB_GTID_BODY = struct.Struct("<QIB")
_STANDALONE, _HAS_COMMIT_ID, _PREPARED_XA, _COMPLETED_XA = 1, 2, 64, 128
"""Flags of MariaDB's GTID event."""
_ALTER_STARTED, _ALTER_ROLLED_BACK = 2, 8
"""Its further flags: MariaDB logs a long ALTER TABLE when it starts and again when it ends."""
_CONTROL = re.compile(
    r"(BEGIN|COMMIT|ROLLBACK(?! TO)|SAVEPOINT|ROLLBACK TO|RELEASE SAVEPOINT|XA (START|BEGIN|END|COMMIT|ROLLBACK))\b(?!\s*NOT)",
    re.I,
)
"""Statements that the server logs around rows."""
_STATUS_LENGTHS = {0: 5, 1: 9, 3: 5, 4: 7, 6: 0}
"""The lengths of a query event's leading status variables, the number in front included."""
_UNKNOWN: Any = object()
"""Stands for a table whose definition the log has not told."""


@dataclass(slots=True)
class _Group:
    """The transaction, or the statement of its own, that is being read.

    `is_only`: nothing but its rows is wanted, even if it is only prepared. `number`: of the event in it. `is_explicit`: it
    ends with a COMMIT. `is_skipped`: its rows count later, or never. `ends`, `is_past`: what the event at hand means, that
    the group ends with it, or that it lies behind the wanted end.
    """

    is_only: bool = False
    start: Position | None = None
    number: int = 0
    is_open: bool = False
    is_explicit: bool = False
    is_skipped: bool = False
    caught_up: bool = False
    alter_state: int = 0
    gtid: Gtid | None = None
    committed_at: int = 0
    savepoints: dict[str, int] = field(default_factory=dict)
    rolled_back: list[range] = field(default_factory=list)
    """Numbers of events that a rollback to a savepoint made void."""
    ends: bool = False
    is_past: bool = False


class BinaryLog:
    """The log of one server from a position on, as events in its order; to be iterated over once.

    `wanted`: the tables (database, name) whose rows are given; of the others not even the columns are looked at.
    `position` and `server`: where reading goes on and whose position that is (empty: the connected server's). If another
    server answers, `gtids`, what was read so far, lead on; its positions are of the next epoch.
    `end`: reading stops exactly there, before anything later. Without it, it never stops by itself.
    `names`: what a wanted table is called in the `TableMap`, if not as at the source.
    `poll`: seconds without an event until `Idle` says so.
    Attribute `server` tells who is read. Raises `SourceLost` if the connection breaks: then open a new one with the last
    committed position. Raises `PositionPurged` if the server no longer has what follows.
    """

    def __init__(
        self,
        source: str,
        connection: MySQLConnection,
        wanted: Collection[tuple[str, str]],
        position: Position,
        *,
        server: str = "",
        gtids: GtidSet | None = None,
        end: Position | None = None,
        names: Mapping[str, str] | None = None,
        poll: float = 0.05,
    ) -> None:
        self._source, self._connection, self._wanted = source, connection, frozenset(wanted)
        self._requested = position
        self._is_closed = False
        self._other: BinaryLog | None = None
        """Where a transaction is read again."""
        self._prepared: dict[str, Position] = {}
        """Where the groups of XA transactions begin that were prepared and not yet decided."""
        self._servers: dict[bytes, str] = {}
        self._refuse = Refusals(source, self._wanted, position)
        self._dump = Dump(connection, poll)
        try:
            self.server = self._dump.server
            is_other = bool(server) and server != self.server
            is_far = bool(position.offset >> 32)
            if (is_other or is_far) and not gtids:
                raise self._without_gtids(server, is_other=is_other)
            if is_other:
                self._check_has(gtids)
            self._definitions = Definitions(
                self._wanted,
                names or {},
                charsets.fetch_charsets(
                    self._dump.query, connection.database, is_mariadb=self._dump.is_mariadb
                ),
                self._dump.is_mariadb,
                self._session,
            )
            # Another server's first file is not known before it comes.
            self._is_file_known = not is_other
            self._at = Position(position.epoch + 1, "", 0, 4) if is_other else position
            self._end = end.in_epoch(self._at.epoch) if end else None
            self._dump.start(position.file, position.offset, gtids if is_other or is_far else None)
        except BaseException:
            self._dump.close()
            raise

    def _without_gtids(self, server: str, *, is_other: bool) -> PositionPurged:
        connection = self._connection
        if is_other:
            return PositionPurged(
                f"Source {self._source!r}: the position {self._requested} is one of server {server or self.server!r}, but "
                f"{connection.host}:{connection.port} is server {self.server!r}, and no GTIDs were recorded by which to go on. "
                f"Check {connection.prefix}_HOST. If the server was really replaced, run `softcart resnapshot {self._source}`."
            )
        return PositionPurged(
            f"Source {self._source!r}: the position {self._requested} lies so far behind its file's start that only GTIDs could "
            f"lead there, and none were recorded. Run `softcart resnapshot {self._source}`."
        )

    def _check_has(self, gtids: GtidSet | None) -> None:
        """Raise `PositionPurged` if another server lacks what was read from the one before it."""
        if self._dump.is_mariadb:
            return  # it refuses by itself what it does not know; MySQL would go on as if nothing were wrong
        lacking = self._dump.query(f"SELECT GTID_SUBTRACT('{gtids}', @@global.gtid_executed)")[0][0]
        if lacking:
            raise PositionPurged(
                f"Source {self._source!r}: {self._dump.where} does not have transactions that were read from the server before it "
                f"({lacking}). If it is a replica that lags, try again when it has them. If they were lost in the fail-over, "
                f"run `softcart resnapshot {self._source}`."
            )

    def close(self) -> None:
        """Hang up, from any thread; an iteration in progress ends."""
        self._is_closed = True
        if self._other:
            self._other.close()
        self._dump.close()

    def __enter__(self) -> BinaryLog:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __iter__(self) -> Iterator[Event]:
        try:
            yield from self._events()
        except PositionPurged as error:
            raise self._purged(str(error)) from None
        except SourceLost:
            if not self._is_closed:
                raise

    def _purged(self, message: str) -> PositionPurged:
        try:
            with self._session() as session:
                files = [str(row[0]) for row in session.query("SHOW BINARY LOGS")]
            has = f"It has {files[0]} to {files[-1]}" if files else "It has no binary log"
        except IngestionError:
            has = "Which files it has could not be asked"
        return PositionPurged(
            f"Source {self._source!r}: {self._dump.where} no longer has the binary log that follows position {self._requested} "
            f"({message}). {has}. Changes in between can only be had from a new snapshot: `softcart resnapshot {self._source}` "
            "takes it. Keep the log longer than any pause (binlog_expire_logs_seconds)."
        )

    @contextmanager
    def _session(self) -> Iterator[Session]:
        """Another connection, for questions."""
        try:
            with closing(Session(self._connection)) as session:
                yield session
        except (MySQLdb.Error, ServerUnreachable) as error:
            raise self._dump.explained(0, error) from None

    def _move(self, offset: int) -> bool:
        """Note an end position, of which the log has only the lower half; whether it is the wanted end, or behind it."""
        at = self._at
        if offset:
            offset |= at.offset >> 32 << 32
            if at.offset - offset > 1 << 31:
                offset += 1 << 32
            self._at = at = Position(at.epoch, at.name, at.number, offset)
        return self._end is not None and self._is_file_known and at >= self._end

    def _events(self, *, only_group: bool = False, void: Collection[range] = ()) -> Iterator[Event]:
        """The events. `only_group`: those of the first transaction, even if only prepared, but for the ones numbered in `void`."""
        tables: dict[bytes, TableMap | None] = {}
        group = _Group(is_only=only_group)
        handlers = self._handlers()
        if self._move(0) and not only_group:
            return
        for event in self._dump.events():
            if event is None:
                if not group.is_open and self._is_file_known and not only_group:
                    yield Idle(self._at, group.caught_up)
                continue
            kind, when, ended, _, data, start, stop = event
            group.number += 1
            # Rows and their tables are nearly all of a log: they come first, and without a detour.
            if kind in events.ROWS:
                table = tables.get(data[start : start + 6], _UNKNOWN)
                if table is not None and not group.is_skipped:
                    rows = self._rows(table, event)
                    if rows and not (void and _is_in(group.number, void)):
                        yield rows
                continue
            if kind == events.TABLE_MAP:
                definition = data[start + 8 : stop]
                table_id = data[start : start + 6]
                try:
                    tables[table_id] = self._definitions.known[definition]
                except KeyError:
                    tables[table_id] = self._definitions.add(definition)
                continue
            group.ends = group.is_past = False
            if kind in events.ROWS_COMPRESSED:
                table = tables.get(data[start : start + 6], _UNKNOWN)
                if table is _UNKNOWN or not (group.is_skipped or _is_in(group.number, void)):
                    yield from self._inflated_rows(table, event)
            elif handler := handlers.get(kind):
                yield from handler(group, event)
            elif kind not in events.WITHOUT_CHANGES:
                table = tables.get(data[start : start + 6])
                self._refuse.event(kind, data, start, table, self._at)
            elif not group.is_open and (kind != events.FORMAT or self._at.offset == 4):
                # At a start in the middle of a file its description is repeated; that moves nothing.
                group.is_past = self._move(ended)
            if group.ends and only_group:
                return
            yield from self._after(group, when, ended)
            if group.is_past:
                return

    def _after(self, group: _Group, when: int, ended: int) -> Iterable[Event]:
        """What follows from an event that may have ended a transaction, or reached the wanted end."""
        if not group.ends:
            return (Idle(self._at, True),) if group.is_past else ()
        if group.rolled_back:
            return self._after_savepoint(group, when, ended)
        return (self._commit(group, when, ended),)

    def _after_savepoint(self, group: _Group, when: int, ended: int) -> Iterator[Event]:
        """A transaction of which a part was rolled back is read again, without that part."""
        assert group.start
        yield Rollback()
        yield from self._again(group.start, group.rolled_back)
        group.rolled_back = []
        group.savepoints.clear()
        yield self._commit(group, when, ended)

    def _commit(self, group: _Group, when: int, ended: int) -> Commit:
        group.is_open = group.is_explicit = group.is_skipped = False
        group.is_past = self._move(ended)
        return Commit(self._at, group.gtid, group.committed_at or when * 1_000_000)

    def _rows(self, table: Any, event: Raw) -> Rows | None:
        """A rows event of a wanted table; None if it has no rows at all."""
        kind, _, _, _, data, start, stop = event
        if table is _UNKNOWN:
            self._refuse.unknown_table(data[start : start + 6])
            return None
        start += 8 if kind in events.FIRST_VERSION else 8 + _U16.unpack_from(data, start + 8)[0]
        operation = events.ROWS[kind]
        beginning = data[start : start + table.beginnings[operation]]
        if beginning not in table.whole:
            refuse_partial(table, beginning)
        return Rows(table, operation, data[start:stop])

    def _inflated_rows(self, table: Any, event: Raw) -> Iterable[Event]:
        """The same for a rows event that MariaDB has compressed behind its beginning."""
        kind, _, _, _, data, start, stop = event
        if table is None:
            return ()
        if table is _UNKNOWN:
            self._refuse.unknown_table(data[start : start + 6])
            return ()
        start += 8 if kind in events.FIRST_VERSION else 8 + _U16.unpack_from(data, start + 8)[0]
        operation = events.ROWS_COMPRESSED[kind]
        behind = start + table.beginnings[operation]
        refuse_partial(table, data[start:behind])
        return (Rows(table, operation, data[start:behind] + inflated(data[behind:stop])),)

    def _handlers(self) -> dict[int, Callable[[_Group, Raw], Iterable[Event]]]:
        """Who handles events of a type. Each gives events, and says in the group if it ends, or the log's wanted part does."""
        return {
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

    def _on_xid(self, group: _Group, event: Raw) -> Iterable[Event]:
        group.ends = True
        return ()

    def _begin(self, group: _Group, event: Raw) -> None:
        """The start of a transaction or of a statement of its own."""
        _, _, ended, size, *_ = event
        group.is_open = True
        group.is_explicit = group.is_skipped = group.caught_up = False
        group.alter_state = group.number = group.committed_at = 0
        group.gtid = None
        at = self._at
        # Of this server: whoever reads the transaction again reads it there.
        group.start = Position(0, at.name, at.number, (at.offset >> 32 << 32 | ended) - size)

    def _on_mariadb_gtid(self, group: _Group, event: Raw) -> Iterable[Event]:
        _, _, _, _, data, start, stop = event
        self._begin(group, event)
        sequence, domain, flags = _MARIADB_GTID_BODY.unpack_from(data, start)
        group.gtid = Gtid(f"{domain}-{_U32.unpack_from(data, start - 14)[0]}", sequence)
        group.is_explicit = not flags & _STANDALONE
        group.is_skipped = bool(flags & _PREPARED_XA) and not group.is_only
        if flags & _STANDALONE:
            group.alter_state = _extra_flags(data[start:stop], flags)
        return ()

    def _on_tagged_gtid(self, group: _Group, event: Raw) -> Iterable[Event]:
        _, _, _, _, data, start, stop = event
        self._begin(group, event)
        group.gtid, group.committed_at = tagged_gtid(data[start:stop])
        return ()

    def _on_gtid(self, group: _Group, event: Raw) -> Iterable[Event]:
        kind, _, _, _, data, start, stop = event
        self._begin(group, event)
        if kind == events.GTID:
            source = data[start + 1 : start + 17]
            name = self._servers.get(source) or self._servers.setdefault(
                source, str(uuid.UUID(bytes=source))
            )
            group.gtid = Gtid(name, _U64.unpack_from(data, start + 17)[0])
        if stop - start >= 49 and data[start + 25] == 2:
            committed_at = int.from_bytes(data[start + 42 : start + 49], "little")
            if committed_at >> 55:  # the time of the server that committed it first follows
                committed_at = int.from_bytes(data[start + 49 : start + 56], "little")
            group.committed_at = committed_at
        return ()

    def _on_statement(self, group: _Group, event: Raw) -> Iterable[Event]:
        kind, _, _, _, data, start, stop = event
        database, sql = self._statement(kind, data[start:stop])
        control = _CONTROL.match(sql)
        if control:
            word = " ".join(control[0].upper().split())
            return self._on_control(group, word, sql[control.end() :].strip().lower())
        found: Iterable[Event] = ()
        if kind == events.EXECUTE_LOAD or ddl.changes_rows(sql, database):
            self._refuse.statement(database, sql, self._at)
        elif not group.alter_state & (_ALTER_STARTED | _ALTER_ROLLED_BACK):
            self._definitions.forget_forms()
            found = (Statement(database, sql),)
        if not group.is_explicit:
            # MySQL logs CREATE TABLE ... SELECT as a transaction.
            group.is_explicit = sql.endswith(" START TRANSACTION")
            group.ends = not group.is_explicit
        return found

    def _on_control(self, group: _Group, word: str, rest: str) -> Iterable[Event]:
        """A statement that the server logs around rows, and what stands behind it."""
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
                assert group.start
                found = self._prepared_rows(rest, group.start)
                group.ends = True
            case "XA ROLLBACK":
                self._prepared.pop(rest, None)
                group.ends = True
        return found

    def _on_prepare(self, group: _Group, event: Raw) -> Iterable[Event]:
        _, _, _, _, data, start, stop = event
        is_one_phase, xid = _xid(data[start:stop])
        group.ends = True
        if group.is_only:
            return ()
        assert group.start
        if is_one_phase:
            return self._again(group.start)
        self._prepared[xid] = group.start
        return ()

    def _on_rotate(self, group: _Group, event: Raw) -> Iterable[Event]:
        _, _, _, _, data, start, stop = event
        file, offset = data[start + 8 : stop].decode(), _U64.unpack_from(data, start)[0]
        self._at = Position.parse(f"{file}:{offset}").in_epoch(self._at.epoch)
        self._is_file_known = True
        group.is_past = self._move(0)
        return ()

    def _on_heartbeat(self, group: _Group, event: Raw) -> Iterable[Event]:
        if not group.is_open:
            group.is_past, group.caught_up = self._move(event[2]), True
            if not group.is_past and not group.is_only:
                return (Idle(self._at, True),)
        return ()

    def _again(self, start: Position, void: Collection[range] = ()) -> Iterator[Event]:
        """The events of the transaction that starts at a position of this server, read over another connection."""
        with BinaryLog(
            self._source, self._connection, self._wanted, start, names=self._definitions.names
        ) as self._other:
            self._other._definitions = self._definitions
            yield from self._other._events(only_group=True, void=void)

    def _prepared_rows(self, xid: str, now: Position) -> Iterator[Event]:
        """The rows of an XA transaction that is committed at `now`."""
        start = self._prepared.pop(xid, None)
        if not self._wanted:
            return
        if start is None:
            # Prepared before we started: look for it from the oldest file on.
            with self._session() as session:
                oldest = session.query("SHOW BINARY LOGS")[0][0]
            with BinaryLog(
                self._source, self._connection, (), Position.parse(f"{oldest}:4"), end=now
            ) as self._other:
                for _ in self._other:
                    pass
                start = self._other._prepared.get(xid)
        if start is None:
            raise PositionPurged(
                f"XA transaction {xid}, committed at {now}, was prepared before its oldest file"
            )
        yield from self._again(start)

    def _statement(self, kind: int, body: bytes) -> tuple[str, str]:
        """The database in use and the statement of a query event."""
        at = 26 if kind == events.EXECUTE_LOAD else 13
        length, variables = body[8], _U16.unpack_from(body, 11)[0]
        status, database = body[at : at + variables], body[at + variables : at + variables + length]
        sql = body[at + variables + length + 1 :]
        if kind == events.QUERY_COMPRESSED:
            sql = inflated(sql)
        codec = "utf-8"
        while status and status[0] in _STATUS_LENGTHS:
            if status[0] == 4:
                codec = self._definitions.charsets.get(
                    _U16.unpack_from(status, 1)[0], Charset(codec, 4)
                ).codec
            status = status[_STATUS_LENGTHS[status[0]] or 2 + status[1] :]
        return database.decode(), sql.decode("utf-8" if codec == "binary" else codec, "replace")


def _is_in(number: int, ranges: Collection[range]) -> bool:
    return any(number in each for each in ranges)


def _xid(body: bytes) -> tuple[bool, str]:
    """Of an XA PREPARE event: whether it is a commit in one phase, and the transaction as statements name it."""
    is_one_phase, number, first, second = struct.unpack_from("<BIII", body)
    name = body[13:]
    return bool(
        is_one_phase
    ), f"x'{name[:first].hex()}',x'{name[first : first + second].hex()}',{number}"


def _extra_flags(body: bytes, flags: int) -> int:
    """The second byte of flags of MariaDB's GTID event, 0 if there is none."""
    at = 21 if flags & _HAS_COMMIT_ID else 13
    if flags & (_PREPARED_XA | _COMPLETED_XA):
        at += 6 + body[at + 4] + body[at + 5]
    return body[at] if at < len(body) else 0
