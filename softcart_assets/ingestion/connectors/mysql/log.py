"""Reading the binary log of MySQL and MariaDB the way a replica does: packets, events, transactions, positions, GTIDs.

Here belongs what the replication protocol says. Values of rows stay the bytes that they are in the log; what becomes of
events is not decided here.

XA transactions count when they are committed: their rows, logged when they were prepared, are read again then, so nothing
is held in between. The same holds for transactions of which a part was rolled back to a savepoint (which only reaches
the log if they changed tables without transactions, too).
"""

from __future__ import annotations

import io
import re
import secrets
import socket
import struct
import time
import uuid
import zlib
from bisect import bisect_right
from collections.abc import Collection, Generator, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import MySQLdb
import pymysql
import zstandard

from softcart_assets.connections import MySQLConnection, ServerUnreachable
from softcart_assets.ingestion.connectors.mysql import ddl, schema
from softcart_assets.ingestion.connectors.mysql.schema import Charset, LogColumn
from softcart_assets.ingestion.connectors.mysql.session import Session, log_position
from softcart_assets.ingestion.errors import (
    IngestionError,
    MissingGrant,
    PositionPurged,
    SourceLost,
)

DELETE, INSERT, UPDATE = 0, 1, 2
"""The kinds of `Rows`, numbered like the codec's operations."""


class Gtid(NamedTuple):
    """A transaction's global identity: on MySQL a `uuid` or `uuid:tag` and its number, on MariaDB `domain-server` and its."""

    source: str
    number: int


@dataclass(slots=True, eq=False)
class TableMap:
    """A table as it was when rows of it were logged.

    The reader gives one and the same object for as long as the definition stays, so it serves as a dictionary's key.
    It is not an event of its own: `Rows` carries it. `key` has the indexes of the primary key's columns in its order.
    """

    database: str
    table: str
    columns: tuple[LogColumn, ...]
    key: tuple[int, ...]
    _whole: set[bytes] = field(default_factory=set, repr=False)
    """Beginnings of bodies that were found to have complete images."""
    _beginnings: tuple[int, int, int] = field(init=False, repr=False)
    """How long the beginning of a body is, by kind: number of columns and bitmaps."""

    def __post_init__(self) -> None:
        count = len(self.columns)
        number, bitmap = 1 if count < 251 else 3, (count + 7) // 8
        self._beginnings = number + bitmap, number + bitmap, number + 2 * bitmap


@dataclass(slots=True)
class Rows:
    """Changed rows of one wanted table. `kind` is `INSERT`, `UPDATE` (images before and after alternate) or `DELETE`.

    `body` starts with the number of columns (a length-encoded integer) and ends with the last row's image: what follows
    the table id, flags and extra data of a rows event of either version, uncompressed, without checksum. Its bitmaps of
    present columns are complete.
    """

    table_map: TableMap
    kind: int
    body: bytes


@dataclass(slots=True)
class Statement:
    """A statement logged as text (DDL, mostly), of any table; `database` is the one that was in use."""

    database: str
    sql: str


@dataclass(slots=True)
class Commit:
    """The end of a transaction or DDL statement: everything since the last one is now part of the source, wanted or not.

    `position`: the end position, as `mysql.log_position` writes it, behind the prefix of a later server's log.
    `committed_at`: microseconds since 1970, of the server on which it was committed first.
    """

    position: str
    gtid: Gtid | None
    committed_at: int


@dataclass(slots=True)
class Rollback:
    """What came since the last `Commit` is void."""


@dataclass(slots=True)
class Idle:
    """Nothing to read for a moment, between transactions. `position` may have moved over events that change nothing.

    `caught_up`: the server has said that this is the end of its log.
    """

    position: str
    caught_up: bool


Event = Rows | Statement | Commit | Rollback | Idle


