"""What all ways to load a table share: the state, and the steps from batches to raw and the
lake.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Sequence
from contextlib import closing
from datetime import datetime
from threading import Lock

from softcart_assets.ingestion.connectors import connector
from softcart_assets.ingestion.engine.files import LoadFiles
from softcart_assets.ingestion.engine.parts import PartTable
from softcart_assets.ingestion.quarantine import Recorder
from softcart_assets.ingestion.readers import Reader
from softcart_assets.ingestion.request import Call
from softcart_assets.ingestion.sinks.lake import ChangeFiles
from softcart_assets.ingestion.sinks.ods.loads import Merges
from softcart_assets.ingestion.sinks.raw import Counts, RawTable
from softcart_assets.ingestion.types import Batch, Column
from softcart_assets.lines.model import Table


class LoadSteps:
    """One table's load under way.

    `raw` is used in the load's transaction, which began at `loaded_at`. `closed`: number of
    quarantine entries that this load settled.
    """

    reader: Reader
    raw: RawTable
    loaded_at: datetime
    position: str
    quarantine: Recorder
    is_new: bool
    """Whether there was no raw table before."""

    def __init__(self, call: Call, table: Table) -> None:
        self.call, self.table = call, table
        self.source, self.load_id = call.request.source, call.load_id
        self.connector = connector(self.source.kind)
        self.asset = f"{self.source.schema}/{table.name}"
        self.files = LoadFiles(call, table)
        self.part = PartTable(call.control, self.source, table, call.request.lake_uri)
        self.accounts = Lock()
        self.counts = Counts()
        self.closed = self.rows_read = self.bytes_read = 0
        self.cursor_value: str | None = None
        self.warnings: list[str] = []
        self.is_committing = self.is_resumable = self.is_widened = False
        self.was_empty = False
        """Whether every row was read into an empty raw table."""
        self.must_count = False
        """Whether the number of raw's rows does not follow from the last load's and `counts`."""
        self.totals: Merges | None = None
        """What merges bring to running totals, if no sink follows the table."""

    def _take_changes(self, columns: Sequence[Column], batches: Iterable[Batch]) -> None:
        """Stage some rows and merge those that differ from raw."""
        self.raw.stage(columns)
        self.take(self.raw.copy("pg_temp.incoming", columns, batches), columns)
        self.merge(columns, self.raw.find_changes(columns, missing_is_deleted=False))
        self.raw.refuse_shared_keys("pg_temp.incoming", is_all=False)
        self._note_cursor("pg_temp.incoming", columns)
        self.close_held_in("pg_temp.incoming")

    def take(
        self, batches: Generator[Batch], columns: Sequence[Column], *, to_lake: bool = False
    ) -> None:
        """Account for batches on their way into raw: progress, quarantine and, with `to_lake`, lake
        files.
        """
        on_progress = self.call.request.on_progress
        expected = self.reader.expected_rows(self.table) if on_progress else None
        are_rejected = False
        # Closed on every way out: an open COPY keeps the connection locked, and even its rollback
        # waits.
        with closing(batches):
            for batch in batches:
                if to_lake:
                    self.counts += Counts(inserted=len(batch.rows))
                    self._lake_files().write(columns, batch.rows)
                if batch.rejected:
                    self.quarantine.record(batch.rejected)
                    are_rejected = True
                self.account(batch, expected)
        if are_rejected and self.table.key:
            # Raw keeps the rows that were just rejected: they are at the source.
            self._hold(columns)

    def account(self, batch: Batch, expected: int | None) -> None:
        """Count a batch's rows and report progress. Several threads may call it at once."""
        with self.accounts:
            self.rows_read += len(batch.rows) + len(batch.rejected)
            self.bytes_read += batch.rows.nbytes
            if self.call.request.on_progress:
                self.call.request.on_progress(self.table.name, self.rows_read, expected)

    def merge(self, columns: Sequence[Column], found: Counts) -> None:
        """Bring the found changes into raw, its history and the lake."""
        # Nothing changed, so no file: an empty lake file per load would only cost those who read
        # them.
        if not found:
            return
        self.note_merge(columns, found)
        self.raw.apply_changes(columns, self.position)
        files = self._lake_files()
        for rows, deleted in self.raw.changed_rows(columns):
            files.write(columns, rows, deleted=deleted)

    def note_merge(self, columns: Sequence[Column], found: Counts) -> None:
        """Account for changes that are about to be merged."""
        self.counts += found
        # Where every row is read, all rows are counted, too.
        if self.totals and not (self.was_empty or self.must_count):
            rows = found.inserted + found.updated + found.deleted
            self.totals.note([column.name for column in columns], rows)

    def restate(self) -> None:
        """Write all rows of raw to the lake, deleted ones included, whatever the lake has."""
        if not self.table.key and self.files.is_begun:
            return  # This load has just written the whole table.
        columns = self.raw.columns()
        self.raw.find_own(columns)
        if not self.table.key:
            # A table without rows needs one row that says so.
            self.raw.connection.execute(
                "INSERT INTO pg_temp.changes (_deleted, _is_new) SELECT true, false WHERE NOT "
                "EXISTS (SELECT FROM pg_temp.changes)"
            )
        for rows, deleted in self.raw.changed_rows(columns):
            self._lake_files().write(columns, rows, deleted=deleted)

    def _hold(self, columns: Sequence[Column]) -> None:
        self.raw.hold(columns, self.quarantine.entries(self.call.request.released))

    def _note_cursor(self, relation: str, columns: Sequence[Column]) -> None:
        cursor = next((c for c in columns if c.name == self.table.cursor), None)
        if cursor:
            self.cursor_value = self.raw.latest_cursor(relation, cursor, self.cursor_value)

    def close_held_in(self, relation: str) -> None:
        """Close the quarantine entries of rows that are loaded now."""
        if self.table.key:
            self._close(self.raw.held_in(relation), "mended")

    def _close(self, entries: Sequence[int], because: str) -> None:
        self.closed += self.quarantine.close(entries, because, self.call.request.released)

    def _lake_files(self) -> ChangeFiles:
        """Return the load's change files. The first call records the attempt."""
        return self.files.changes(self.loaded_at, self.position)
