"""The tables that are captured from a source's log, and how far each of them is: what is committed
of them.

The rows of `ingestion.streams` and `ingestion.captures` are read and written here. Which changes a
table gets is not decided here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import psycopg

from softcart_assets.ingestion.errors import TableBusy
from softcart_assets.ingestion.position import Place, Position
from softcart_assets.ingestion.types import Column
from softcart_assets.lines.model import Source, Table


@dataclass
class CapturedTable:
    """A captured table as the target has it.

    `columns`: those that raw has. `position`: its changes up to here are in raw. `consistent_at`:
    up to here some of its rows may be newer than the log. `lake_position`: its changes up to here
    are in the lake. `open_entries`: its rows in quarantine. `stopped`: why it does not go on.
    `stale_since`: from here on, rows may have values that the log does not show. `dropped`: columns
    of raw that the source no longer has.
    """

    table: Table
    asset: str
    columns: list[Column]
    position: Position
    consistent_at: Position
    lake_position: Position
    open_entries: int
    stopped: str | None = None
    stale_since: Position | None = None
    dropped: Sequence[str] = ()
    is_retyped: bool = False
    """Whether raw's values became others of another type, of which the lake has not been told
    yet."""

    @property
    def name(self) -> str:
        """The table's name."""
        return self.table.name


class TableFailed(Exception):
    """PostgreSQL refuses a table's changes for what they are; the others can go on without it."""

    def __init__(self, table: str, reason: str) -> None:
        super().__init__(reason)
        self.table, self.reason = table, reason


def moment_of(microseconds: int | None) -> datetime | None:
    """A commit time of the log as PostgreSQL takes it."""
    return None if microseconds is None else datetime.fromtimestamp(microseconds / 1_000_000, UTC)


def capture(
    connection: psycopg.Connection,
    source: str,
    table: str,
    position: Position,
    consistent_at: Position,
) -> None:
    """Follow a table whose rows were copied at `position`, some perhaps later, up to
    `consistent_at`.

    Belongs into the transaction that brings the rows. If the stream is past that position already,
    it goes back, and every other table stays where it is.
    """
    row = connection.execute(
        "SELECT position, lake_position FROM ingestion.streams WHERE source = %s FOR UPDATE",
        (source,),
    ).fetchone()
    assert row
    # The row is locked, so that no follower moves the stream meanwhile.
    at, lake_at = map(Position.parse, row)
    if position < at:
        live = connection.execute(
            "SELECT table_name, position, lake_position FROM ingestion.captures"
            " WHERE source = %s AND state = 'live'",
            (source,),
        ).fetchall()
        # The stream's position no longer stands for the other tables: each gets it as its own.
        for name, own, in_lake in live:
            connection.execute(
                "UPDATE ingestion.captures SET position = %s, lake_position = %s"
                " WHERE source = %s AND table_name = %s",
                (
                    max(Position.parse(own), at),
                    max(Position.parse(in_lake), lake_at),
                    source,
                    name,
                ),
            )
        connection.execute(
            "UPDATE ingestion.streams SET position = %s, lake_position = %s WHERE source = %s",
            (position, min(position, lake_at), source),
        )
    connection.execute(
        "INSERT INTO ingestion.captures (source, table_name, state, position, consistent_at, "
        "lake_position)"
        " VALUES (%s, %s, 'live', %s, %s, %s) ON CONFLICT (source, table_name) DO UPDATE SET "
        "state = 'live', reason = NULL,"
        " position = EXCLUDED.position, consistent_at = EXCLUDED.consistent_at, lake_position = "
        "EXCLUDED.lake_position,"
        " stale_since = NULL, changed_at = NULL, rows_inserted = 0, rows_updated = 0, "
        "rows_deleted = 0",
        (source, table, position, consistent_at, position),
    )