class GtidSet:
    """The transactions that a server has, or that were read: MySQL's intervals by source, or MariaDB's last one by domain."""

    def __init__(self, text: str = "") -> None:
        self._intervals: dict[str, list[list[int]]] = {}
        self._last: dict[str, Gtid] = {}
        for part in re.sub(r"\s", "", text).split(","):
            if ":" in part:
                server, *items = part.split(":")
                source = server = str(uuid.UUID(server))
                for item in items:
                    first, _, last = item.partition("-")
                    if first.isdigit():
                        self._add_interval(source, int(first), int(last or first))
                    else:
                        source = f"{server}:{item.lower()}"
            elif part:
                domain_server, _, number = part.rpartition("-")
                self.add(Gtid(domain_server, int(number)))

    def add(self, gtid: Gtid) -> None:
        """Add a transaction; adding it again changes nothing."""
        source, number = gtid
        if len(source) < 36:
            self._last[source.partition("-")[0]] = gtid
            return
        intervals = self._intervals.get(source)
        if intervals and intervals[-1][1] == number - 1:
            intervals[-1][1] = number
        else:
            self._add_interval(source, number, number)

    def _add_interval(self, source: str, first: int, last: int) -> None:
        intervals = self._intervals.setdefault(source, [])
        at = bisect_right(intervals, [first])
        if at and intervals[at - 1][1] >= first - 1:
            at -= 1
            first = intervals[at][0]
        end = at
        while end < len(intervals) and intervals[end][0] <= last + 1:
            last = max(last, intervals[end][1])
            end += 1
        intervals[at:end] = [[first, last]]

    def __contains__(self, gtid: Gtid) -> bool:
        if len(gtid.source) < 36:
            last = self._last.get(gtid.source.partition("-")[0])
            return last is not None and last.number >= gtid.number
        return any(
            first <= gtid.number <= last for first, last in self._intervals.get(gtid.source, ())
        )

    def __bool__(self) -> bool:
        return bool(self._intervals or self._last)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, GtidSet) and (self._intervals, self._last) == (
            other._intervals,
            other._last,
        )

    __hash__ = None  # type: ignore[assignment]

    def __str__(self) -> str:
        if self._last:
            return ",".join(
                f"{g.source}-{g.number}"
                for _, g in sorted(self._last.items(), key=lambda i: int(i[0]))
            )
        return ",".join(
            f"{source}:"
            + ":".join(
                str(first) if first == last else f"{first}-{last}" for first, last in intervals
            )
            for source, intervals in sorted(self._intervals.items())
        )

    def encoded(self) -> bytes:
        """MySQL's binary form, as COM_BINLOG_DUMP_GTID wants it."""
        is_tagged = any(":" in source for source in self._intervals)
        count = len(self._intervals)
        # With tags, the format's number stands in the first and in the last byte of the count.
        data = [struct.pack("<Q", 1 << 56 | count << 8 | 1 if is_tagged else count)]
        for source, intervals in sorted(self._intervals.items()):
            server, _, tag = source.partition(":")
            data.append(uuid.UUID(server).bytes)
            if is_tagged:
                data += [bytes([len(tag) << 1]), tag.encode()]
            data.append(struct.pack("<Q", len(intervals)))
            data += [struct.pack("<QQ", first, last + 1) for first, last in intervals]
        return b"".join(data)


@dataclass(frozen=True)
class ServerState:
    """Where a server's log ends: position, GTIDs (empty if it has none), who it is, its log files with their sizes in order."""

    position: str
    gtids: GtidSet
    server: str
    files: list[tuple[str, int]]


def current_state(session: Session) -> ServerState:
    """The end of the server's log now, or inside a snapshot of MariaDB (or under its lock, on MySQL) the snapshot's."""
    position = log_position(session)
    if session.is_mariadb:
        file, _, offset = position.partition(":")
        gtids = session.query(f"SELECT BINLOG_GTID_POS({session.literal(file)}, {int(offset)})")[0][
            0
        ]
    else:
        # Both from one row, which is of one moment.
        status = _binary_log_status(session)
        position, gtids = f"{status[0]}:{int(status[1] or 0):012d}", status[4]
    files = [(str(row[0]), int(row[1] or 0)) for row in session.query("SHOW BINARY LOGS")]
    return ServerState(position, GtidSet(gtids or ""), _identity(session.query), files)


def bytes_behind(session: Session, position: str) -> int:
    """How much log lies between a position of this server and the end; all of it if the position's file is gone."""
    file, _, offset = _without_prefix(position)[1].partition(":")
    files = [(str(row[0]), int(row[1] or 0)) for row in session.query("SHOW BINARY LOGS")]
    sizes = [size for name, size in files if name >= file]
    return (
        max(sum(sizes) - int(offset), 0) if any(name == file for name, _ in files) else sum(sizes)
    )


def _binary_log_status(session: Session) -> tuple[str | None, ...]:
    try:
        return session.query("SHOW BINARY LOG STATUS")[0]
    except MySQLdb.ProgrammingError:  # before MySQL 8.2
        return session.query("SHOW MASTER STATUS")[0]


def _identity(query: schema.Query) -> str:
    """What tells this server, with this log, from every other."""
    found = {
        str(name).lower(): str(value)
        for name, value in query(
            "SHOW GLOBAL VARIABLES WHERE variable_name IN ('server_uuid', 'server_uid', 'server_id')"
        )
    }
    # MariaDB has only lately something that differs between servers of the same number.
    return found.get("server_uuid") or " ".join(
        filter(None, (found["server_id"], found.get("server_uid")))
    )


def _without_prefix(position: str) -> tuple[int, str]:
    """How many servers came before the position's, and the position on its own server."""
    match = re.match(r"~(\d{4}) ", position)
    return (int(match[1]), position[match.end() :]) if match else (0, position)


