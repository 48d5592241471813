"""Reads the binary log of MySQL and MariaDB as a replica does: transactions, positions,
definitions.

This module has what the replication protocol says. Values of rows stay bytes, as they are in the
log. It does not decide what becomes of events.

An XA transaction counts when it is committed. Its rows are logged when it is prepared, and are read
again at the commit, so nothing is held in between. A transaction with a part that was rolled back
to a savepoint is read again as well. It reaches the log only if it also changed tables without
transactions.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import closing, contextmanager

import pymysql

from softcart_assets.connections import MySQLConnection, ServerUnreachable
from softcart_assets.ingestion.connectors.mysql import charsets
from softcart_assets.ingestion.connectors.mysql.definitions import Definitions
from softcart_assets.ingestion.connectors.mysql.dump import Dump
from softcart_assets.ingestion.connectors.mysql.events import Event
from softcart_assets.ingestion.connectors.mysql.gtid import GtidSet
from softcart_assets.ingestion.connectors.mysql.names import Wanted, ignores_case
from softcart_assets.ingestion.connectors.mysql.refusals import Refusals
from softcart_assets.ingestion.connectors.mysql.session import Session
from softcart_assets.ingestion.connectors.mysql.transactions import Transactions
from softcart_assets.ingestion.errors import IngestionError, PositionPurged, SourceLost
from softcart_assets.ingestion.position import Position


class BinaryLog:
    """The log of one server from a position on, as events in its order. Iterate over it once.

    `tables`: the tables whose rows are given, their names at the source by their names here. A
    `TableMap` has the latter. `position` and `server`: where reading goes on, and whose position
    that is (empty: the connected server's). If another server answers, reading goes on by `gtids`,
    the transactions read so far, and its positions are of the next epoch. `end`: reading stops
    exactly there, before anything later. Without it, reading never stops by itself. `poll`: seconds
    without an event until an `Idle` comes. The attribute `server` tells who is read, and `wanted`
    what the server calls the tables.

    Raises `SourceLost` if the connection breaks: then open a new one with the last committed
    position. Raises `PositionPurged` if the server no longer has what follows.
    """

    def __init__(
        self,
        source: str,
        connection: MySQLConnection,
        tables: Mapping[str, str],
        position: Position,
        *,
        server: str = "",
        gtids: GtidSet | None = None,
        end: Position | None = None,
        poll: float = 0.05,
    ) -> None:
        self._source, self._connection = source, connection
        self._requested = position
        self._is_closed = False
        self._other: BinaryLog | None = None
        """Where a transaction is read again."""
        self._dump = Dump(connection, poll)
        try:
            self.server = self._dump.server
            self._before = server if server != self.server else ""
            is_other = bool(self._before)
            # The command for a position has four bytes for the offset. Farther on, only GTIDs lead.
            is_far = bool(position.offset >> 32)
            if (is_other or is_far) and not gtids:
                raise self._without_gtids(server, is_other=is_other)
            if is_other:
                self._check_has(gtids)
            self.wanted = Wanted(connection.database, tables, ignores_case(self._dump.query))
            self._check_names()
            self._definitions = Definitions(
                self.wanted,
                charsets.fetch_charsets(
                    self._dump.query, connection.database, is_mariadb=self._dump.is_mariadb
                ),
                self._dump.is_mariadb,
                self._session,
            )
            # Another server's first file is not known before it comes.
            at = Position(position.epoch + 1, "", 0, 4) if is_other else position
            self._transactions = Transactions(
                self._dump,
                self._definitions,
                Refusals(source, self.wanted, position),
                at,
                end.in_epoch(at.epoch) if end else None,
                self,
                is_file_known=not is_other,
            )
            # By position where possible: that also works on servers without GTIDs.
            self._dump.start(position.file, position.offset, gtids if is_other or is_far else None)
        except BaseException:
            self._dump.close()
            raise

    def _without_gtids(self, server: str, *, is_other: bool) -> PositionPurged:
        connection = self._connection
        if is_other:
            return PositionPurged(
                f"Source {self._source!r}: the position {self._requested} is one of server "
                f"{server or self.server!r}, but "
                f"{connection.host}:{connection.port} is server {self.server!r}, and no GTIDs "
                "were recorded by which to go on. "
                f"Check {connection.prefix}_HOST. If the server was really replaced, run "
                f"`softcart resnapshot {self._source}`."
            )
        return PositionPurged(
            f"Source {self._source!r}: the position {self._requested} lies so far behind its "
            "file's start that only GTIDs could "
            f"lead there, and none were recorded. Run `softcart resnapshot {self._source}`."
        )

    def _check_names(self) -> None:
        """Raise `IngestionError` if two wanted tables are one at the source."""
        if same := self.wanted.twice():
            raise IngestionError(
                f"Source {self._source!r}: the tables {same[0]!r} and {same[1]!r} are both "
                f"`{self.wanted.tables[same[1]]}` at the source, and each change can go to one "
                "of them only. Remove one from the declaration."
            )

    def _check_has(self, gtids: GtidSet | None) -> None:
        """Raise `PositionPurged` if another server lacks what was read from the one before it."""
        if self._dump.is_mariadb:
            # It refuses by itself what it does not know.
            # MySQL would go on as if nothing were wrong.
            return
        lacking = self._dump.query(f"SELECT GTID_SUBTRACT('{gtids}', @@global.gtid_executed)")[0][0]
        if lacking:
            raise PositionPurged(
                f"Source {self._source!r}: {self._dump.where} is server {self.server!r}, and it "
                f"does not have transactions that were read from the server before it, "
                f"{self._before!r} ({lacking}). Check {self._connection.prefix}_HOST and _PORT. If "
                "it is a replica that lags, try again when it has them. If they were lost in the "
                f"fail-over, or the server was really replaced, run `softcart resnapshot "
                f"{self._source}`."
            )

    def close(self) -> None:
        """Hang up, from any thread. An iteration in progress ends."""
        # Set first: what fails for this reason is the end that was asked for, and no error.
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
            yield from self._transactions.read()
        except PositionPurged as error:
            raise self._purged(str(error)) from None
        except SourceLost:
            if not self._is_closed:
                raise

    def _purged(self, message: str) -> PositionPurged:
        connection = self._connection
        if self._before:
            return PositionPurged(
                f"Source {self._source!r}: {self._dump.where} is server {self.server!r}, and its "
                f"log was followed on server {self._before!r} up to {self._requested}. The present "
                f"one does not have what follows there ({message}). Check {connection.prefix}_HOST "
                f"and _PORT. If the server was really replaced, run `softcart resnapshot "
                f"{self._source}`."
            )
        try:
            with self._session() as session:
                files = [str(row[0]) for row in session.query("SHOW BINARY LOGS")]
            has = f"It has {files[0]} to {files[-1]}" if files else "It has no binary log"
        except IngestionError:
            has = "Its list of log files could not be read"
        return PositionPurged(
            f"Source {self._source!r}: {self._dump.where} no longer has the binary log that "
            f"follows position {self._requested} "
            f"({message}). {has}. Take a new snapshot: run `softcart resnapshot {self._source}`. "
            "Have the server keep its log longer than any pause (binlog_expire_logs_seconds). If "
            f"this is not the server that was read before, check {connection.prefix}_HOST and "
            "_PORT: some servers cannot be told apart."
        )

    @contextmanager
    def _session(self) -> Iterator[Session]:
        """Open another connection, for questions."""
        try:
            with closing(Session(self._connection)) as session:
                yield session
        except pymysql.MySQLError as error:
            raise self._dump.explained(*error.args) from None
        except ServerUnreachable as error:
            raise self._dump.explained(0, error) from None

    def again(self, start: Position, void: Collection[range] = ()) -> Iterator[Event]:
        """Read a transaction of this server once more, over another connection.

        The rows events numbered in `void` are left out.
        """
        with BinaryLog(self._source, self._connection, self.wanted.tables, start) as self._other:
            # The definitions are shared, so that both give the same object for the same table.
            self._other._definitions.known = self._definitions.known
            yield from self._other._transactions.read(only_group=True, void=void)

    def prepared_rows(self, xid: str, now: Position) -> Iterator[Event]:
        """Yield the rows of an XA transaction that is committed at `now`."""
        start = self._transactions.prepared.pop(xid, None)
        if not self.wanted.tables:
            return
        if start is None:
            # Prepared before we started: look for it from the oldest file on.
            with self._session() as session:
                oldest = session.query("SHOW BINARY LOGS")[0][0]
            with BinaryLog(
                self._source, self._connection, {}, Position.parse(f"{oldest}:4"), end=now
            ) as self._other:
                for _ in self._other:
                    pass
                start = self._other._transactions.prepared.get(xid)
        if start is None:
            raise PositionPurged(
                f"XA transaction {xid}, committed at {now}, was prepared before its oldest file"
            )
        yield from self.again(start)
