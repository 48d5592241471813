"""The load of a MongoDB collection.

It is the engine's load. If the first documents suggested columns that later ones do not fit, all
rows are written a second time.
"""

from __future__ import annotations

from collections.abc import Sequence

from softcart_assets.ingestion.connectors.mongodb.reader import MongoReader
from softcart_assets.ingestion.connectors.mongodb.spool import Misjudged
from softcart_assets.ingestion.engine.table import TableLoad
from softcart_assets.ingestion.types import Column


class CollectionLoad(TableLoad):
    """The load of one collection."""

    reader: MongoReader

    def _full(self, columns: Sequence[Column]) -> Sequence[Column]:
        """Read every document, and once more from the spool if the columns were misjudged."""
        before = {
            name: getattr(self, name)
            for name in ("counts", "closed", "rows_read", "bytes_read", "cursor_value")
        }
        recorded = self.quarantine.new
        # Only before the first file: else all that the load has written would have to go, too.
        if not self.files.is_begun:
            self.reader.hurry(self.table)
        try:
            # A savepoint, so that a misjudged attempt can be taken back without the whole load.
            with self.raw.connection.transaction():
                return super()._full(columns)
        except Misjudged:
            self.files.discard()
            # The counts belong to the attempt: its rows must not be counted twice.
            vars(self).update(before)
            self.quarantine.new = recorded
            return super()._full(columns)
