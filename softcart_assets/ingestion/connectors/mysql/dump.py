"""The connection over which a server sends its log, as packets and events of bytes.

This module does not know what an event means.
"""

from __future__ import annotations

import io
import re
import secrets
import struct
import time
import uuid
import zlib
from collections.abc import Generator, Iterator
from typing import Any

import pymysql
import zstandard

from softcart_assets.connections import MySQLConnection, ServerUnreachable
from softcart_assets.ingestion.connectors.mysql import private
from softcart_assets.ingestion.connectors.mysql.codes import is_transient
from softcart_assets.ingestion.connectors.mysql.events import FORMAT, PAYLOAD
from softcart_assets.ingestion.connectors.mysql.gtid import GtidSet
from softcart_assets.ingestion.connectors.mysql.schema import Bytes
from softcart_assets.ingestion.connectors.mysql.state import identity
from softcart_assets.ingestion.errors import (
    IngestionError,
    MissingGrant,
    PositionPurged,
    SourceLost,
    SourceRefused,
)

_HEADER = struct.Struct("<IBIB4xII2x")
"""A packet's length and number, its first byte, then an event's time, type, size and end
position."""
_EVENT = struct.Struct("<IB4xII2x")
_U16, _U32, _U64 = struct.Struct("<H"), struct.Struct("<I"), struct.Struct("<Q")
_RECEIVE = 1 << 20
_LONGEST = 0xFFFFFF
_HEARTBEAT_SECONDS = 1.0
_SILENCE_SECONDS = 30.0
"""Seconds without even a heartbeat after which the server counts as lost."""
_ANSWER_SECONDS = 60
"""The longest time for an answer before the log comes. The questions are small."""

Raw = tuple[int, int, int, int, bytes, int, int]
"""An event: type, time, end position (0: none), size, and the bytes that hold its body from one
index to another."""


