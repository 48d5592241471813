"""Merges versions of rows that a stream of changes tells, with their operations and times.

What any such stream has in common belongs here. How it is read belongs to its connector.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Protocol

import pyarrow as pa

from softcart_assets.ingestion.engine.table import TableLoad
from softcart_assets.ingestion.sinks.raw import Counts
from softcart_assets.ingestion.sinks.sql import quote
from softcart_assets.ingestion.types import Column


class Version(Protocol):
    """A version of a row."""

    @property
    def operation(self) -> str:
        """`insert`, `update` or `delete`."""

    @property
    def committed_at(self) -> datetime | None:
        """When it came to be. None: nobody has told."""


class VersionedLoad(TableLoad):
    """A load that merges at most one version of each row at a time.

    The temporary table `touched` has the keys of these rows, with the columns of raw's key and
    `_committed_at`.
    """

    _taking: Mapping[Any, Version] | None = None
    """The versions that are being merged, by their keys as text. None: there are none."""

    def value_when_gone(self, column: Column) -> str:
        """Return SQL for the value that a deleted row has in a column. It was `r`, and is `t`."""
        return f"r.{quote(column.name)}"

    def find_gone(self, columns: Sequence[Column]) -> Counts:
        """Fill `changes` with the touched rows that neither came nor were rejected, as deleted."""
        names = ", ".join(quote(column.name) for column in columns)
        values = ", ".join(map(self.value_when_gone, columns))
        self.execute("TRUNCATE pg_temp.changes")
        # NOT IN, whose list is hashed, whatever PostgreSQL guesses of the number of rows.
        came = f"(SELECT {self.keys('i.')} FROM pg_temp.incoming i)"
        done = self.raw.connection.execute(
            "WITH t AS MATERIALIZED (SELECT * FROM pg_temp.touched"
            f" WHERE ({self.keys()}) NOT IN {came})"
            f" INSERT INTO pg_temp.changes ({names}, _deleted, _is_new)"
            f" SELECT {values}, true, false FROM t JOIN {self.raw.name} r ON "
            f"{self.raw.same_key('t', 'r')}"
            " WHERE NOT r._deleted AND NOT EXISTS (SELECT FROM pg_temp.held h "
            f"WHERE h._held_seen AND {self.raw.same_key('h', 'r')})".encode()
        )
        return Counts(deleted=done.rowcount)

    def close_gone(self) -> None:
        """Close the quarantine entries of touched rows that no longer exist."""
        rows = self.raw.connection.execute(
            "DELETE FROM pg_temp.held h USING pg_temp.touched t WHERE NOT h._held_seen"
            f" AND {self.raw.same_key('h', 't')} RETURNING h._held_entry".encode()
        ).fetchall()
        self._close([entry for (entry,) in rows], "deleted")

    def forget_rejected_of_touched(self, columns: Sequence[Column]) -> None:
        """Treat the touched rows as not rejected by this load, because they come anew."""
        same = " AND ".join(
            f"t.{quote(name)}::text = key[{number}]" for number, name in enumerate(self.raw.key, 1)
        )
        exists = f"EXISTS (SELECT FROM pg_temp.touched t WHERE {same.replace('%', '%%')})"
        self.forget_rejected(columns, exists)

    def forget_rejected(self, columns: Sequence[Column], condition: str) -> None:
        """Treat some rows as not rejected by this load, because they come anew.

        `condition`: SQL on their quarantine entries.
        """
        done = self.raw.connection.execute(
            "UPDATE ingestion.quarantine SET load_id = '' WHERE source = %s AND table_name = %s "
            f"AND load_id = %s AND closed_at IS NULL AND {condition}".encode(),
            (self.source.name, self.table.name, self.load_id),
        )
        if done.rowcount:
            self._hold(columns)

    def merge(self, columns: Sequence[Column], found: Counts) -> None:
        """Merge as for every table, with operation and time where versions tell them."""
        if self._taking is None or not found:
            super().merge(columns, found)
            return
        self.note_merge(columns, found)
        time = (
            "(SELECT t._committed_at FROM pg_temp.touched t WHERE "
            f"{self.raw.same_key('t', 'changes')} LIMIT 1)"
        )
        self.raw.apply_changes(columns, self.position, committed_at=time)
        files = self._lake_files()
        for rows, deleted in self.raw.changed_rows(columns):
            keys = zip(*(rows.column(name).to_pylist() for name in self.raw.key), strict=True)
            versions = [self._taking.get(tuple(map(_text, key))) for key in keys]
            operations = [
                "delete" if is_deleted else version.operation if version else None
                for version, is_deleted in zip(versions, deleted.to_pylist(), strict=True)
            ]
            times = [version.committed_at if version else None for version in versions]
            own = {
                "_operation": pa.array(operations, pa.string()),
                "_committed_at": pa.array(times, pa.timestamp("us", tz="UTC")),
            }
            files.write(columns, rows, deleted=deleted, own=own)

    def keys(self, of: str = "") -> str:
        """Return the columns of raw's key, as SQL."""
        return ", ".join(f"{of}{quote(name)}" for name in self.raw.key)

    def execute(self, statement: str) -> None:
        """Run SQL in the load's transaction."""
        self.raw.connection.execute(statement.encode())


def _text(value: str | bytes) -> str:
    return "\\x" + value.hex() if isinstance(value, bytes) else value
