"""The sink that brings the changes of a source's log into the running totals.

A change that raw refuses, or has already, changes nothing: see `feed`.
"""

from __future__ import annotations

import psycopg

from softcart_assets.ingestion.captured import Captured, CapturedTable
from softcart_assets.ingestion.changes import Changes
from softcart_assets.ingestion.errors import SchemaChanged
from softcart_assets.ingestion.position import Place, Position
from softcart_assets.ingestion.sinks.merge import table_failures
from softcart_assets.ingestion.sinks.ods import keeping
from softcart_assets.ingestion.sinks.ods.feed import MANY, Feed


class Totals:
    """The running totals of a source's captured tables."""

    def __init__(self, connection: psycopg.Connection, captured: Captured) -> None:
        self.connection, self.captured, self.source = connection, captured, captured.source
        self._feeds: dict[str, Feed] = {}
        self._tables: dict[str, CapturedTable] = {}
        self._to_restate: set[str] = set()
        keeping.forget_undeclared(connection, self.source)

    def begin(self, table: CapturedTable) -> None:
        """Make the totals of a table. If they do not fit its columns, it stops, with the reason."""
        if not keeping.is_declared(self.source, table.name):
            return
        try:
            totals = keeping.make(self.connection, self.source, table.name)
        except SchemaChanged as error:
            self._feeds.pop(table.name, None)
            self.captured.stop(table, str(error))
            return
        before = self._feeds.get(table.name)
        # The columns that count are the same: what was noted of this flush stays.
        if totals and (before is None or before.totals != totals):
            number = before.number if before else len(self._feeds)
            self._feeds[table.name] = Feed(self.connection, totals, number)
        self._tables[table.name] = table

    def since(self, table: CapturedTable) -> Position:
        """Return the position up to which changes are counted for good: that of raw."""
        return table.position

    def take(self, changes: Changes) -> None:
        """Note which rows change, and take their images from raw, which has not merged them yet."""
        feed = self._feeds.get(changes.table)
        if feed is None or not len(changes.rows):
            return
        # A table that was truncated, or read again, may bring more rows than it has left. A
        # column that the source has dropped is not read again, though raw keeps it.
        is_too_much = changes.before is None and feed.noted > MANY
        if is_too_much or not feed.can_note(changes.rows.schema.names):
            self._to_restate.add(changes.table)
        if changes.table in self._to_restate:
            return
        with table_failures(self._tables[changes.table]):
            feed.note(changes)

    def void(self) -> None:
        """Do nothing: rows that were noted and do not change have the same image before and
        after.
        """

    def flush(self, place: Place, committed_at: int | None) -> None:
        """Bring the differences into the totals."""
        noted = {name: feed for name, feed in self._feeds.items() if feed.noted}
        if not noted and not self._to_restate:
            return
        keeping.begin_change(self.connection, self.source.name)
        for name in sorted(self._to_restate):
            keeping.restate(self.connection, self.source, name)
        for name, feed in noted.items():
            with table_failures(self._tables[name]):
                if name not in self._to_restate:
                    feed.apply()
                feed.forget()
        self._to_restate.clear()

    def restate(self, connection: psycopg.Connection, table: str) -> None:
        """See `Sink`."""
        keeping.restate(connection, self.source, table)

    def discard(self) -> None:
        """Do nothing: everything is in PostgreSQL, and its transaction is rolled back."""