class Captured:
    """A source's captured tables and its place in the log, over the connection that holds the
    source.

    Whatever fails, the connection is to be closed and a new `Captured` made: it takes up what was
    committed.
    """

    def __init__(self, source: Source, connection: psycopg.Connection) -> None:
        self.source, self.connection = source, connection
        self.tables: dict[str, CapturedTable] = {}
        self.place: Place | None = None
        self.lake_place: Place | None = None
        self.committed_at: datetime | None = None

    def read(self) -> list[CapturedTable]:
        """Take up what is committed; the tables that are new since the last time."""
        self._forget_undeclared()
        row = self.connection.execute(
            "SELECT position, gtid, server, lake_position, lake_gtid, lake_server, committed_at"
            " FROM ingestion.streams WHERE source = %s",
            (self.source.name,),
        ).fetchone()
        if row:
            position, gtid, server, lake_position, lake_gtid, lake_server, self.committed_at = row
            self.place = Place(Position.parse(position), gtid, server)
            self.lake_place = Place(Position.parse(lake_position), lake_gtid, lake_server)
        rows = self.connection.execute(
            "SELECT c.table_name, c.position, c.consistent_at, c.lake_position, c.reason, "
            "c.stale_since, c.dropped,"
            " (SELECT count(*) FROM ingestion.quarantine q WHERE q.source = c.source AND "
            "q.table_name = c.table_name"
            " AND closed_at IS NULL) FROM ingestion.captures c WHERE c.source = %s",
            (self.source.name,),
        ).fetchall()
        known = {name: rest for name, *rest in rows}
        new = [
            self._table(declared, *known[declared.name])
            for declared in self.source.tables
            if declared.strategy == "cdc"
            and declared.name in known
            and declared.name not in self.tables
        ]
        self.tables |= {table.name: table for table in new}
        return new

    def _forget_undeclared(self) -> None:
        # What is not followed any more misses changes from now on.
        self.connection.execute(
            "DELETE FROM ingestion.captures WHERE source = %s AND table_name <> ALL(%s)",
            (
                self.source.name,
                [table.name for table in self.source.tables if table.strategy == "cdc"],
            ),
        )

    def _table(
        self,
        declared: Table,
        position: str,
        consistent_at: str,
        lake_position: str,
        reason: str | None,
        stale_since: str | None,
        dropped: Sequence[str],
        open_entries: int,
    ) -> CapturedTable:
        assert self.place
        assert self.lake_place
        at, in_lake = Position.parse(position), Position.parse(lake_position)
        if not reason:
            # A live table stands at the stream's position, unless its own is further.
            at = max(at, self.place.position)
            in_lake = max(in_lake, self.lake_place.position)
        return CapturedTable(
            declared,
            f"{self.source.schema}/{declared.name}",
            [],
            at,
            Position.parse(consistent_at),
            in_lake,
            open_entries,
            reason,
            Position.parse(stale_since) if stale_since else None,
            dropped,
        )

    @property
    def live(self) -> list[CapturedTable]:
        """The tables that go on."""
        return [table for table in self.tables.values() if not table.stopped]

    def stop(self, table: CapturedTable, reason: str) -> None:
        """Let a table stand where it is, and say why."""
        table.stopped = reason
        self.connection.execute(
            "UPDATE ingestion.captures SET state = 'stopped', reason = %s, position = %s, "
            "lake_position = %s"
            " WHERE source = %s AND table_name = %s",
            (reason, table.position, table.lake_position, self.source.name, table.name),
        )

    def note_stale(self, table: CapturedTable, position: Position | None) -> None:
        """From a position on, rows may have values that the log does not show.

        None: they were read again.
        """
        table.stale_since = position
        self.connection.execute(
            "UPDATE ingestion.captures SET stale_since = %s WHERE source = %s AND table_name = %s",
            (position, self.source.name, table.name),
        )

    def note_emptied(self, table: CapturedTable, position: Position) -> None:
        """At a position, all rows went at once."""
        self.connection.execute(
            "UPDATE ingestion.captures SET emptied_at = %s WHERE source = %s AND table_name = %s",
            (position, self.source.name, table.name),
        )

    def emptied_at(self, table: CapturedTable) -> Position | None:
        """Where all rows of a table went at once the last time."""
        row = self.connection.execute(
            "SELECT emptied_at FROM ingestion.captures WHERE source = %s AND table_name = %s",
            (self.source.name, table.name),
        ).fetchone()
        return Position.parse(row[0]) if row and row[0] else None

    def leave_server(self) -> None:
        """Another server goes on, whose positions lie behind all earlier ones.

        If some tables, or rows of them, are further than the stream, which went back for one that
        is new, positions no longer tell what they have, and the GTIDs may be those from before it
        went back: all have to be read again.
        """
        assert self.place
        at = self.place.position
        if any(max(table.position, table.consistent_at) > at for table in self.live):
            for table in self.live:
                self.note_stale(table, table.position)
        self.connection.commit()

    def commit(
        self, place: Place, committed_at: int | None, lake_place: Place | None = None
    ) -> None:
        """Move the stream to `place`, and the lake's if given, and commit the transaction with all
        that it holds.

        A place before the present one, as while the log is read again for the lake, leaves it where
        it is.
        """
        assert self.place
        if place.position <= self.place.position:
            place = self.place
        moment = moment_of(committed_at)
        lake = lake_place or self.lake_place
        assert lake
        # The condition on the position keeps a second follower, whose lock was lost, from moving
        # it, too.
        done = self.connection.execute(
            "UPDATE ingestion.streams SET position = %s, gtid = %s, server = %s, lake_position = "
            "%s, lake_gtid = %s,"
            " lake_server = %s, committed_at = coalesce(%s, committed_at), updated_at = now()"
            " WHERE source = %s AND position = %s",
            (
                place.position,
                place.gtid,
                place.server,
                lake.position,
                lake.gtid,
                lake.server,
                moment,
                self.source.name,
                self.place.position,
            ),
        )
        if not done.rowcount:
            raise TableBusy(
                f"{self.source.schema}: somebody else has moved the stream of source "
                f"{self.source.name!r} meanwhile. Nothing of "
                "this flush was committed."
            )
        self.connection.commit()
        self.place, self.lake_place = place, lake
        self.committed_at = moment or self.committed_at
        # Only now: a commit that failed must not leave tables further than they are.
        for table in self.live:
            table.position = max(table.position, place.position)
            if lake_place:
                table.lake_position = max(table.lake_position, lake_place.position)