# Types of events. MariaDB's own start at 160.
_QUERY, _ROTATE, _XID, _EXECUTE_LOAD, _TABLE_MAP, _INCIDENT, _HEARTBEAT = 2, 4, 16, 18, 19, 26, 27
(
    _FORMAT,
    _GTID,
    _ANONYMOUS_GTID,
    _XA_PREPARE,
    _PARTIAL_UPDATE,
    _PAYLOAD,
    _HEARTBEAT_V2,
    _TAGGED_GTID,
) = (*(15, 33, 34, 38, 39, 40, 41, 42),)
_MARIADB_GTID, _QUERY_COMPRESSED = 162, 165
_ROWS = {23: INSERT, 24: UPDATE, 25: DELETE, 30: INSERT, 31: UPDATE, 32: DELETE}
_ROWS_COMPRESSED = {166: INSERT, 167: UPDATE, 168: DELETE, 169: INSERT, 170: UPDATE, 171: DELETE}
_SECOND_VERSION = {30, 31, 32, 169, 170, 171}
_WITHOUT_CHANGES = {3, 5, 9, 11, 13, 14, _FORMAT, 17, 28, 29, 35, 36, 37, 160, 161, 163, 164}
"""Stop, variables for statements, blocks of LOAD DATA, ignorable, the text behind rows, previous GTIDs, group replication's,
MariaDB's annotations, checkpoints, GTID list, start of encryption."""
_STANDALONE, _HAS_COMMIT_ID, _PREPARED_XA, _COMPLETED_XA = 1, 2, 64, 128
_ALTER_STARTED, _ALTER_ROLLED_BACK = 2, 8

_HEADER = struct.Struct("<IBIB4xII2x")
"""A packet's length and number, its first byte, then an event's time, type, size and end position."""
_EVENT = struct.Struct("<IB4xII2x")
_U16, _U32, _U64 = struct.Struct("<H"), struct.Struct("<I"), struct.Struct("<Q")
_RECEIVE = 1 << 20
_LONGEST = 0xFFFFFF
_HEARTBEAT_SECONDS = 1.0
_SILENCE_SECONDS = 60.0
"""The server is lost if it does not even send a heartbeat for so long."""

Raw = tuple[int, int, int, int, bytes, int, int]
"""An event: type, time, end position (0: none), size, and the bytes that hold its body from one index to another."""


