"""The tables that are captured from a source's log, and how far each one is committed.

This module reads and writes the rows of `ingestion.streams` and `ingestion.captures`. It does not
decide which changes a table gets.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import psycopg

from softcart_assets.ingestion.errors import TableBusy
from softcart_assets.ingestion.position import Place, Position
from softcart_assets.ingestion.proof import statements
from softcart_assets.ingestion.quarantine import count_changed
from softcart_assets.ingestion.types import Column
from softcart_assets.lines.model import Source, Table


@dataclass
class CapturedTable:
    """A captured table as the target has it.

    `columns`: the columns of raw. `position`: changes up to here are in raw. `consistent_at`: up to
    here some rows may be newer than the log. `lake_position`: changes up to here are in the lake.
    `open_entries`: rows in quarantine. `stopped`: why the table does not go on. `stale_since`: from
    here on, rows may have values that the log does not show. `dropped`: columns of raw that the
    source no longer has.
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
    """Whether raw's values got another type that the lake does not have yet."""

    @property
    def name(self) -> str:
        """The table's name."""
        return self.table.name


class TableFailed(Exception):
    """PostgreSQL refuses a table's changes because of their content. Other tables can go on without
    it.
    """

    def __init__(self, table: str, reason: str) -> None:
        super().__init__(reason)
        self.table, self.reason = table, reason


def moment_of(microseconds: int | None) -> datetime | None:
    """Convert a commit time of the log (microseconds since 1970) for PostgreSQL."""
    return None if microseconds is None else datetime.fromtimestamp(microseconds / 1_000_000, UTC)


def capture(
    connection: psycopg.Connection,
    source: str,
    table: str,
    position: Position,
    consistent_at: Position,
) -> None:
    """Follow a table whose rows were copied at `position`. Some may have been copied later, up to
    `consistent_at`.

    Must run in the transaction that brings the rows. If the stream is already past `position`, it
    goes back, and every other table keeps its own position.
    """
    row = connection.execute(
        "SELECT position, lake_position FROM ingestion.streams WHERE source = %s FOR UPDATE",
        (source,),
    ).fetchone()
    assert row
    # The row is locked, so that no follower moves the stream meanwhile.
    at, lake_at = map(Position.parse, row)
    # Without this step, a table that is declared later loses the changes between its copy and the
    # stream's position (apache/flink-cdc#1486).
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
                    # Compared here and not by SQL's `greatest`: as text, log file 1000000 comes
                    # before 999999.
                    max(Position.parse(own), at),
                    max(Position.parse(in_lake), lake_at),
                    source,
                    name,
                ),
            )
        connection.execute(
            "UPDATE ingestion.streams SET position = %s, lake_position = %s WHERE source = %s",
            # The lake's place goes back with it. The other tables keep their own lake positions,
            # see above.
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
    # The record of the copy tells of its entries.
    count_changed(connection, source, table)


class Captured:
    """A source's captured tables and its place in the log, over the connection that holds the
    source.

    After any failure, close the connection and make a new `Captured`. It continues from what is
    committed.
    """

    def __init__(self, source: Source, connection: psycopg.Connection) -> None:
        self.source, self.connection = source, connection
        self.tables: dict[str, CapturedTable] = {}
        self.place: Place | None = None
        self.lake_place: Place | None = None
        self.committed_at: datetime | None = None

    def read(self) -> list[CapturedTable]:
        """Read what is committed. Returns the tables that are new since the last call."""
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
        # What is not followed any more misses changes from now on. A raw table that somebody has
        # dropped, such as one with another key, is copied anew.
        self.connection.execute(
            "DELETE FROM ingestion.captures WHERE source = %s AND (table_name <> ALL(%s)"
            " OR to_regclass(format('%%I.%%I', %s::text, table_name)) IS NULL)",
            (
                self.source.name,
                [table.name for table in self.source.tables if table.strategy == "cdc"],
                self.source.schema,
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
        """Stop a table where it is, and record why."""
        table.stopped = reason
        self.connection.execute(
            "UPDATE ingestion.captures SET state = 'stopped', reason = %s, position = %s, "
            "lake_position = %s"
            " WHERE source = %s AND table_name = %s",
            (reason, table.position, table.lake_position, self.source.name, table.name),
        )

    def note_stale(self, table: CapturedTable, position: Position | None) -> None:
        """Note that from a position on, rows may have values that the log does not show.

        None: the rows were read again.
        """
        table.stale_since = position
        if position:
            reason = f"rows may have changed without a trace in the log at {position}"
            statements.lose(self.connection, self.source.name, table.name, reason)
        self.connection.execute(
            "UPDATE ingestion.captures SET stale_since = %s WHERE source = %s AND table_name = %s",
            (position, self.source.name, table.name),
        )

    def note_emptied(self, table: CapturedTable, position: Position) -> None:
        """Note that all rows went at once at a position."""
        statements.empty(self.connection, self.source.name, table.name)
        self.connection.execute(
            "UPDATE ingestion.captures SET emptied_at = %s WHERE source = %s AND table_name = %s",
            (position, self.source.name, table.name),
        )

    def emptied_at(self, table: CapturedTable) -> Position | None:
        """Return where all rows of a table last went at once, None if never."""
        row = self.connection.execute(
            "SELECT emptied_at FROM ingestion.captures WHERE source = %s AND table_name = %s",
            (self.source.name, table.name),
        ).fetchone()
        return Position.parse(row[0]) if row and row[0] else None

    def leave_server(self) -> None:
        """Prepare for another server, whose positions lie behind all earlier ones.

        The stream may have gone back for a new table, so that other tables, or rows of them, are
        further than the stream. Then their positions no longer tell what they have. The GTIDs may
        be those from before it went back. So all tables have to be read again.
        """
        assert self.place
        at = self.place.position
        if any(max(table.position, table.consistent_at) > at for table in self.live):
            for table in self.live:
                self.note_stale(table, table.position)
        self.connection.commit()

    def commit(
        self,
        place: Place,
        committed_at: int | None,
        lake_place: Place | None = None,
        complete_at: float | None = None,
    ) -> None:
        """Move the stream to `place` (and the lake to `lake_place` if given), and commit the
        transaction. `complete_at`: what was committed at the source until then is in it.

        A place before the present one does not move the stream. This happens while the log is read
        again for the lake.
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
            " lake_server = %s, committed_at = coalesce(%s, committed_at),"
            " complete_at = greatest(complete_at, to_timestamp(%s)), updated_at = now()"
            " WHERE source = %s AND position = %s",
            (
                place.position,
                place.gtid,
                place.server,
                lake.position,
                lake.gtid,
                lake.server,
                moment,
                complete_at,
                self.source.name,
                self.place.position,
            ),
        )
        if not done.rowcount:
            raise TableBusy(
                f"{self.source.schema}: another process has moved the stream of source "
                f"{self.source.name!r} meanwhile. Nothing of this flush was committed. Make sure "
                "that only one process follows the source, then run it again."
            )
        self.connection.commit()
        self.place, self.lake_place = place, lake
        self.committed_at = moment or self.committed_at
        # Only now: a commit that failed must not leave tables further than they are. In another
        # tool, the position moved although the target had refused the changes, and they were lost
        # (airbytehq/airbyte#48717).
        for table in self.live:
            table.position = max(table.position, place.position)
            if lake_place:
                table.lake_position = max(table.lake_position, lake_place.position)
