"""The change log in the lake: every row change as logged, with operation, commit time and position.

This module writes the files and lists them. A file counts once it is listed, in the transaction
that moves the lake's position past its content. After a kill, the log is read again from that
position, and unlisted files are removed.
"""

from __future__ import annotations

import tempfile
import uuid
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from typing import IO

import psycopg
import pyarrow as pa
import pyarrow.compute as pc

from softcart_assets.ingestion.captured import CapturedTable
from softcart_assets.ingestion.changes import DELETE, UNLOADED, Changes, Run
from softcart_assets.ingestion.position import Place, Position
from softcart_assets.ingestion.sinks.lake import ChangeFiles, list_file, next_version, remove_files
from softcart_assets.lines.model import Source

_SPILLED_ROWS = 20_000
_OPERATIONS = ["delete", "insert", "update", None, None]


class ChangeLog:
    """The unlisted files of all tables of a source.

    `control` commits each statement by itself.
    """

    def __init__(
        self, control: psycopg.Connection, source: Source, lake_uri: str, load_id: str | None = None
    ) -> None:
        self.control, self.source, self.lake_uri = control, source, lake_uri
        self.load_id = load_id or str(uuid.uuid4())
        self.bytes = 0
        self._files: dict[str, ChangeFiles] = {}
        self._waiting: list[_Spilled] = []

    def begin(self, table: CapturedTable) -> None:
        """Do nothing: the first change opens a file."""

    def since(self, table: CapturedTable) -> Position:
        """Return the position up to which a table's changes are in listed files, or in the present
        ones.
        """
        return table.lake_position

    def take(self, changes: Changes) -> None:
        """Add changes. Uncommitted ones wait for `flush` in a temporary file, because they may be
        large.
        """
        if not len(changes.rows):
            return
        if self._waiting:
            # The rest of a transaction of which a part waits, in its order.
            self._waiting.append(_Spilled(changes))
        elif not changes.is_open:
            self._write(changes)
        else:
            if len((committed := changes.committed()).rows):
                self._write(committed)
            # Each row in the lake has its position and commit time. An open transaction has neither
            # yet.
            self._waiting.append(_Spilled(changes.uncommitted()))

    def flush(self, place: Place, committed_at: int | None) -> None:
        """Add the changes that waited: their transaction is committed at this place."""
        for spilled in self._waiting:
            for changes in spilled.read(place.position, committed_at):
                self._write(changes)
        self._waiting.clear()

    def restate(self, connection: psycopg.Connection, table: str) -> None:
        """Do nothing: a load writes lake files of its own."""

    def void(self) -> None:
        """Forget the changes that waited: they were rolled back."""
        self._waiting.clear()

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to list."""
        return not self._files and not self._waiting

    def _write(self, changes: Changes) -> None:
        positions, times = changes.per_row
        own = {
            "_position": positions,
            # Not an array of this module's: to make one, Arrow imports pandas, which takes 0.4 CPU
            # seconds in each process that loads the definitions.
            "_operation": pa.array(_OPERATIONS).take(changes.operations),
            "_committed_at": times,
        }
        deleted = pc.is_in(changes.operations, pa.array([DELETE, UNLOADED], pa.int8()))
        self._open(changes.table).write(changes.columns, changes.rows, deleted=deleted, own=own)
        self.bytes += changes.rows.nbytes

    def _open(self, table: str) -> ChangeFiles:
        if table not in self._files:
            now = self.control.execute("SELECT clock_timestamp()").fetchone()
            assert now
            files = ChangeFiles(
                self.lake_uri,
                self.source.name,
                table,
                self.load_id,
                now[0],
                "",
                next_version(self.control),
            )
            # Committed at once, so that whoever comes after a kill knows of the files.
            self.control.execute(
                "INSERT INTO ingestion.attempts (load_id, source, table_name, directory) VALUES "
                "(%s, %s, %s, %s)"
                " ON CONFLICT DO NOTHING",
                (self.load_id, self.source.name, table, files.directory),
            )
            self._files[table] = files
        return self._files[table]

    def list_in(self, connection: psycopg.Connection) -> None:
        """Finish the files and list them, in the transaction of `connection`.

        Call `renew` after its commit.
        """
        for table, files in self._files.items():
            for file in files.close():
                list_file(connection, self.source, table, self.load_id, file)
            connection.execute(
                "DELETE FROM ingestion.attempts WHERE load_id = %s AND source = %s AND table_name "
                "= %s",
                (self.load_id, self.source.name, table),
            )

    def renew(self) -> None:
        """Start new files."""
        # A listed file is never written again: readers may have it open.
        self.load_id = str(uuid.uuid4())
        self._files.clear()
        self.bytes = 0

    def discard(self) -> None:
        """Remove the files that are not listed."""
        self._waiting.clear()
        for table, files in self._files.items():
            with suppress(Exception):  # what cannot be removed now is removed at the next start
                files.discard()
                self.control.execute(
                    "DELETE FROM ingestion.attempts WHERE load_id = %s AND source = %s AND "
                    "table_name = %s",
                    (self.load_id, self.source.name, table),
                )
        self.renew()

    def remove_orphans(self) -> None:
        """Remove the files that a killed process left of captured tables.

        No other process is running, because we hold the source.
        """
        tables = [table.name for table in self.source.tables if table.strategy == "cdc"]
        attempts = self.control.execute(
            # Files of finished key ranges are kept: the next copy of that table goes on with them.
            "SELECT a.load_id, a.table_name, a.directory, array(SELECT f ->> 'path' FROM "
            "ingestion.snapshot_ranges r,"
            " jsonb_array_elements(r.files) f WHERE (r.source, r.table_name) = (a.source, "
            "a.table_name))"
            " FROM ingestion.attempts a WHERE a.source = %s AND a.table_name = ANY(%s)",
            (self.source.name, tables),
        ).fetchall()
        for load_id, table, directory, kept in attempts:
            remove_files(self.lake_uri, directory, load_id, kept)
            self.control.execute(
                "DELETE FROM ingestion.attempts WHERE load_id = %s AND source = %s AND table_name "
                "= %s",
                (load_id, self.source.name, table),
            )


class _Spilled:
    """Rows of a transaction that may still be rolled back, in a temporary file."""

    def __init__(self, changes: Changes) -> None:
        self._changes = changes
        # Not in the lake: Parquet files are not to be changed, and these rows may turn out to be
        # void.
        self._file: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115
        rows = pa.Table.from_batches([changes.rows]).append_column("_operation", changes.operations)
        with pa.ipc.new_stream(self._file, rows.schema) as stream:
            stream.write_table(rows, max_chunksize=_SPILLED_ROWS)
        self._changes = replace(
            changes,
            rows=changes.rows.slice(0, 0),
            operations=changes.operations.slice(0, 0),
            before=None,
        )

    def read(self, position: Position, committed_at: int | None) -> Iterator[Changes]:
        """Yield the rows as changes that are committed at a position."""
        self._file.seek(0)
        with self._file, pa.ipc.open_stream(self._file) as stream:
            for batch in stream:
                *values, operations = batch.columns
                rows = pa.RecordBatch.from_arrays(values, names=batch.schema.names[:-1])
                runs = [Run(len(rows), position, committed_at)]
                yield replace(
                    self._changes, rows=rows, operations=operations, rejected=[], runs=runs
                )