class _Dump:
    """A connection to a server that sends its log."""

    def __init__(self, connection: MySQLConnection, poll: float) -> None:
        self.connection = connection
        self.poll = poll
        self.where = f"MySQL at {connection.host}:{connection.port}"
        try:
            self._db = pymysql.connect(
                host=connection.host,
                port=connection.port,
                user=connection.user,
                password=connection.password,
                database=connection.database,
                charset="utf8mb4",
                connect_timeout=10,
                read_timeout=60,
                autocommit=True,
            )
        except pymysql.MySQLError as error:
            raise self.explained(*error.args) from None
        self.is_mariadb = "MariaDB" in self._db.get_server_info()
        self.server_id = secrets.randbelow(1 << 31) + (1 << 31)
        self.server = _identity(self.query)

    def query(self, sql: str) -> list[tuple[str | None, ...]]:
        """Run a statement before the log is asked for; its rows as text."""
        try:
            with self._db.cursor() as cursor:
                cursor.execute(sql)
                return [
                    tuple(None if v is None else str(v) for v in row) for row in cursor.fetchall()
                ]
        except pymysql.MySQLError as error:
            raise self.explained(*error.args) from None

    def explained(self, code: Any = 0, message: Any = "", *_: object) -> IngestionError:
        """What an error of the server, or on the way to it, means."""
        connection = self.connection
        if code in (1044, 1045, 1142, 1227):
            return MissingGrant(
                f"{self.where}: user {connection.user!r} may not read the binary log ({message}). Run "
                f"GRANT RELOAD, REPLICATION CLIENT, REPLICATION SLAVE ON *.* TO {connection.user!r}."
            )
        return SourceLost(
            f"{self.where} failed while its binary log was read ({code}: {message}). Nothing is lost: reading goes on where it "
            f"was committed. If it persists, check the server and {connection.prefix}_HOST, _PORT."
        )

    def start(self, file: str, offset: int, gtids: GtidSet | None) -> None:
        """Ask for the log from a position, or, if GTIDs are given, for what they lack."""
        checksum = self.query("SELECT @@global.binlog_checksum")[0][0]
        self._has_checksums = checksum == "CRC32"
        settings = [
            f"@master_binlog_checksum = '{checksum}', @source_binlog_checksum = '{checksum}'",
            f"@master_heartbeat_period = {int(_HEARTBEAT_SECONDS * 1e9)}",
            f"@source_heartbeat_period = {int(_HEARTBEAT_SECONDS * 1e9)}",
            f"@slave_uuid = '{uuid.uuid4()}', @replica_uuid = @slave_uuid",
            # A slow target must not make the server hang up.
            "SESSION net_write_timeout = 3600",
        ]
        if self.is_mariadb:
            settings.append("@mariadb_slave_capability = 4")
            if gtids is not None:
                settings.append(f"@slave_connect_state = '{gtids}'")
        self.query("SET " + ", ".join(settings))
        name, port = b"softcart", self.connection.port
        self._command(
            0x15,
            struct.pack("<IB", self.server_id, len(name))
            + name
            + struct.pack("<BBHII", 0, 0, port, 0, 0),
        )
        self._db._read_ok_packet()  # type: ignore[attr-defined]
        if gtids is not None and not self.is_mariadb:
            data = gtids.encoded()
            self._command(0x1E, struct.pack("<HIIQI", 4, self.server_id, 0, 4, len(data)) + data)
        else:
            where = (4, b"") if gtids is not None else (offset, file.encode())
            self._command(0x12, struct.pack("<IHI", where[0], 0, self.server_id) + where[1])
        self._socket: socket.socket = self._db._sock  # type: ignore[attr-defined]
        self._socket.settimeout(self.poll)

    def _command(self, command: int, data: bytes) -> None:
        try:
            self._db._execute_command(command, data)  # type: ignore[attr-defined]
        except pymysql.MySQLError as error:
            raise self.explained(*error.args) from None

    def close(self) -> None:
        """Hang up; whoever reads at the moment gets `SourceLost`."""
        with suppress(Exception):
            self._db._sock.shutdown(socket.SHUT_RDWR)  # type: ignore[attr-defined]
        self._db._force_close()  # type: ignore[attr-defined]

    def events(self) -> Iterator[Raw | None]:
        """The events as they come; None whenever nothing came for `poll` seconds."""
        unpack, checksum_at, crc32 = _HEADER.unpack_from, _U32.unpack_from, zlib.crc32
        has_checksums = self._has_checksums
        data, at, end = b"", 0, 0
        while True:
            if end - at >= 24:
                head, status, when, kind, size, position = unpack(data, at)
                stop = at + 4 + (head & _LONGEST)
                is_plain = stop <= end and not status and head & _LONGEST < _LONGEST
            else:
                is_plain = False
            if is_plain:
                source, first, at = data, at + 5, stop
            else:
                source, data, at = yield from self._packet(data, at)
                end, first, stop = len(data), 1, len(source)
                if source[0]:
                    raise self._ended(source)
                when, kind, size, position = _EVENT.unpack_from(source, 1)
            if kind == _FORMAT:
                # It has room for a checksum in any case.
                has_checksums = source[stop - 5] == 1
                stop -= 4
            elif has_checksums:
                stop -= 4
                if crc32(source[first:stop]) != checksum_at(source, stop)[0]:
                    raise SourceLost(
                        f"{self.where}: an event of the binary log that ends at {position} arrived damaged (its checksum is "
                        "wrong). Nothing of it was used; reading again helps if the network was at fault, `mysqlbinlog "
                        "--verify-binlog-checksum` on the server tells if its disk is."
                    )
            if kind == _PAYLOAD:
                yield from _unpacked(source[first + 19 : stop], position)
            else:
                yield kind, when, position, size, source, first + 19, stop

    def _packet(self, data: bytes, at: int) -> Generator[None, None, tuple[bytes, bytes, int]]:
        """The next packet's payload, joined if it came in several; what was read behind it, and where that goes on."""
        parts = []
        while True:
            if len(data) - at < 4:
                data, at = (yield from self._receive(data[at:], 4)), 0
            need = 4 + int.from_bytes(data[at : at + 3], "little")
            if len(data) - at < need:
                data, at = (yield from self._receive(data[at:], need)), 0
            parts.append(data[at + 4 : at + need])
            at += need
            if need < 4 + _LONGEST:
                return b"".join(parts), data, at

    def _receive(self, data: bytes, need: int) -> Generator[None, None, bytes]:
        """The data with so much read behind them that there are `need` bytes, or more."""
        parts, have, heard = [data], len(data), time.monotonic()
        while have < need:
            try:
                chunk = self._socket.recv(_RECEIVE)
            except TimeoutError:
                if time.monotonic() - heard > _SILENCE_SECONDS:
                    raise self.explained(
                        0, f"not even a heartbeat for {_SILENCE_SECONDS:.0f} s"
                    ) from None
                yield None
                continue
            except (OSError, ValueError) as error:
                raise self.explained(0, error) from None
            if not chunk:
                raise self.explained(0, "it closed the connection")
            parts.append(chunk)
            have += len(chunk)
            heard = time.monotonic()
        return b"".join(parts)

    def _ended(self, packet: bytes) -> IngestionError:
        """What a packet means that is no event."""
        if packet[0] != 0xFF:
            return self.explained(0, "it ended the log, as when it shuts down")
        code, message = _U16.unpack_from(packet, 1)[0], packet[9:].decode(errors="replace")
        if code == 1789 or (code == 1236 and re.search(_LOST, message, re.I)):
            return PositionPurged(message)
        return self.explained(code, message)


_LOST = (
    "could not find (first log|next log|gtid state)|purged|impossible position|could not open log|not in the master|missing"
    "|bogus data|truncated in the middle|did not pass crc|error reading packet|not found|unknown error reading log event"
)
"""What servers say, under one error number with other things, if they do not have the log that was asked for."""