class Dump:
    """A connection to a server that sends its log."""

    def __init__(self, connection: MySQLConnection, poll: float) -> None:
        self.connection = connection
        self.poll = poll
        self.where = f"MySQL at {connection.host}:{connection.port}"
        try:
            self._db = connection.connect(autocommit=True, answer_seconds=_ANSWER_SECONDS)
        except ServerUnreachable as error:
            raise self.explained(0, error) from None
        self._heard = time.monotonic()
        # A server hangs up on a replica if another one comes with the same number, so it is random.
        self.server_id = secrets.randbelow(1 << 31) + (1 << 31)
        try:
            self.is_mariadb = "MariaDB" in str(self.query("SELECT VERSION()")[0][0])
            self.server = identity(self.query)
        except BaseException:
            # Nobody else knows of the connection yet.
            self.close()
            raise

    def query(self, sql: str) -> list[tuple[str | None, ...]]:
        """Run a statement and return its rows as text. Raises as `explained` says."""
        try:
            with self._db.cursor() as cursor:
                cursor.execute(sql)
                return [
                    tuple(None if v is None else str(v) for v in row) for row in cursor.fetchall()
                ]
        except pymysql.MySQLError as error:
            raise self.explained(*error.args) from None

    def explained(self, code: Any = 0, message: Any = "", *_: object) -> IngestionError:
        """Translate an error of the server, or on the way to it, into what happened and what to
        do.
        """
        connection = self.connection
        if code in (1044, 1045, 1142, 1227):
            return MissingGrant(
                f"{self.where}: user {connection.user!r} may not read the binary log ({message}). "
                "Run GRANT REPLICATION CLIENT, REPLICATION SLAVE ON *.* TO "
                f"{connection.user!r}."
            )
        if not is_transient(code):
            return SourceRefused(
                f"{self.where} refuses to send its binary log ({code}: {message}). Nothing is "
                "lost. The same error comes back until its cause at the server is removed."
            )
        return SourceLost(
            f"{self.where} failed while its binary log was read ({code}: {message}). Nothing is "
            "lost: the next run continues from the committed position. If it persists, check the "
            f"server and {connection.prefix}_HOST, _PORT and _TLS_CA."
        )

    def start(self, file: str, offset: int, gtids: GtidSet | None) -> None:
        """Ask for the log from a position, or with GTIDs for everything that they lack."""
        checksum = self.query("SELECT @@global.binlog_checksum")[0][0]
        self._has_checksums = checksum == "CRC32"
        # Without saying that it knows checksums, a replica gets events without them.
        settings = [
            f"@master_binlog_checksum = '{checksum}', @source_binlog_checksum = '{checksum}'",
            # A silent server and a dead one look alike. Heartbeats tell them apart.
            f"@master_heartbeat_period = {int(_HEARTBEAT_SECONDS * 1e9)}",
            f"@source_heartbeat_period = {int(_HEARTBEAT_SECONDS * 1e9)}",
            # MySQL tells replicas apart by uuid and hangs up on an older one with the same.
            f"@slave_uuid = '{uuid.uuid4()}', @replica_uuid = @slave_uuid",
            # A slow target must not make the server hang up.
            "SESSION net_write_timeout = 3600",
        ]
        if self.is_mariadb:
            # Otherwise MariaDB takes us for an old replica and replaces GTID events by others.
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
        try:
            private.read_ok(self._db)
        except pymysql.MySQLError as error:
            raise self.explained(*error.args) from None
        if gtids is not None and not self.is_mariadb:
            data = gtids.encoded()
            self._command(0x1E, struct.pack("<HIIQI", 4, self.server_id, 0, 4, len(data)) + data)
        else:
            where = (4, b"") if gtids is not None else (offset, file.encode())
            self._command(0x12, struct.pack("<IHI", where[0], 0, self.server_id) + where[1])
        self._socket = private.socket_of(self._db)
        # Short, so that the caller can do other things while the log is silent.
        self._socket.settimeout(self.poll)

    def _command(self, command: int, data: bytes) -> None:
        try:
            private.send_command(self._db, command, data)
        except pymysql.MySQLError as error:
            raise self.explained(*error.args) from None

    def close(self) -> None:
        """Hang up. Whoever is reading at the moment gets `SourceLost`."""
        private.hang_up(self._db)

    @property
    def is_silent(self) -> bool:
        """Whether some heartbeats are missing. Then nobody knows where the log ends."""
        return time.monotonic() - self._heard > 3 * _HEARTBEAT_SECONDS

    def events(self) -> Iterator[Raw | None]:
        """Yield the events as they come, and None whenever nothing came for `poll` seconds."""
        unpack, checksum_at, crc32 = _HEADER.unpack_from, _U32.unpack_from, zlib.crc32
        has_checksums = self._has_checksums
        data, at, end = b"", 0, 0
        while True:
            if end - at >= 24:
                head, status, when, kind, size, position = unpack(data, at)
                stop = at + 4 + (head & _LONGEST)
                # The usual case: the whole event is in the buffer and can be read in place, without
                # a copy.
                is_plain = stop <= end and not status and head & _LONGEST < _LONGEST
            else:
                is_plain = False
            if is_plain:
                source, first, at = data, at + 5, stop
            else:
                source, data, at = yield from self._packet(data, at)
                end, first, stop = len(data), 1, len(source)
                # 0 stands for an event, 0xFF for an error, 0xFE for the end of the log.
                if source[0]:
                    raise self._ended(source)
                when, kind, size, position = _EVENT.unpack_from(source, 1)
            if kind == FORMAT:
                # It has room for a checksum in any case.
                # Each file describes itself: files from before a change of the setting may have no
                # checksums.
                has_checksums = source[stop - 5] == 1
                stop -= 4
            elif has_checksums:
                stop -= 4
                # A bit that changed on the way would become a wrong value in raw.
                if crc32(source[first:stop]) != checksum_at(source, stop)[0]:
                    raise SourceLost(
                        f"{self.where}: an event of the binary log that ends at {position} "
                        "arrived damaged (its checksum is "
                        "wrong). Nothing of it was used; reading again helps if the network was "
                        "at fault, `mysqlbinlog "
                        "--verify-binlog-checksum` on the server tells if its disk is."
                    )
            if kind == PAYLOAD:
                yield from _unpacked(source[first + 19 : stop], position)
            else:
                yield kind, when, position, size, source, first + 19, stop

    def _packet(self, data: bytes, at: int) -> Generator[None, None, tuple[bytes, bytes, int]]:
        """Return the next packet's payload, joined if it came in several packets.

        Also returns the data read behind it, and the index where it goes on.
        """
        parts = []
        while True:
            if len(data) - at < 4:
                data, at = (yield from self._receive(data[at:], 4)), 0
            need = 4 + int.from_bytes(data[at : at + 3], "little")
            if len(data) - at < need:
                data, at = (yield from self._receive(data[at:], need)), 0
            parts.append(data[at + 4 : at + need])
            at += need
            # A payload of 16 MB or more comes in several packets. All but the last one have the
            # full length.
            if need < 4 + _LONGEST:
                return b"".join(parts), data, at

    def _receive(self, data: bytes, need: int) -> Generator[None, None, bytes]:
        """Return the data, extended by reading until it has at least `need` bytes."""
        parts, have = [data], len(data)
        self._heard = time.monotonic()
        while have < need:
            try:
                chunk = self._socket.recv(_RECEIVE)
            except TimeoutError:
                if time.monotonic() - self._heard > _SILENCE_SECONDS:
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
            self._heard = time.monotonic()
        return b"".join(parts)

    def _ended(self, packet: bytes) -> IngestionError:
        """Return the exception for a packet that is not an event."""
        if packet[0] != 0xFF:
            return self.explained(0, "it ended the log, as when it shuts down")
        code, message = _U16.unpack_from(packet, 1)[0], packet[9:].decode(errors="replace")
        # 1236 stands for every error of reading the log. Only its text tells whether the log is
        # gone.
        if code == 1789 or (code == 1236 and re.search(_LOST, message, re.I)):
            return PositionPurged(message)
        return self.explained(code, message)


_LOST = (
    "could not find (first log|next log|gtid state)|purged|impossible position|could not open "
    "log|not in the master|missing"
    "|bogus data|truncated in the middle|did not pass crc|error reading packet|not found|unknown "
    "error reading log event"
)
"""The texts by which servers say that they do not have the requested log. They use the same error
number for other errors.
"""


def _unpacked(body: bytes, position: int) -> Iterator[Raw]:
    """Yield the events of a compressed transaction. All end where the transaction ends."""
    fields, compression = Bytes(body), 255
    while (name := fields.number()) != 0:
        value = Bytes(fields.text())
        if name == 2:
            compression = value.number()
    if compression not in (0, 255):
        raise IngestionError(
            f"The binary log has a transaction compressed in way {compression}, which is not "
            "known here."
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


def inflated(data: bytes) -> bytes:
    """Return what MariaDB has compressed.

    The first byte tells the method and the size of the length. Then come the length and the data.
    """
    if data[0] & 0xF0 != 0x80:
        raise IngestionError(
            f"The binary log has an event compressed in way {data[0]:#x}, which is not known here."
        )
    return zlib.decompress(data[1 + (data[0] & 7) :])
