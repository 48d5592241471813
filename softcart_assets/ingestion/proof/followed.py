"""The sink that keeps the statements of captured tables: it adds what the log tells.

A row that comes is added, and one that goes is taken away. An update does both. All values are
those of the log, before and after the change, so the statement does not depend on raw. A row that
cannot be carried is in neither, as it is in quarantine.

Without this, the source would have to scan a table of millions for each changed row.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import psycopg
import pyarrow.compute as pc

from softcart_assets.ingestion.captured import Captured, CapturedTable
from softcart_assets.ingestion.changes import DELETE, Changes
from softcart_assets.ingestion.position import Place, Position
from softcart_assets.ingestion.proof import statements
from softcart_assets.ingestion.proof.digest import added
from softcart_assets.ingestion.proof.statements import Statement
from softcart_assets.ingestion.proof.tally import Accumulator
from softcart_assets.ingestion.types import Column


class _Difference:
    """What changes of one table add to its statement, in the columns that all of them had."""

    def __init__(self, table: CapturedTable) -> None:
        self.sums = Accumulator(table.table.key)
        self.columns: dict[str, Column] | None = None

    def take(self, changes: Changes) -> None:
        """Add changes that the log told."""
        assert changes.before is not None
        names = set(changes.before.schema.names)
        # Raw keeps a column that was dropped at the source, and its old values. The log says
        # nothing of these.
        columns = [column for column in changes.columns if column.name in names]
        self._narrow({column.name: column for column in columns})
        here = changes.rows.filter(pc.not_equal(changes.operations, DELETE))
        self.sums.add(columns, here)
        self.sums.add(columns, changes.before, -1)

    def include(self, other: _Difference) -> None:
        """Add another difference of the table."""
        self.sums.include(other.sums)
        self._narrow(other.columns or {})

    def _narrow(self, columns: Mapping[str, Column]) -> None:
        known = columns if self.columns is None else self.columns
        self.columns = {name: c for name, c in known.items() if columns.get(name) == c}

    def added_to(self, statement: Statement) -> Statement:
        """Return the statement behind the changes."""
        if statement.rows is None or statement.columns is None:
            return statement
        columns = {
            name: (type_, added(sums, self.sums.of(name)))
            for name, (type_, sums) in statement.columns.items()
            if (column := (self.columns or {}).get(name)) and statement.states(column)
        }
        return replace(statement, rows=statement.rows + self.sums.rows, columns=columns)


class StatementSink:
    """Keeps the statements of a source's captured tables."""

    def __init__(self, connection: psycopg.Connection, captured: Captured) -> None:
        self.connection, self.captured = connection, captured
        self._committed: dict[str, _Difference] = {}
        # Of the last transaction, as long as it may be rolled back.
        self._open: dict[str, _Difference] = {}

    def begin(self, table: CapturedTable) -> None:
        """Do nothing: what is stated is read when it changes."""

    def since(self, table: CapturedTable) -> Position:
        """Return the position up to which changes are in the statement. It is that of raw."""
        return table.position

    def take(self, changes: Changes) -> None:
        """Add up changes. Those that the log did not tell are of raw alone."""
        if changes.before is None:
            return
        table = self.captured.tables[changes.table]
        if len(changes.columns) > len(table.columns):
            statements.lose(
                self.connection,
                self.captured.source.name,
                table.name,
                "rows with values in new columns go to quarantine, as the table's contract says",
            )
            return
        if changes.is_open:
            self._add(self._open, table, changes.uncommitted())
            changes = changes.committed()
        self._add(self._committed, table, changes)

    def _add(self, into: dict[str, _Difference], table: CapturedTable, changes: Changes) -> None:
        if len(changes):
            into.setdefault(table.name, _Difference(table)).take(changes)

    def void(self) -> None:
        """Forget what was taken of the open transaction."""
        self._open.clear()

    def flush(self, place: Place, committed_at: int | None) -> None:
        """Write the statements of the tables that changed."""
        for name, difference in self._open.items():
            if name in self._committed:
                self._committed[name].include(difference)
            else:
                self._committed[name] = difference
        self._open.clear()
        if not self._committed:
            return
        source = self.captured.source.name
        known = statements.read_some(
            self.connection, source, sorted(self._committed), to_change=True
        )
        moved = {
            name: self._committed[name].added_to(statement)
            for name, statement in known.items()
            if statement.rows is not None
        }
        statements.write(self.connection, source, moved)
        self._committed.clear()

    def restate(self, connection: psycopg.Connection, table: str) -> None:
        """Do nothing: the load itself writes what the source states."""

    def discard(self) -> None:
        """Do nothing: everything is in PostgreSQL, and its transaction is rolled back."""