def _unpacked(body: bytes, position: int) -> Iterator[Raw]:
    """The events of a compressed transaction; all end where it ends."""
    fields, compression = schema.Bytes(body), 255
    while (name := fields.number()) != 0:
        value = schema.Bytes(fields.text())
        if name == 2:
            compression = value.number()
    if compression not in (0, 255):
        raise IngestionError(
            f"The binary log has a transaction compressed in way {compression}, which is not known here."
        )
    raw: Any = io.BytesIO(memoryview(body)[fields.at :])
    stream = (
        zstandard.ZstdDecompressor().stream_reader(raw, read_across_frames=True)
        if compression == 0
        else raw
    )
    while header := stream.read(19):
        when, kind, size, _ = _EVENT.unpack(header)
        yield kind, when, position, size, stream.read(size - 19), 0, size - 19


def _inflated(data: bytes) -> bytes:
    """What MariaDB has compressed: a byte that tells the way and how many bytes tell the length, the length, the data."""
    if data[0] & 0xF0 != 0x80:
        raise IngestionError(
            f"The binary log has an event compressed in way {data[0]:#x}, which is not known here."
        )
    return zlib.decompress(data[1 + (data[0] & 7) :])


class BinaryLog:
    """The log of one server from a position on, as events in its order; to be iterated over once.

    `wanted`: the tables (database, name) whose rows are given; of the others not even the columns are looked at.
    `position` and `server`: where reading goes on and whose position that is (empty: the connected server's). If another
    server answers, `gtids`, what was read so far, lead on; its positions get a prefix that sorts behind all earlier ones.
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
        position: str,
        *,
        server: str = "",
        gtids: GtidSet | None = None,
        end: str | None = None,
        names: Mapping[str, str] | None = None,
        poll: float = 0.05,
    ) -> None:
        self._source, self._connection, self._wanted = source, connection, frozenset(wanted)
        self._names = names or {}
        self._requested = position
        self._is_closed = False
        self._other: BinaryLog | None = None
        """Where a transaction is read again."""
        self._definitions: dict[bytes, TableMap | None] = {}
        self._prepared: dict[str, str] = {}
        """Where the groups of XA transactions begin that were prepared and not yet decided."""
        self._servers: dict[bytes, str] = {}
        epoch, own = _without_prefix(position)
        self._file, _, offset = own.partition(":")
        self._offset = int(offset)
        self._end = _without_prefix(end)[1] if end else "~"
        self._dump = _Dump(connection, poll)
        try:
            self.server = self._dump.server
            is_other = bool(server) and server != self.server
            if (is_other or self._offset >> 32) and not gtids:
                raise PositionPurged(
                    f"Source {source!r}: the position {position} is one of server {server or self.server!r}, but {connection.host}:"
                    f"{connection.port} is server {self.server!r}, and no GTIDs were recorded by which to go on. Check "
                    f"{connection.prefix}_HOST; if the server was really replaced, `softcart resnapshot {source}` guides on."
                    if is_other
                    else f"Source {source!r}: the position {position} lies so far behind its file's start that only GTIDs could "
                    f"lead there, and none were recorded. `softcart resnapshot {source}` guides on."
                )
            if is_other and not self._dump.is_mariadb:
                # MariaDB refuses by itself what it does not know, MySQL would go on as if nothing were wrong.
                lacking = self._dump.query(
                    f"SELECT GTID_SUBTRACT('{gtids}', @@global.gtid_executed)"
                )[0][0]
                if lacking:
                    raise PositionPurged(
                        f"Source {source!r}: {self._dump.where} does not have transactions that were read from the server before it "
                        f"({lacking}). If it is a replica that lags, try again when it has them. If they were lost in the fail-over, "
                        f"`softcart resnapshot {source}` guides on."
                    )
            self._charsets: dict[int, Charset] = schema.fetch_charsets(
                self._dump.query, connection.database, is_mariadb=self._dump.is_mariadb
            )
            self._prefix = f"~{epoch + is_other:04d} " if epoch + is_other else ""
            if is_other:
                self._file, self._offset = "", 4
            self._dump.start(
                self._file, self._offset, gtids if is_other or self._offset >> 32 else None
            )
        except BaseException:
            self._dump.close()
            raise

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
            "guides on. Keep the log longer than any pause (binlog_expire_logs_seconds)."
        )

    @contextmanager
    def _session(self) -> Iterator[Session]:
        """Another connection, for questions."""
        try:
            with closing(Session(self._connection)) as session:
                yield session
        except (MySQLdb.Error, ServerUnreachable) as error:
            raise self._dump.explained(0, error) from None

    def _at(self, offset: int) -> str:
        return f"{self._prefix}{self._file}:{offset:012d}"

    def _move(self, offset: int) -> bool:
        """Note an end position, of which the log has only the lower half; whether it is the wanted end, or behind it."""
        if offset:
            offset |= self._offset >> 32 << 32
            if self._offset - offset > 1 << 31:
                offset += 1 << 32
            self._offset = offset
        # Another server's first file is not known before it comes.
        return bool(self._file) and f"{self._file}:{self._offset:012d}" >= self._end

    def _events(self, *, only_group: bool = False, void: Collection[range] = ()) -> Iterator[Event]:
        """The events. `only_group`: those of the first transaction, even if only prepared, but for the ones numbered in `void`."""
        tables: dict[bytes, TableMap | None] = {}
        in_group = is_explicit = is_skipped = caught_up = False
        group, number, alter_state = "", 0, 0
        gtid: Gtid | None = None
        committed_at = 0
        savepoints: dict[str, int] = {}
        rolled_back: list[range] = []
        if self._move(0) and not only_group:
            return
        for event in self._dump.events():
            if event is None:
                if not in_group and self._file and not only_group:
                    yield Idle(self._at(self._offset), caught_up)
                continue
            kind, when, ended, size, data, start, stop = event
            number += 1
            operation = _ROWS.get(kind)
            if operation is not None:
                table = tables.get(data[start : start + 6], _UNKNOWN)
                if table is None or is_skipped:
                    continue
                if table is _UNKNOWN:
                    self._refuse_unknown(data[start : start + 6])
                    continue
                start += 8 if kind < 30 else 8 + _U16.unpack_from(data, start + 8)[0]
                if data[start : start + table._beginnings[operation]] not in table._whole:
                    _refuse_partial(
                        table, operation, data[start : start + table._beginnings[operation]]
                    )
                if not void or not any(number in each for each in void):
                    yield Rows(table, operation, data[start:stop])
                continue
            if kind == _TABLE_MAP:
                definition = data[start + 8 : stop]
                try:
                    tables[data[start : start + 6]] = self._definitions[definition]
                except KeyError:
                    tables[data[start : start + 6]] = self._define(definition)
                continue
            ends = is_past = False
            if kind == _XID:
                ends = True
            elif kind in _GTIDS:
                # The start of a transaction or of a statement of its own.
                in_group, is_explicit, is_skipped, caught_up, alter_state = (
                    True,
                    False,
                    False,
                    False,
                    0,
                )
                number, gtid, committed_at = 0, None, 0
                group = f"{self._file}:{(self._offset >> 32 << 32 | ended) - size:012d}"
                if kind == _MARIADB_GTID:
                    sequence, domain, flags = _MARIADB_GTID_BODY.unpack_from(data, start)
                    gtid = Gtid(f"{domain}-{_U32.unpack_from(data, start - 14)[0]}", sequence)
                    is_explicit = not flags & _STANDALONE
                    is_skipped = bool(flags & _PREPARED_XA) and not only_group
                    if flags & _STANDALONE:
                        alter_state = _extra_flags(data[start:stop], flags)
                elif kind == _TAGGED_GTID:
                    gtid, committed_at = _tagged_gtid(data[start:stop])
                else:
                    if kind == _GTID:
                        source = data[start + 1 : start + 17]
                        name = self._servers.get(source) or self._servers.setdefault(
                            source, str(uuid.UUID(bytes=source))
                        )
                        gtid = Gtid(name, _U64.unpack_from(data, start + 17)[0])
                    if stop - start >= 49 and data[start + 25] == 2:
                        committed_at = int.from_bytes(data[start + 42 : start + 49], "little")
                        if committed_at >> 55:
                            committed_at = int.from_bytes(data[start + 49 : start + 56], "little")
            elif kind in (_QUERY, _QUERY_COMPRESSED, _EXECUTE_LOAD):
                database, sql = self._statement(kind, data[start:stop])
                match _CONTROL.match(sql):
                    case None:
                        if kind == _EXECUTE_LOAD or ddl.changes_rows(sql, database):
                            self._refuse_statement(database, sql)
                        elif not alter_state & (_ALTER_STARTED | _ALTER_ROLLED_BACK):
                            self._forget_forms()
                            yield Statement(database, sql)
                        if not is_explicit:
                            # MySQL logs CREATE TABLE ... SELECT as a transaction.
                            is_explicit = sql.endswith(" START TRANSACTION")
                            ends = not is_explicit
                    case control:
                        rest = sql[control.end() :].strip().lower()
                        match " ".join(control[0].upper().split()):
                            case "BEGIN":
                                is_explicit = True
                            case "COMMIT":
                                ends = True
                            case "ROLLBACK":
                                if not only_group:
                                    yield Rollback()
                                rolled_back.clear()
                                ends = True
                            case "SAVEPOINT":
                                savepoints[rest] = number
                            case "ROLLBACK TO":
                                rolled_back.append(
                                    range(
                                        savepoints.get(rest.removeprefix("savepoint "), 0) + 1,
                                        number,
                                    )
                                )
                                is_skipped = not only_group
                            case "XA START" | "XA BEGIN":
                                is_explicit, is_skipped = True, not only_group
                            case "XA COMMIT":
                                yield from self._prepared_rows(rest, group)
                                ends = True
                            case "XA ROLLBACK":
                                self._prepared.pop(rest, None)
                                ends = True
            elif kind == _XA_PREPARE:
                is_one_phase, xid = _xid(data[start:stop])
                if only_group:
                    return
                if is_one_phase:
                    yield from self._again(group)
                else:
                    self._prepared[xid] = group
                ends = True
            elif kind == _ROTATE:
                self._file, self._offset = (
                    data[start + 8 : stop].decode(),
                    _U64.unpack_from(data, start)[0],
                )
                is_past = self._move(0)
            elif kind in (_HEARTBEAT, _HEARTBEAT_V2):
                if not in_group:
                    is_past, caught_up = self._move(ended), True
                    if not is_past and not only_group:
                        yield Idle(self._at(self._offset), caught_up)
            elif kind in _WITHOUT_CHANGES:
                # At a start in the middle of a file its description is repeated; that moves nothing.
                if not in_group and (kind != _FORMAT or self._offset == 4):
                    is_past = self._move(ended)
            elif kind in _ROWS_COMPRESSED:
                operation = _ROWS_COMPRESSED[kind]
                table = tables.get(data[start : start + 6], _UNKNOWN)
                if table is _UNKNOWN:
                    self._refuse_unknown(data[start : start + 6])
                elif (
                    table is not None
                    and not is_skipped
                    and not any(number in each for each in void)
                ):
                    start += 8 if kind < 169 else 8 + _U16.unpack_from(data, start + 8)[0]
                    behind = start + table._beginnings[operation]
                    _refuse_partial(table, operation, data[start:behind])
                    yield Rows(table, operation, data[start:behind] + _inflated(data[behind:stop]))
            else:
                self._refuse_event(kind, data, start, tables)
            if ends:
                if only_group:
                    return
                if rolled_back:
                    yield Rollback()
                    yield from self._again(group, rolled_back)
                    rolled_back = []
                    savepoints.clear()
                in_group = is_explicit = is_skipped = False
                is_past = self._move(ended)
                yield Commit(self._at(self._offset), gtid, committed_at or when * 1_000_000)
            elif is_past:
                yield Idle(self._at(self._offset), True)
            if is_past:
                return

    def _again(self, group: str, void: Collection[range] = ()) -> Iterator[Event]:
        """The events of the transaction that starts at a position of this server, read over another connection."""
        with BinaryLog(
            self._source, self._connection, self._wanted, group, names=self._names
        ) as self._other:
            self._other._definitions = self._definitions
            yield from self._other._events(only_group=True, void=void)

    def _prepared_rows(self, xid: str, now: str) -> Iterator[Event]:
        """The rows of an XA transaction that is committed at `now`."""
        group = self._prepared.pop(xid, None)
        if not self._wanted:
            return
        if group is None:
            # Prepared before we started: look for it from the oldest file on.
            with self._session() as session:
                oldest = session.query("SHOW BINARY LOGS")[0][0]
            with BinaryLog(
                self._source, self._connection, (), f"{oldest}:{4:012d}", end=now
            ) as self._other:
                for _ in self._other:
                    pass
                group = self._other._prepared.get(xid)
        if group is None:
            raise PositionPurged(
                f"XA transaction {xid}, committed at {now}, was prepared before its oldest file"
            )
        yield from self._again(group)

    def _define(self, definition: bytes) -> TableMap | None:
        """The table of a table map event that was not seen before; None if it is not wanted."""
        if len(self._definitions) > 10_000:
            self._definitions = {key: table for key, table in self._definitions.items() if table}
        database, name = schema.names_in(definition)
        table = None
        if (database, name) in self._wanted:
            found = schema.define(definition, self._charsets, is_mariadb=self._dump.is_mariadb)
            if self._dump.is_mariadb and any(map(schema.may_have_form, found.columns)):
                with self._session() as session:
                    forms = schema.fetch_forms(session.query, database, name)
                found = schema.define(definition, self._charsets, forms, is_mariadb=True)
            table = TableMap(*found._replace(table=self._names.get(name, name)))
        self._definitions[definition] = table
        return table

    def _forget_forms(self) -> None:
        """After a statement, a column that looks the same in the log may have become another of MariaDB's types."""
        if self._dump.is_mariadb:
            self._definitions = {
                key: table
                for key, table in self._definitions.items()
                if table is None or not any(map(schema.may_have_form, table.columns))
            }

    def _statement(self, kind: int, body: bytes) -> tuple[str, str]:
        """The database in use and the statement of a query event."""
        at = 26 if kind == _EXECUTE_LOAD else 13
        length, variables = body[8], _U16.unpack_from(body, 11)[0]
        status, database = body[at : at + variables], body[at + variables : at + variables + length]
        sql = body[at + variables + length + 1 :]
        if kind == _QUERY_COMPRESSED:
            sql = _inflated(sql)
        codec = "utf-8"
        while status and status[0] in _STATUS_LENGTHS:
            if status[0] == 4:
                codec = self._charsets.get(_U16.unpack_from(status, 1)[0], Charset(codec, 4)).codec
            status = status[_STATUS_LENGTHS[status[0]] or 2 + status[1] :]
        return database.decode(), sql.decode("utf-8" if codec == "binary" else codec, "replace")

    def _refuse_statement(self, database: str, sql: str) -> None:
        """Refuse a change of rows that was logged as a statement, if it may have changed a wanted table."""
        for wanted, table in sorted(self._wanted):
            if (database == wanted or wanted in sql) and re.search(
                rf"(?<![\w$]){re.escape(table)}(?![\w$])", sql, re.I
            ):
                raise IngestionError(
                    f"Source {self._source!r}: rows of `{wanted}`.`{table}` may have been changed by a statement that the binary "
                    f"log holds as text ({sql.split(maxsplit=1)[0].upper()} behind {self._at(self._offset)}), so which rows is not "
                    "known. Run SET GLOBAL binlog_format = ROW on the server and see that no session sets it otherwise, then "
                    f"`softcart resnapshot {self._source}`."
                )

    def _refuse_unknown(self, table_id: bytes) -> None:
        if table_id not in (
            b"\xff\xff\xff\0\0\0",
            b"\xff\xff\xff\xff\xff\xff",
        ):  # a statement that changed nothing
            raise PositionPurged(f"position {self._requested} lies within a transaction")

    def _refuse_event(
        self, kind: int, data: bytes, start: int, tables: dict[bytes, TableMap | None]
    ) -> None:
        """Refuse an event that holds changes which cannot be read."""
        behind = f"Source {self._source!r}: behind {self._at(self._offset)} the binary log has"
        if kind == _PARTIAL_UPDATE:
            table = tables.get(data[start : start + 6])
            if table is not None:
                raise IngestionError(
                    f"{behind} a partial update of JSON in `{table.database}`.`{table.table}`. Run SET GLOBAL "
                    "binlog_row_value_options = '' on the server and see that no session sets it otherwise, then "
                    f"`softcart resnapshot {self._source}`."
                )
        elif kind == _INCIDENT:
            message = data[start + 3 :].decode(errors="replace")
            raise IngestionError(
                f"{behind} an incident: the server may have failed to log changes ({message}). Take a new snapshot with "
                f"`softcart resnapshot {self._source}`."
            )
        elif not (start and data[start - 2] & 0x80):  # not marked as one to ignore
            raise IngestionError(
                f"{behind} an event of type {kind}, which is not known here and may hold changes. Tell the maintainers the "
                f"server's version; until then use strategy 'snapshot' for source {self._source!r}."
            )


