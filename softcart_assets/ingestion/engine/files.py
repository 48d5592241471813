"""The lake files that one load writes, and their removal if the load is killed."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime

import psycopg

from softcart_assets.ingestion.request import Call
from softcart_assets.ingestion.sinks.lake import ChangeFiles, LakeFile, next_version, remove_files
from softcart_assets.lines.model import Table


class LoadFiles:
    """The change files of one table's load.

    Files cannot be part of the load's transaction. So the load records an attempt before it writes
    the first file. The transaction that lists the files deletes this record. If a later load finds
    an attempt, its files do not count, and the load removes them.
    """

    def __init__(self, call: Call, table: Table) -> None:
        self.call = call
        self.key = (call.request.source.name, table.name)
        self.parts: list[LakeFile] = []
        """Files that were written range by range."""
        self._changes: ChangeFiles | None = None
        self._version = 0

    @property
    def is_begun(self) -> bool:
        """Whether the attempt is on record."""
        return self._changes is not None

    def begin(self, loaded_at: datetime, position: str) -> None:
        """Record the attempt, and draw the number that the rows of all its files have."""
        self._version = next_version(self.call.control)
        self._changes = self.part(loaded_at, position)
        # Over `control`, which commits at once. In the load's transaction, a kill would undo the
        # record and leave the file.
        self.call.control.execute(
            "INSERT INTO ingestion.attempts (load_id, source, table_name, directory)"
            " VALUES (%s, %s, %s, %s)",
            (self.call.load_id, *self.key, self._changes.directory),
        )

    def changes(self, loaded_at: datetime, position: str) -> ChangeFiles:
        """Return the writer of the load's files. The attempt is recorded before."""
        if self._changes is None:
            self.begin(loaded_at, position)
        assert self._changes
        return self._changes

    def part(self, loaded_at: datetime, position: str, first_file: int = 0) -> ChangeFiles:
        """Return a separate writer, whose files are numbered from `first_file` on."""
        uri, load_id = self.call.request.lake_uri, self.call.load_id
        return ChangeFiles(uri, *self.key, load_id, loaded_at, position, self._version, first_file)

    def close(self) -> list[LakeFile]:
        """Finish the files and return all that the load wrote."""
        return [*self.parts, *(self._changes.close() if self._changes else [])]

    def discard(self, kept: Collection[str] = ()) -> None:
        """Remove the written files, except those with the paths `kept`, and delete the attempt's
        record.
        """
        if self._changes:
            self._changes.discard(set(kept))
            self.forget(self.call.control)
            self._changes = None

    def forget(self, connection: psycopg.Connection, load_id: str | None = None) -> None:
        """Delete the record of an attempt: this load's, or another's."""
        connection.execute(
            "DELETE FROM ingestion.attempts WHERE load_id = %s AND source = %s AND table_name = %s",
            (load_id or self.call.load_id, *self.key),
        )

    def remove_orphans(self, kept: Collection[str]) -> None:
        """Remove the files of killed loads, except those with paths in `kept`.

        No other load is running, because the caller holds the table.
        """
        control = self.call.control
        attempts = control.execute(
            "SELECT load_id, directory FROM ingestion.attempts WHERE source = %s AND table_name = "
            "%s",
            self.key,
        ).fetchall()
        for load_id, directory in attempts:
            remove_files(self.call.request.lake_uri, directory, load_id, set(kept))
            self.forget(control, load_id)
