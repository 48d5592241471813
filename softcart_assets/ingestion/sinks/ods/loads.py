"""What a load that follows no log brings to the running totals of its table."""

from __future__ import annotations

from collections.abc import Sequence

import psycopg

from softcart_assets.ingestion.errors import SchemaChanged
from softcart_assets.ingestion.sinks.ods import keeping
from softcart_assets.ingestion.sinks.ods.feed import MANY, Feed
from softcart_assets.ingestion.sinks.ods.table import TotalTable
from softcart_assets.lines.model import Source


class Merges:
    """Notes which rows the merges of a load change, as long as these are few."""

    def __init__(self, connection: psycopg.Connection, source: Source, table: str) -> None:
        self.connection, self.source, self.table = connection, source, table
        self._feed: Feed | None = None
        self._is_whole = True
        """Whether every merge was noted."""

    def note(self, names: Sequence[str], count: int) -> None:
        """Note the rows of `pg_temp.changes`, before they are merged. `names`: their columns."""
        self._is_whole = self._is_whole and self._note(names, count)

    def _note(self, names: Sequence[str], count: int) -> bool:
        try:
            totals = keeping.totals_of(self.connection, self.source, self.table)
        except SchemaChanged:
            # The next rows may bring what is missing. If not, the end of the load says so.
            return False
        feed = self._feed = self._feed or Feed(self.connection, totals, 0)
        if feed.totals != totals or not feed.can_note(names) or feed.noted + count > MANY:
            return False
        feed.note_found(count)
        return True

    def bring(self, totals: Sequence[TotalTable]) -> bool:
        """Bring what has changed into the totals. False: only a recount can tell it."""
        if not self._is_whole or (self._feed and self._feed.totals != totals):
            return False
        if self._feed:
            self._feed.apply()
        return True