_UNKNOWN: Any = object()
_GTIDS = (_MARIADB_GTID, _GTID, _ANONYMOUS_GTID, _TAGGED_GTID)
_MARIADB_GTID_BODY = struct.Struct("<QIB")
_CONTROL = re.compile(
    r"(BEGIN|COMMIT|ROLLBACK(?! TO)|SAVEPOINT|ROLLBACK TO|RELEASE SAVEPOINT|XA (START|BEGIN|END|COMMIT|ROLLBACK))\b(?!\s*NOT)",
    re.I,
)
"""Statements that the server logs around rows."""
_STATUS_LENGTHS = {0: 5, 1: 9, 3: 5, 4: 7, 6: 0}
"""The lengths of a query event's leading status variables, the number in front included."""


def _refuse_partial(table: TableMap, operation: int, beginning: bytes) -> None:
    """Refuse rows that lack columns."""
    if beginning in table._whole:
        return
    count = len(table.columns)
    reader = schema.Bytes(beginning)
    is_whole = reader.number() == count
    while is_whole and reader.at < len(beginning):
        bitmap = int.from_bytes(reader.take((count + 7) // 8), "little")
        is_whole = bitmap & (1 << count) - 1 == (1 << count) - 1
    if not is_whole:
        raise IngestionError(
            f"Rows of `{table.database}`.`{table.table}` are in the binary log without some of their columns. Run SET GLOBAL "
            "binlog_row_image = FULL on the server and see that no session sets it otherwise; changes logged before that "
            "cannot be read: take a new snapshot with `softcart resnapshot`."
        )
    table._whole.add(beginning)


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


def _tagged_gtid(body: bytes) -> tuple[Gtid, int]:
    """GTID and commit time of MySQL's tagged GTID event, which has numbered fields of variable length."""
    at = 0

    def number() -> int:
        nonlocal at
        # As many bytes follow as the first has ones at its end.
        more = (~body[at] & body[at] + 1).bit_length() - 1
        value = int.from_bytes(body[at : at + more + 1], "little") >> min(more + 1, 8)
        at += more + 1
        return value

    number(), number(), number()  # version, size, last field that may not be ignored
    server, tag, gno, times = b"", b"", 0, {}
    while at < len(body):
        match number():
            case 0:
                number()
            case 1:
                server = bytes(number() for _ in range(16))
            case 2:
                gno = number() >> 1  # signed
            case 3:
                length = number()
                tag = body[at : at + length]
                at += length
            case 6 | 7 as name:
                times[name] = number()
            case _:
                number()
    source = str(uuid.UUID(bytes=server)) + (f":{tag.decode()}" if tag else "")
    return Gtid(source, gno), times.get(7, times.get(6, 0))
